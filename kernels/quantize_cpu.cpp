// Master weights of one receiving unit as the integers that the products see.
#include "kernels/cpu/instructions.hpp"

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

float largest_magnitude(const float* weights, std::int64_t count) {
  // Magnitudes compare as their bits do; a NaN's bits lie above infinity's.
  std::uint32_t largest = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t bits = float_bits(weights[i]) & 0x7FFFFFFFu;
    largest = bits > largest ? bits : largest;
  }
  return largest >= 0x7F800000u ? infinity : float_from_bits(largest);
}

void quantize_limbs(const float* weights, std::int64_t count, float two_to_shift, std::int8_t* high,
                    std::int8_t* low) {
  if (high == nullptr) {
    for (std::int64_t i = 0; i < count; ++i) {
      low[i] = static_cast<std::int8_t>(integer_weight(weights[i], two_to_shift));
    }
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int32_t q = integer_weight(weights[i], two_to_shift);
    high[i] = static_cast<std::int8_t>(high_limb(q));
    low[i] = static_cast<std::int8_t>(low_limb(q));
  }
}

void quantize_words(const float* weights, std::int64_t count, float two_to_shift, std::int16_t* words) {
  for (std::int64_t i = 0; i < count; ++i) {
    words[i] = static_cast<std::int16_t>(integer_weight(weights[i], two_to_shift));
  }
}

void quantize_floats(const float* weights, std::int64_t count, float two_to_shift, float* high, float* low) {
  if (high == nullptr) {
    for (std::int64_t i = 0; i < count; ++i)
      low[i] = static_cast<float>(integer_weight(weights[i], two_to_shift));
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int32_t q = integer_weight(weights[i], two_to_shift);
    high[i] = static_cast<float>(high_limb(q));
    low[i] = static_cast<float>(low_limb(q));
  }
}

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
