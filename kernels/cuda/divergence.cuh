// How kernels report that a parameter has left the range that the arithmetic can represent.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace wakesleep::cuda {

/// *diverged becomes 1 + *step (1 where there is no step) if it was 0. Null is allowed and does nothing.
__device__ inline void mark_diverged(std::uint32_t* diverged, const std::uint32_t* step) {
  if (diverged != nullptr) atomicCAS(diverged, 0u, 1u + (step != nullptr ? *step : 0u));
}

}  // namespace wakesleep::cuda
