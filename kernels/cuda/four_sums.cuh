// What a lane has of a tile of sums (mma.cuh), as four neighbouring units of one row.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace wakesleep::cuda {

/// From sums as multiply_add leaves them, two units of two rows, as 32-bit patterns: neighbouring lanes
/// exchange, so that the even one has four units of the upper row and the odd one those of the lower row. All
/// lanes of a warp must call it.
struct FourSums {
  std::uint32_t unit[4];
  __device__ FourSums(const std::uint32_t (&own)[4], bool odd) {
    const std::uint32_t given[2] = {__shfl_xor_sync(0xFFFFFFFFu, odd ? own[0] : own[2], 1),
                                    __shfl_xor_sync(0xFFFFFFFFu, odd ? own[1] : own[3], 1)};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      unit[i] = odd ? given[i] : own[i];
      unit[2 + i] = odd ? own[2 + i] : given[i];
    }
  }
};

}  // namespace wakesleep::cuda
