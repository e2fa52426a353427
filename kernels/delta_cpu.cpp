// The delta rule's error, state - sigma(a), stochastically rounded to a multiple of 1/127.
#include "kernels/cpu/instructions.hpp"
#include "kernels/cpu/logits.hpp"
#include "kernels/cpu/random_words.hpp"

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

void delta(const LogitRow& row, const std::uint8_t* target, std::int64_t units, const RowAddress& address,
           std::int8_t* deltas) {
  WordBuffer random;
  alignas(64) std::uint16_t halves[words_at_a_time];
  alignas(64) float logits[stretch_units];
  for (std::int64_t first = 0; first < units; first += stretch_units) {
    const std::int64_t count = units - first < stretch_units ? units - first : stretch_units;
    random_words(address, first / 8, (count + 7) / 8, random);
    compute_logits(row, first, count, logits);
    for (std::int64_t pair = 0; pair < (count + 1) / 2;
         ++pair) {  // two units share a word, the even one its low half
      halves[2 * pair] = static_cast<std::uint16_t>(random.words[pair]);
      halves[2 * pair + 1] = static_cast<std::uint16_t>(random.words[pair] >> 16);
    }
    for (std::int64_t i = 0; i < count; ++i) {
      const float error = state_minus_probability(target[first + i], logits[i]);
      deltas[first + i] = static_cast<std::int8_t>(round_delta(error, halves[i]));
    }
  }
}

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
