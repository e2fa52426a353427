// Stands in for kernels/cuda/cooperative.cuh.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/check.hpp"
#include "kernels/cuda/launch.cuh"

namespace wakesleep::cuda {

struct GridBarrier {
  std::uint32_t* arrivals = nullptr;
  std::uint32_t before = 0;
};
inline void grid_barrier(const GridBarrier&, std::uint32_t) { ::emulation::grid_barrier(); }

template <class Memory>
Memory& block_memory() {
  return *static_cast<Memory*>(::emulation::block_memory());
}

template <class... Parameters>
int resident_blocks(void (*)(Parameters...), unsigned int, std::size_t, const cudaDeviceProp& properties) {
  return properties.cooperativeLaunch == 0 ? 0 : properties.multiProcessorCount;
}

template <class Parameter>
void launch_cooperatively(void (*kernel)(Parameter), const Shape& shape, std::size_t bytes,
                          cudaStream_t stream, Parameter argument) {
  WAKESLEEP_CUDA_CHECK(::emulation::queue(stream, [=] {
    ::emulation::run_cooperative_grid(shape.grid.x, shape.block, bytes, [&] { kernel(argument); });
  }));
}

}  // namespace wakesleep::cuda
