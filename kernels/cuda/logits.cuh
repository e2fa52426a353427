// Where the kernels find the pre-activations of a conditional, and what follows from them.
#pragma once

#include <cstdint>

#include "kernels/cuda/several.cuh"
#include "wakesleep/arithmetic.hpp"
#include "wakesleep/matrix.hpp"

namespace wakesleep::cuda {

/// Integer sums as the products leave them, and what turns them into pre-activations. A prior has biases
/// only.
struct Logits {
  const std::int32_t* sums = nullptr;  ///< [input rows x stride]; null for a prior
  std::int64_t stride = 0;
  std::int64_t low_limb_offset =
      0;  ///< columns from a unit's sum of high limbs to that of low limbs; 0: one limb
  const float* scales = nullptr;  ///< scale_of_sum of each unit
  const float* bias = nullptr;
  Matrix<const float> kept;  ///< pre-activations that were kept, which then stand for all of the above
  float deviation = 0;       ///< of Gaussian units, whose means the pre-activations are; 0: Bernoulli units
  GaussianDensity density;   ///< gaussian_density(deviation)
};

/// Of a unit with pre-activation `a`: the state that a word draws, and error and log-probability of a state.
__device__ inline std::uint32_t drawn_state(const Logits& logits, float a, std::uint32_t random_word) {
  return logits.deviation > 0.0f ? sample_gaussian(a, logits.deviation, random_word)
                                 : sample_state(a, random_word);
}
__device__ inline float error_of_state(const Logits& logits, std::uint32_t state, float a) {
  return logits.deviation > 0.0f ? value_minus_mean(state, a) : state_minus_probability(state, a);
}
__device__ inline std::int32_t log_probability_of_state(const Logits& logits, std::uint32_t state, float a) {
  return logits.deviation > 0.0f ? log_gaussian(state, a, logits.density) : log_bernoulli(state, a);
}

/// The pre-activations of `count` neighbouring units given one input row. `first` is a multiple of `count`,
/// and `count` one of 4; the sums of a row are padded to 16 units, so that they can be read four at a time.
template <int count>
struct LogitGroup {
  float unit[count];
};
template <int count>
__device__ LogitGroup<count> logit_group(const Logits& logits, std::int64_t row, std::int64_t first,
                                         std::int64_t units) {
  static_assert(count % 4 == 0);
  LogitGroup<count> group;
  if (logits.kept.data != nullptr) {
    const float* kept = logits.kept.data + row * logits.kept.stride + first;
#pragma unroll
    for (int i = 0; i < count; ++i) group.unit[i] = first + i < units ? kept[i] : 0.0f;
    return group;
  }
#pragma unroll
  for (int four = 0; four < count; four += 4) {
    Several<std::int32_t, 4> sum = {};
    if (logits.sums != nullptr) {
      const std::int32_t* sums = logits.sums + row * logits.stride + first + four;
      sum = load<4>(sums);
      if (logits.low_limb_offset != 0) {
        const Several<std::int32_t, 4> low = load<4>(sums + logits.low_limb_offset);
#pragma unroll
        for (int i = 0; i < 4; ++i) sum.element[i] = join_limbs(sum.element[i], low.element[i]);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::int64_t unit = first + four + i;
      const bool exists = unit < units;
      const float scale = exists && logits.sums != nullptr ? logits.scales[unit] : 1.0f;
      group.unit[four + i] = exists ? pre_activation(sum.element[i], scale, logits.bias[unit]) : 0.0f;
    }
  }
  return group;
}

}  // namespace wakesleep::cuda
