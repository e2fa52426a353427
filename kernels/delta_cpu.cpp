// The delta rule's error, state - sigma(a), stochastically rounded to a multiple of 1/127.
#include "kernels/cpu/instructions.hpp"
#include "kernels/cpu/logits.hpp"
#include "kernels/cpu/random_words.hpp"

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

void delta(const LogitRow& row, const std::uint8_t* target, std::int64_t units, const RowAddress& address,
           std::int8_t* deltas) {
  WordBuffer random;
  alignas(64) std::uint32_t halves[words_at_a_time];
  alignas(64) std::uint32_t states[stretch_units];
  alignas(64) float logits[stretch_units];
  alignas(64) std::int32_t rounded[stretch_units];
  for (std::int64_t first = 0; first < units; first += stretch_units) {
    const std::int64_t count = units - first < stretch_units ? units - first : stretch_units;
    random_words(address, first / 8, whole_vectors(count) / 8, random);
    compute_logits(row, first, count, logits);
    // Two units share a word, the even one its low half.
    for (std::int64_t pair = 0; pair < whole_vectors(count) / 2; ++pair) {
      halves[2 * pair] = random.words[pair] & 0xFFFFu;
      halves[2 * pair + 1] = random.words[pair] >> 16;
    }
    for (std::int64_t i = 0; i < count; ++i) states[i] = target[first + i];
    for (std::int64_t i = count; i < whole_vectors(count); ++i) {
      logits[i] = 0.0f;
      states[i] = 0;
    }
    for (std::int64_t i = 0; i < whole_vectors(count); ++i) {
      rounded[i] = round_delta(state_minus_probability(states[i], logits[i]), halves[i]);
    }
    for (std::int64_t i = 0; i < count; ++i) deltas[first + i] = static_cast<std::int8_t>(rounded[i]);
  }
}

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
