// Sums and maxima of integers over the threads of a warp or block. Integers only: their order does not
// matter.
#pragma once

#include <cstdint>

#include "kernels/cuda/grid.cuh"

namespace wakesleep::cuda {

struct Plus {
  template <class T>
  __device__ T operator()(T x, T y) const {
    return x + y;
  }
};
struct Larger {
  template <class T>
  __device__ T operator()(T x, T y) const {
    return x > y ? x : y;
  }
};

/// The combination over the 32 lanes of a warp, in every lane. All lanes must call it.
template <class T, class Combine>
__device__ T warp_reduce(T value, Combine combine) {
  for (int distance = warp_lanes / 2; distance > 0; distance /= 2) {
    value = combine(value, __shfl_xor_sync(0xFFFFFFFFu, value, distance));
  }
  return value;
}

/// The combination over a one-dimensional block of block_threads threads, in every thread. All threads must
/// call it.
template <class T, class Combine>
__device__ T block_reduce(T value, Combine combine) {
  __shared__ T of_warp[block_warps];
  value = warp_reduce(value, combine);
  __syncthreads();  // a reduction before this one may still be reading
  if (threadIdx.x % warp_lanes == 0) of_warp[threadIdx.x / warp_lanes] = value;
  __syncthreads();
  value = of_warp[0];
  for (int warp = 1; warp < block_warps; ++warp) value = combine(value, of_warp[warp]);
  return value;
}

/// 64-bit sums in device memory; two's complement makes the unsigned addition right for negative values.
__device__ inline void atomic_add(std::int64_t* sum, std::int64_t value) {
  atomicAdd(reinterpret_cast<unsigned long long*>(sum), static_cast<unsigned long long>(value));
}
__device__ inline void atomic_add(std::int32_t* sum, std::int32_t value) { atomicAdd(sum, value); }

}  // namespace wakesleep::cuda
