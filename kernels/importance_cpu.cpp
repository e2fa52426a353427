// Importance weights of an image's samples, reduced to integers.
#include "kernels/importance_cpu.hpp"

#include <algorithm>

namespace wakesleep::cpu {

ImportanceSummary summarize(const std::int64_t* log_weights, std::int64_t samples) {
  ImportanceSummary summary;
  if (samples == 0) return summary;
  summary.maximum = *std::max_element(log_weights, log_weights + samples);
  for (std::int64_t k = 0; k < samples; ++k) {
    const std::int64_t weight = relative_weight(log_weights[k], summary.maximum);
    summary.sum += weight;
    summary.sum_of_squares += (weight >> 10) * (weight >> 10);
    summary.total_high += log_weights[k] >> log_fraction_bits;
    summary.total_low += log_weights[k] & ((std::int64_t{1} << log_fraction_bits) - 1);
  }
  return summary;
}

std::int64_t run_chain(const std::int64_t* log_weights, std::int64_t samples, std::uint64_t seed,
                       PhiloxBlock counter, std::int32_t* visits, std::uint32_t& last) {
  std::int64_t accepted = 0;
  std::int64_t current = 0;
  PhiloxBlock random = philox4x32_10(counter, seed);
  std::fill(visits, visits + samples, 0);
  visits[0] = 1;
  for (std::int64_t k = 1; k < samples; ++k) {
    if (k % 4 == 0) {
      counter.word[0] = static_cast<std::uint32_t>(k / 4);
      random = philox4x32_10(counter, seed);
    }
    if (accepts(log_weights[k], log_weights[current], random.word[k % 4])) {
      current = k;
      ++accepted;
    }
    ++visits[current];
  }
  last = static_cast<std::uint32_t>(current);
  return accepted;
}

std::int64_t weigh(const std::int64_t* log_weights, std::int64_t samples, int fraction_bits,
                   std::int32_t* relative) {
  const std::int64_t maximum = *std::max_element(log_weights, log_weights + samples);
  std::int64_t total = 0;
  for (std::int64_t k = 0; k < samples; ++k) {
    relative[k] = static_cast<std::int32_t>(relative_weight(log_weights[k], maximum, fraction_bits));
    total += relative[k];
  }
  return total;
}

}  // namespace wakesleep::cpu
