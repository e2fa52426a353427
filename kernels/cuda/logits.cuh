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

/// Of a unit with pre-activation `a`: error and log-probability of a state.
__device__ inline float error_of_state(const Logits& logits, std::uint32_t state, float a) {
  return logits.deviation > 0.0f ? value_minus_mean(state, a) : state_minus_probability(state, a);
}
__device__ inline std::int32_t log_probability_of_state(const Logits& logits, std::uint32_t state, float a) {
  return logits.deviation > 0.0f ? log_gaussian(state, a, logits.density) : log_bernoulli(state, a);
}

/// What the units of a group have in common in all rows.
template <int count>
struct UnitGroup {
  float scale[count];
  float bias[count];
};
template <int count>
__device__ UnitGroup<count> unit_group(const Logits& logits, std::int64_t first, std::int64_t units) {
  static_assert(count % 4 == 0);
  UnitGroup<count> group;
  const auto left = static_cast<std::int32_t>(units - first);
  const bool has_scales = logits.sums != nullptr;
#pragma unroll
  for (int i = 0; i < count; i += 4) {
    const Several<float, 4> bias = four_values(logits.bias + first + i, left - i);
    const Several<float, 4> scale =
        has_scales ? four_values(logits.scales + first + i, left - i) : Several<float, 4>{};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      group.scale[i + j] = scale.element[j];
      group.bias[i + j] = bias.element[j];
    }
  }
  return group;
}

/// Sums of `fours` times four units from `first` on in several rows, all of them asked for before the first
/// is used.
template <int rows, int fours>
__device__ void load_sums(const Logits& logits, const std::uint32_t (&row)[rows], std::int64_t first,
                          Several<std::int32_t, 4> (&sums)[rows][fours]) {
  const auto load_from = [&](const std::int32_t* limb, Several<std::int32_t, 4>(&limb_sums)[rows][fours]) {
#pragma unroll
    for (int i = 0; i < rows; ++i) {
#pragma unroll
      for (int four = 0; four < fours; ++four) {
        limb_sums[i][four] = load<4>(limb + row[i] * logits.stride + 4 * four);
      }
    }
  };
  if (logits.sums == nullptr) {
#pragma unroll
    for (int i = 0; i < rows; ++i) {
#pragma unroll
      for (int four = 0; four < fours; ++four) sums[i][four] = {};
    }
    return;
  }
  load_from(logits.sums + first, sums);
  if (logits.low_limb_offset == 0) return;
  Several<std::int32_t, 4> low[rows][fours];
  load_from(logits.sums + first + logits.low_limb_offset, low);
#pragma unroll
  for (int i = 0; i < rows; ++i) {
#pragma unroll
    for (int four = 0; four < fours; ++four) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        sums[i][four].element[j] = join_limbs(sums[i][four].element[j], low[i][four].element[j]);
      }
    }
  }
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
  const UnitGroup<count> units_of_group = unit_group<count>(logits, first, units);
  Several<std::int32_t, 4> sums[1][count / 4];
  load_sums(logits, {static_cast<std::uint32_t>(row)}, first, sums);  // rows are below 2^31
#pragma unroll
  for (int four = 0; four < count; four += 4) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      group.unit[four + i] = pre_activation(sums[0][four / 4].element[i], units_of_group.scale[four + i],
                                            units_of_group.bias[four + i]);
    }
  }
  return group;
}

}  // namespace wakesleep::cuda
