// s ~ Bernoulli(sigma(a)) or Normal(a, deviation^2) with its log-probability and error, sigma(a) or the mean,
// and a itself.
#include "kernels/cpu/distributions.hpp"
#include "kernels/cpu/instructions.hpp"
#include "kernels/cpu/random_words.hpp"

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

std::int64_t sample(const LogitRow& row, std::int64_t units, const RowAddress* addresses,
                    std::uint8_t* states, std::int64_t stride, std::int64_t rows,
                    const StateResults& results) {
  static_assert(stretch_units == words_at_a_time);
  return with_distribution(row, [&](auto& distribution) {
    WordBuffer random;
    alignas(64) std::uint32_t wide[stretch_units];
    std::int64_t total = 0;
    for (std::int64_t first = 0; first < units; first += stretch_units) {
      distribution.read(row, first, units, results.scored);
      for (std::int64_t r = 0; r < rows; ++r) {
        random_words(addresses[r], first / 4, distribution.vectors / 4, random);
        for (std::int64_t i = 0; i < distribution.vectors; ++i) {
          wide[i] = distribution.draw(i, random.words[i]);
        }
        narrow(wide, distribution.count, states + r * stride + first);
        total += report(distribution, wide, r, results);
      }
    }
    return total;
  });
}

void probabilities(const LogitRow& row, std::int64_t units, float* probabilities) {
  alignas(64) float logits[stretch_units];
  for (std::int64_t first = 0; first < units; first += stretch_units) {
    const std::int64_t count = units - first < stretch_units ? units - first : stretch_units;
    compute_logits(row, first, count, 0.0f, logits);
    if (row.deviation > 0.0f) {
      for (std::int64_t i = 0; i < count; ++i) probabilities[first + i] = mean_in_range(logits[i]);
    } else {
      for (std::int64_t i = 0; i < count; ++i) probabilities[first + i] = sigmoid(logits[i]);
    }
  }
}

void logits(const LogitRow& row, std::int64_t units, float* values) {
  alignas(64) float of_stretch[stretch_units];
  for (std::int64_t first = 0; first < units; first += stretch_units) {
    const std::int64_t count = units - first < stretch_units ? units - first : stretch_units;
    compute_logits(row, first, count, 0.0f, of_stretch);
    for (std::int64_t i = 0; i < count; ++i) values[first + i] = of_stretch[i];
  }
}

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
