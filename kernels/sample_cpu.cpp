// s ~ Bernoulli(sigma(a)), sigma(a), and a itself.
#include "kernels/cpu/instructions.hpp"
#include "kernels/cpu/logits.hpp"
#include "kernels/cpu/random_words.hpp"

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

void sample(const LogitRow& row, std::int64_t units, const RowAddress& address, std::uint8_t* states) {
  static_assert(stretch_units == words_at_a_time);
  WordBuffer random;
  alignas(64) float logits[stretch_units];
  alignas(64) std::uint32_t on[stretch_units];
  for (std::int64_t first = 0; first < units; first += stretch_units) {
    const std::int64_t count = units - first < stretch_units ? units - first : stretch_units;
    random_words(address, first / 4, whole_vectors(count) / 4, random);
    compute_logits(row, first, count, logits);
    for (std::int64_t i = count; i < whole_vectors(count); ++i) logits[i] = 0.0f;
    for (std::int64_t i = 0; i < whole_vectors(count); ++i) on[i] = sample_state(logits[i], random.words[i]);
    for (std::int64_t i = 0; i < count; ++i) states[first + i] = static_cast<std::uint8_t>(on[i]);
  }
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
