// What several blocks have made in parts is put together by the one that comes last, so that nobody waits.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace wakesleep::cuda {

/// Whether the calling block is the last of `blocks` that get here; if so, it sees what the others had written
/// before. *arrivals is 0 before the first has come and again after the last. All threads of the block must
/// call it.
__device__ inline bool is_last_block(std::uint32_t* arrivals, std::uint32_t blocks) {
  __threadfence();
  __syncthreads();
  bool is_last = false;
  if (threadIdx.x == 0) {
    is_last = atomicAdd(arrivals, 1u) == blocks - 1;
    if (is_last) *arrivals = 0;
  }
  is_last = __syncthreads_or(is_last ? 1 : 0) != 0;
  if (is_last) __threadfence();
  return is_last;
}

}  // namespace wakesleep::cuda
