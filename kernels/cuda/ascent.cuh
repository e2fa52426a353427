// How neighbouring parameters move along their gradient.
#pragma once

#include <cstdint>

#include "kernels/cuda/divergence.cuh"
#include "kernels/cuda/integers.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/several.cuh"

namespace wakesleep::cuda {

/// Neighbouring parameters, and what the optimiser keeps of them (null: nothing).
struct Ascent {
  float* parameters;
  float* first;
  float* second;
};

/// A receiving unit's weights. All but the weights are dense.
__device__ inline Ascent weights_of(const ParameterUpdate& update, std::int64_t unit) {
  const std::int64_t dense = unit * update.weight.columns;
  const OptimizerState& state = update.state;
  return {update.weight.data + unit * update.weight.stride,
          state.weight_first != nullptr ? state.weight_first + dense : nullptr,
          state.weight_second != nullptr ? state.weight_second + dense : nullptr};
}

__device__ inline Ascent from(const Ascent& ascent, std::int64_t index) {
  return {ascent.parameters + index, ascent.first != nullptr ? ascent.first + index : nullptr,
          ascent.second != nullptr ? ascent.second + index : nullptr};
}

/// Moves `width` parameters along a gradient of integers, or of means in float32, and returns them. Raises
/// `largest` to the largest of their magnitude_bits.
template <int width, class Gradient>
__device__ Several<float, width> ascend(const Ascent& ascent, const Several<Gradient, width>& gradient,
                                        bool decayed, const Optimizer& optimizer, const Rates& rates,
                                        std::uint32_t& largest) {
  Several<float, width> parameter = load<width>(ascent.parameters);
  Several<float, width> first = {};
  Several<float, width> second = {};
  if (ascent.first != nullptr) first = load<width>(ascent.first);
  if (ascent.second != nullptr) second = load<width>(ascent.second);
#pragma unroll
  for (int j = 0; j < width; ++j) {
    parameter.element[j] = updated_parameter(parameter.element[j], gradient.element[j], decayed, optimizer,
                                             rates, first.element[j], second.element[j]);
    largest = Larger{}(largest, magnitude_bits(parameter.element[j]));
  }
  store(ascent.parameters, parameter);
  if (ascent.first != nullptr) store(ascent.first, first);
  if (ascent.second != nullptr) store(ascent.second, second);
  return parameter;
}

template <class Gradient>
__device__ void ascend_bias(const ParameterUpdate& update, const std::uint32_t* step, std::int64_t unit,
                            Gradient gradient, const Optimizer& optimizer, const Rates& rates) {
  const Ascent biases = {update.bias, update.state.bias_first, update.state.bias_second};
  std::uint32_t largest = 0;
  ascend<1>(from(biases, unit), Several<Gradient, 1>{{gradient}}, false, optimizer, rates, largest);
  if (!is_finite(update.bias[unit])) mark_diverged(update.diverged, step);
}

/// Whether the weights and what the optimiser keeps of them can be moved four at a time.
inline bool in_fours(const ParameterUpdate& update) {
  return update.weight.columns % 4 == 0 && update.weight.stride % 4 == 0 &&
         fours_aligned(update.weight.data) && fours_aligned(update.state.weight_first) &&
         fours_aligned(update.state.weight_second);
}

/// A conditional's weights where 32 bits are enough for places among them, and arithmetic in them is shorter.
__device__ inline float* weight_at(const ParameterUpdate& update, std::int32_t unit, std::int32_t sending) {
  return update.weight.data + (unit * static_cast<std::int32_t>(update.weight.stride) + sending);
}

/// Moves four of a unit's weights, from `first` on, whose values are `weights`, along their gradient by an
/// optimiser of this kind, and returns the new ones, with zeros in the place of those that do not exist.
/// Raises `largest` to the largest of their magnitude_bits.
template <OptimizerKind kind>
__device__ Several<float, 4> ascend_four(const ParameterUpdate& update, Optimizer optimizer,
                                         const Rates& rates, bool fours, std::int32_t unit,
                                         std::int32_t first, Several<float, 4> weights,
                                         const Several<std::int32_t, 4>& gradient, std::uint32_t& largest) {
  constexpr bool has_first = kind != OptimizerKind::sgd;
  constexpr bool has_second = kind == OptimizerKind::adam;
  optimizer.kind = kind;  // as the compiler is to know
  const auto sending = static_cast<std::int32_t>(update.weight.columns);
  const std::int32_t count = sending - first;
  const std::int32_t dense = unit * sending + first;
  Several<float, 4> first_moment = {};
  Several<float, 4> second_moment = {};
  if constexpr (has_first) first_moment = load_four(update.state.weight_first + dense, count, fours);
  if constexpr (has_second) second_moment = load_four(update.state.weight_second + dense, count, fours);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float moved = updated_parameter(weights.element[i], gradient.element[i], true, optimizer, rates,
                                          first_moment.element[i], second_moment.element[i]);
    weights.element[i] = i < count ? moved : 0.0f;
    largest = Larger{}(largest, magnitude_bits(weights.element[i]));
  }
  store_four(weight_at(update, unit, first), weights, count, fours);
  if constexpr (has_first) store_four(update.state.weight_first + dense, first_moment, count, fours);
  if constexpr (has_second) store_four(update.state.weight_second + dense, second_moment, count, fours);
  return weights;
}

}  // namespace wakesleep::cuda
