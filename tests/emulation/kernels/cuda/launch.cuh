// Stands in for kernels/cuda/launch.cuh, the only place where kernels are launched.
#pragma once

#include <cuda_runtime.h>

#include <tuple>

#include "kernels/cuda/check.hpp"

namespace wakesleep::cuda {

struct Shape {
  dim3 grid;
  dim3 block;
};

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), const Shape& shape, cudaStream_t stream, Arguments... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  const std::tuple<Parameters...> parameters(arguments...);
  WAKESLEEP_CUDA_CHECK(::emulation::queue(stream, [=] {
    ::emulation::run_grid(shape.grid, shape.block, [&] { std::apply(kernel, parameters); });
  }));
}

}  // namespace wakesleep::cuda
