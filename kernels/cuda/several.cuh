// Neighbouring elements that are moved together, in one access of up to 16 bytes.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/rarely.hpp"

namespace wakesleep::cuda {

template <class T, int count>
struct alignas(sizeof(T) * count) Several {
  static_assert(sizeof(T) * count <= 16);
  T element[count];
};

/// `first` is a multiple of the bytes that are moved.
template <int count, class T>
__device__ Several<T, count> load(const T* first) {
  return *reinterpret_cast<const Several<T, count>*>(first);
}
template <int count, class T>
__device__ void store(T* first, const Several<T, count>& several) {
  *reinterpret_cast<Several<T, count>*>(first) = several;
}

/// Whether four elements of 4 bytes can be moved together from any multiple of 4 on. Null is no obstacle.
__host__ __device__ inline bool fours_aligned(const void* elements) {
  return reinterpret_cast<std::uintptr_t>(elements) % 16 == 0;
}

/// Four neighbouring values of which `count` exist, which may be none, and zeros behind them.
__device__ inline Several<float, 4> four_values(const float* values, std::int32_t count) {
  if (count >= 4 && fours_aligned(values)) return load<4>(values);
  Several<float, 4> some = {};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (i < count) some.element[i] = values[i];
  }
  return some;
}

/// The same of values that can all be moved in fours (`fours`), or else none of them; at least one exists.
template <class T>
WAKESLEEP_RARELY Several<T, 4> load_some(const T* values, std::int32_t count) {
  Several<T, 4> some = {};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (i < count) some.element[i] = values[i];
  }
  return some;
}
template <class T>
WAKESLEEP_RARELY void store_some(T* values, Several<T, 4> some, std::int32_t count) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (i < count) values[i] = some.element[i];
  }
}
template <class T>
__device__ Several<T, 4> load_four(const T* values, std::int32_t count, bool fours) {
  return fours ? load<4>(values) : load_some(values, count);
}
template <class T>
__device__ void store_four(T* values, const Several<T, 4>& four, std::int32_t count, bool fours) {
  if (fours) {
    store(values, four);
  } else {
    store_some(values, four, count);
  }
}

}  // namespace wakesleep::cuda
