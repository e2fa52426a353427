// How integer weights lie in device memory.
#pragma once

#include <cstdint>

#include "kernels/cuda/interface.hpp"

namespace wakesleep::cuda {

/// Whole 16 elements keep every operand of a product aligned, whatever the element type.
constexpr std::int64_t padded_to_16(std::int64_t count) { return (count + 15) / 16 * 16; }

/// Elements of an operand: signed bytes on the int8 route, fp16 numbers on the fp16 route.
constexpr std::int64_t element_bytes(CudaRoute route) { return route == CudaRoute::int8 ? 1 : 2; }

/// The integer weights of one conditional as one operand of count * rows rows: first the high (or only) limbs
/// of all receiving units, then the low limbs, so that one product gives the sums of both. Padding is zero.
struct Limbs {
  CudaRoute route = CudaRoute::int8;
  int count = 1;            ///< 1, or 2 with q = 256 * high + low
  std::int64_t rows = 0;    ///< receiving units, padded to 16
  std::int64_t stride = 0;  ///< sending units, padded as states are
  void* data = nullptr;
  std::int32_t largest_input = 1;  ///< of the states that they are multiplied with
};

/// How many limbs carry weights of this many bits: signed bytes hold 8, fp16 numbers the integers up to 2^11.
constexpr int limbs_for(CudaRoute route, int bits) {
  const int bits_per_limb = route == CudaRoute::int8 ? 8 : 12;
  return bits <= bits_per_limb ? 1 : 2;
}

}  // namespace wakesleep::cuda
