// s ~ Bernoulli(sigma(a)) with its log-probability and error, sigma(a), and a itself.
#include "kernels/cpu/bernoulli.hpp"
#include "kernels/cpu/instructions.hpp"
#include "kernels/cpu/random_words.hpp"

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

std::int64_t sample(const LogitRow& row, std::int64_t units, const RowAddress* addresses,
                    std::uint8_t* states, std::int64_t stride, std::int64_t rows,
                    const StateResults& results) {
  static_assert(stretch_units == words_at_a_time);
  WordBuffer random;
  Bernoulli bernoulli;
  alignas(64) std::uint32_t on[stretch_units];
  std::int64_t total = 0;
  for (std::int64_t first = 0; first < units; first += stretch_units) {
    bernoulli.read(row, first, units, results.scored);
    for (std::int64_t r = 0; r < rows; ++r) {
      random_words(addresses[r], first / 4, bernoulli.vectors / 4, random);
      for (std::int64_t i = 0; i < bernoulli.vectors; ++i) {
        on[i] = sample_state(bernoulli.logits[i], bernoulli.minor[i], random.words[i]);
      }
      std::uint8_t* drawn = states + r * stride + first;
      for (std::int64_t i = 0; i < bernoulli.count; ++i) drawn[i] = static_cast<std::uint8_t>(on[i]);
      total += bernoulli.report(on, r, results);
    }
  }
  return total;
}

void probabilities(const LogitRow& row, std::int64_t units, float* probabilities) {
  alignas(64) float logits[stretch_units];
  for (std::int64_t first = 0; first < units; first += stretch_units) {
    const std::int64_t count = units - first < stretch_units ? units - first : stretch_units;
    compute_logits(row, first, count, logits);
    for (std::int64_t i = 0; i < count; ++i) probabilities[first + i] = sigmoid(logits[i]);
  }
}

void logits(const LogitRow& row, std::int64_t units, float* values) {
  for (std::int64_t first = 0; first < units; first += stretch_units) {
    compute_logits(row, first, units - first < stretch_units ? units - first : stretch_units, values + first);
  }
}

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
