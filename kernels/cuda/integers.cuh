// How one block turns a receiving unit's weights into integers.
#pragma once

#include <cstdint>

#include "kernels/cuda/divergence.cuh"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/limbs.hpp"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/several.cuh"

namespace wakesleep::cuda {

/// Where the integers of a conditional go, and who is told when they do not fit.
template <class Element>
struct Integers {
  int bits = 16;
  Element* high = nullptr;
  Element* low = nullptr;  ///< null: one limb
  std::int64_t stride = 0;
  float* scales = nullptr;
  std::uint32_t* diverged = nullptr;
  const std::uint32_t* step = nullptr;
  std::int32_t largest_input = 1;
};

template <class Element>
Integers<Element> integers_in(const Limbs& limbs, int bits, float* scales, std::uint32_t* diverged,
                              const std::uint32_t* step) {
  Element* high = static_cast<Element*>(limbs.data);
  Element* low = limbs.count == 2 ? high + limbs.rows * limbs.stride : nullptr;
  return {bits, high, low, limbs.stride, scales, diverged, step, limbs.largest_input};
}

/// |x| as bits: those of floats without a sign order as integers, and those of infinities and NaNs lie above
/// all others.
__device__ inline std::uint32_t magnitude_bits(float x) { return float_bits(x) & 0x7FFFFFFFu; }

/// Writes the integers of `width` neighbouring weights of a unit, the first of which is number `first`.
template <int width, class Element>
__device__ void store_integers(const Integers<Element>& integers, std::int64_t unit, std::int64_t first,
                               const Several<float, width>& weight, float two_to_shift) {
  const bool two_limbs = integers.low != nullptr;
  Several<Element, width> high;
  Several<Element, width> low;
#pragma unroll
  for (int j = 0; j < width; ++j) {
    const std::int32_t q = integer_weight(weight.element[j], two_to_shift);
    high.element[j] = as_element<Element>(two_limbs ? high_limb(q) : q);
    low.element[j] = as_element<Element>(two_limbs ? low_limb(q) : 0);
  }
  store(integers.high + unit * integers.stride + first, high);
  if (two_limbs) store(integers.low + unit * integers.stride + first, low);
}

/// 2^shift of a unit's integers.
struct IntegerScale {
  bool fits = false;
  float two_to_shift = 0.0f;
};

/// That of a unit with this largest magnitude_bits, which the one caller that `speaks` writes to
/// integers.scales. A unit that has diverged, whose weights do not fit, keeps its last integers: its run is
/// about to stop.
template <class Element>
__device__ IntegerScale scale_of_unit(const Integers<Element>& integers, std::int64_t unit,
                                      std::uint32_t largest, bool speaks) {
  const std::int32_t shift = weight_shift(float_from_bits(largest), integers.bits);
  if (shift == shift_overflow) {
    if (speaks) mark_diverged(integers.diverged, integers.step);
    return {};
  }
  if (speaks) integers.scales[unit] = scale_of_sum(shift, integers.largest_input);
  return {true, power_of_two(shift)};
}

/// The same, given the calling thread's part of the largest. All threads of the block must call it.
template <class Element>
__device__ IntegerScale scale_of_integers(const Integers<Element>& integers, std::int64_t unit,
                                          std::uint32_t largest) {
  return scale_of_unit(integers, unit, block_reduce(largest, Larger{}), threadIdx.x == 0);
}

/// Writes the integers of one unit's weights, `width` at a time. All threads of the block must call it, as
/// scale_of_integers; each reads the weights that it would read in a loop from width * threadIdx.x on.
template <int width, class Element>
__device__ void write_integers(const Integers<Element>& integers, std::int64_t unit, const float* weights,
                               std::int64_t count, std::uint32_t largest) {
  const IntegerScale scale = scale_of_integers(integers, unit, largest);
  if (!scale.fits) return;
  for (std::int64_t i = width * threadIdx.x; i < count; i += width * block_threads) {
    store_integers<width>(integers, unit, i, load<width>(weights + i), scale.two_to_shift);
  }
}

}  // namespace wakesleep::cuda
