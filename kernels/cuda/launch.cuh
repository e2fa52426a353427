// The only place where kernels are launched.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/check.hpp"

namespace wakesleep::cuda {

/// Blocks and threads of a launch.
struct Shape {
  dim3 grid;
  dim3 block;
};

/// Queues the kernel on the stream; a grid without blocks queues nothing. Errors of the launch itself (and of
/// earlier kernels, where they are known by now) are thrown.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), const Shape& shape, cudaStream_t stream, Arguments... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  kernel<<<shape.grid, shape.block, 0, stream>>>(arguments...);
  WAKESLEEP_CUDA_CHECK(cudaGetLastError());
}

}  // namespace wakesleep::cuda
