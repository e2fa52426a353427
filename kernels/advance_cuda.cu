// From one step's scalars to the next's.
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/launch.cuh"

namespace wakesleep::cuda {
namespace {

__global__ void advance_kernel(const StepScalars* table, std::uint32_t* position, StepScalars* now) {
  *now = table[*position];
  ++*position;
}

}  // namespace

void advance(cudaStream_t stream, const StepScalars* table, std::uint32_t* position, StepScalars* now) {
  launch(advance_kernel, {dim3(1), dim3(1)}, stream, table, position, now);
}

}  // namespace wakesleep::cuda
