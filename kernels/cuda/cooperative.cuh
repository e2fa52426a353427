// What a kernel needs whose blocks all run at the same time and wait for each other.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/check.hpp"
#include "kernels/cuda/launch.cuh"

namespace wakesleep::cuda {

/// Where the threads of a grid wait for each other, again and again.
struct GridBarrier {
  std::uint32_t* arrivals = nullptr;  ///< of blocks, in the device's memory: counted up for ever, modulo 2^32
  std::uint32_t before = 0;           ///< arrivals at the launch
};

/// Waits for all threads of the grid, which have waited `times` times before in this launch. What they have
/// written before it is seen by all of them after it, as long as it is read with ordinary loads. All threads
/// of the grid must call it.
///
/// That of cooperative_groups waits for what its arrival brings back before it looks whether others have
/// arrived; this one does not wait for an answer.
__device__ inline void grid_barrier(const GridBarrier& barrier, std::uint32_t times) {
  __syncthreads();
  if (threadIdx.x == 0) {
    const std::uint32_t all = barrier.before + (times + 1) * gridDim.x;
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(barrier.arrivals) : "memory");
    std::uint32_t arrived;
    do {
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(arrived) : "l"(barrier.arrivals) : "memory");
    } while (static_cast<std::int32_t>(arrived - all) < 0);
  }
  __syncthreads();
}

/// The block's shared memory, of the size that the launch asked for. Nothing is constructed in it.
template <class Memory>
__device__ Memory& block_memory() {
  static_assert(alignof(Memory) <= 16);
  extern __shared__ uint4 words[];
  return *reinterpret_cast<Memory*>(words);
}

/// How many blocks with `bytes` of shared memory can run on the current device at the same time, as
/// launch_cooperatively needs; 0 where it cannot launch such kernels.
template <class... Parameters>
int resident_blocks(void (*kernel)(Parameters...), unsigned int threads, std::size_t bytes,
                    const cudaDeviceProp& properties) {
  if (properties.cooperativeLaunch == 0) return 0;
  int of_multiprocessor = 0;
  WAKESLEEP_CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&of_multiprocessor, kernel,
                                                                     static_cast<int>(threads), bytes));
  return of_multiprocessor * properties.multiProcessorCount;
}

/// Queues the kernel on the stream with `bytes` of shared memory for each block. There are no more blocks
/// than resident_blocks() says.
template <class Parameter>
void launch_cooperatively(void (*kernel)(Parameter), const Shape& shape, std::size_t bytes,
                          cudaStream_t stream, Parameter argument) {
  void* arguments[] = {&argument};
  WAKESLEEP_CUDA_CHECK(
      cudaLaunchCooperativeKernel(kernel, shape.grid, shape.block, arguments, bytes, stream));
}

}  // namespace wakesleep::cuda
