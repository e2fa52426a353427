// Neighbouring elements that are moved together, in one access of up to 16 bytes.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

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
inline bool fours_aligned(const void* elements) {
  return reinterpret_cast<std::uintptr_t>(elements) % 16 == 0;
}

}  // namespace wakesleep::cuda
