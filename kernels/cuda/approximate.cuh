// Decisions of the exact arithmetic (wakesleep/arithmetic.hpp) that an approximation within a known distance
// of it is enough for. What it leaves open, a few units in a million, is computed exactly, so that no bit
// depends on it.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/rarely.hpp"
#include "wakesleep/arithmetic.hpp"
#include "wakesleep/philox.hpp"

namespace wakesleep::cuda {

/// The hardware's 2^x and 1 / x, at most 2 and 1 units in the last place from the correctly rounded ones (PTX,
/// ex2.approx and rcp.approx).
__device__ inline float approximate_power_of_two(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return __builtin_exp2f(x);
#endif
}
__device__ inline float approximate_inverse(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return 1.0f / x;
#endif
}

/// sigma(a) within sigmoid_error of the exact arithmetic's (docs/numerics.md adds the errors up); NaN of NaN.
inline constexpr float sigmoid_error = 0x1p-21f;
__device__ inline float approximate_sigmoid(float a) {
  return approximate_inverse(1.0f + approximate_power_of_two(-1.44269504f * a));
}

/// What is known of a decision.
template <class Value>
struct Approximate {
  Value value;
  bool sure;
};

/// sample_state(a, random_word): sure where the word, of which 23 bits are looked at, is not too close to the
/// threshold.
__device__ inline Approximate<std::uint32_t> approximate_state(float a, std::uint32_t random_word) {
  constexpr float margin = 2.0f * sigmoid_error;
  const float u = float_from_bits(0x3F800000u + (random_word >> 9)) - 1.0f;
  const float above = u - approximate_sigmoid(a);
  return {float_bits(above) >> 31, absolute(above) > margin};
}

/// round_delta(weight * state_minus_probability(state, a), random_16_bits) as a byte, for |weight| <= 1.
__device__ inline Approximate<std::uint32_t> approximate_delta(std::uint32_t state, float a, float weight,
                                                               std::uint32_t random_16_bits) {
  // 127 times the error of the sigmoid, and less than 2^-15 for three roundings here and two there
  // (docs/numerics.md).
  constexpr float margin = 128.0f * sigmoid_error + 0x1p-15f;
  const float error = (state != 0u ? 1.0f : 0.0f) - approximate_sigmoid(a);
  const float u = float_from_bits(0x3F800000u + (random_16_bits << 7)) - 1.0f;
  const float sum = fma(127.0f * weight, error, u);
  // Rounded down, the floor stands in the low bits.
  constexpr float no_fraction = 12582912.0f;
  const float shifted = __fadd_rd(sum, no_fraction);
  const float fraction = sum - (shifted - no_fraction);
  return {float_bits(shifted) & 0xFFu, absolute(fraction - 0.5f) < 0.5f - margin};
}

WAKESLEEP_RARELY std::uint32_t exact_state(float a, std::uint32_t random_word) {
  return sample_state(a, random_word);
}
WAKESLEEP_RARELY std::uint32_t exact_delta(std::uint32_t state, float a, float weight,
                                           std::uint32_t random_16_bits) {
  return static_cast<std::uint8_t>(round_delta(weight * state_minus_probability(state, a), random_16_bits));
}

/// Four units that share a block of random words: their states, a byte each.
__device__ inline std::uint32_t states_of(const float (&a)[4], const PhiloxBlock& random) {
  std::uint32_t states = 0;
  bool sure = true;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const Approximate<std::uint32_t> state = approximate_state(a[i], random.word[i]);
    states |= state.value << (8 * i);
    sure = sure && state.sure;
  }
  if (sure) return states;
  states = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) states |= exact_state(a[i], random.word[i]) << (8 * i);
  return states;
}

/// The deltas of four units with these states, a byte each; the halves of two words, the low ones first, are
/// their random bits.
__device__ inline std::uint32_t deltas_of(const float (&a)[4], std::uint32_t states, float weight,
                                          std::uint32_t first_word, std::uint32_t second_word) {
  const std::uint32_t random[4] = {first_word & 0xFFFFu, first_word >> 16, second_word & 0xFFFFu,
                                   second_word >> 16};
  std::uint32_t rounded = 0;
  bool sure = true;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const Approximate<std::uint32_t> delta =
        approximate_delta((states >> (8 * i)) & 0xFFu, a[i], weight, random[i]);
    rounded |= delta.value << (8 * i);
    sure = sure && delta.sure;
  }
  if (sure) return rounded;
  rounded = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    rounded |= exact_delta((states >> (8 * i)) & 0xFFu, a[i], weight, random[i]) << (8 * i);
  }
  return rounded;
}

/// Of four bytes, those of units that exist, of which there may be fewer than four; zeros in their place.
__device__ inline std::uint32_t existing(std::uint32_t bytes, std::int64_t units) {
  return units >= 4 ? bytes : units <= 0 ? 0u : bytes & ((1u << (8 * units)) - 1u);
}

}  // namespace wakesleep::cuda
