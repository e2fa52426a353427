// Terms of bias gradients: the penalty on activations, and sums of integers.
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/kernels.cuh"

namespace wakesleep::cuda {
namespace {

__global__ void sparsity_kernel(const std::int64_t* on, std::int64_t units, std::int64_t rows,
                                Sparsity sparsity, float* activation, std::int32_t* penalty) {
  const std::int64_t unit = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  if (unit >= units) return;
  const float mean = running_activation(activation[unit], on[unit], rows, sparsity);
  activation[unit] = mean;
  penalty[unit] = sparsity_gradient(mean, rows, sparsity);
}

__global__ void add_kernel(std::int32_t* sums, const std::int32_t* terms, std::int64_t count) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  if (i < count) sums[i] += terms[i];
}

}  // namespace

void sparsity(cudaStream_t stream, ConstStates states, const Sparsity& sparsity, float* activation,
              std::int32_t* penalty, Workspace& workspace) {
  std::int64_t* on = workspace.get<std::int64_t>(states.columns);
  WAKESLEEP_CUDA_CHECK(
      cudaMemsetAsync(on, 0, static_cast<std::size_t>(states.columns) * sizeof(std::int64_t), stream));
  count(stream, states, on);
  launch(sparsity_kernel, over_elements(states.columns), stream, static_cast<const std::int64_t*>(on),
         states.columns, states.rows, sparsity, activation, penalty);
}

void add(cudaStream_t stream, std::int32_t* sums, const std::int32_t* terms, std::int64_t count) {
  launch(add_kernel, over_elements(count), stream, sums, terms, count);
}

}  // namespace wakesleep::cuda
