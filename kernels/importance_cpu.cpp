// Importance weights of an image's samples, reduced to integers.
#include "kernels/importance_cpu.hpp"

namespace wakesleep::cpu {

ImportanceSummary summarize(const std::int64_t* log_weights, std::int64_t samples) {
  ImportanceSummary summary;
  if (samples == 0) return summary;
  summary.maximum = log_weights[0];
  for (std::int64_t k = 1; k < samples; ++k) {
    if (log_weights[k] > summary.maximum) summary.maximum = log_weights[k];
  }
  for (std::int64_t k = 0; k < samples; ++k) {
    const std::int64_t weight = relative_weight(log_weights[k], summary.maximum);
    summary.sum += weight;
    summary.sum_of_squares += (weight >> 10) * (weight >> 10);
    summary.total_high += log_weights[k] >> log_fraction_bits;
    summary.total_low += log_weights[k] & ((std::int64_t{1} << log_fraction_bits) - 1);
  }
  return summary;
}

}  // namespace wakesleep::cpu
