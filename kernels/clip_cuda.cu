// Rates of a step whose gradient is kept within a limit.
#include <cstdint>

#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/reduce.cuh"

namespace wakesleep::cuda {
namespace {

constexpr std::int64_t integers_per_thread = 8;

/// *largest = max(*largest, max |g|) over the integers.
__global__ void largest_integer_kernel(const std::int32_t* integers, std::int64_t count,
                                       std::int32_t* largest) {
  const std::int64_t threads = static_cast<std::int64_t>(gridDim.x) * block_threads;
  std::int32_t own = 0;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x; i < count;
       i += threads) {
    own = Larger{}(own, integers[i] < 0 ? -integers[i] : integers[i]);
  }
  own = block_reduce(own, Larger{});
  if (threadIdx.x == 0) atomicMax(largest, own);
}

__global__ void clip_kernel(const std::int32_t* largest_weight, const std::int32_t* largest_bias,
                            GradientUnits units, float limit, const Rates* rates, Rates* clipped) {
  Rates kept = *rates;
  kept.mean *= clip_factor(*largest_weight, *largest_bias, units, kept.mean, limit);
  *clipped = kept;
}

void find_largest(cudaStream_t stream, const std::int32_t* integers, std::int64_t count,
                  std::int32_t* largest) {
  launch(largest_integer_kernel, over_elements((count + integers_per_thread - 1) / integers_per_thread),
         stream, integers, count, largest);
}

}  // namespace

void clip(cudaStream_t stream, const std::int32_t* gradient, std::int64_t count,
          const std::int32_t* bias_gradient, std::int64_t bias_count, const GradientUnits& units, float limit,
          const Rates* rates, Rates* clipped, Workspace& workspace) {
  std::int32_t* largest_weight = workspace.get<std::int32_t>(2);
  std::int32_t* largest_bias = largest_weight + 1;
  WAKESLEEP_CUDA_CHECK(cudaMemsetAsync(largest_weight, 0, 2 * sizeof(std::int32_t), stream));
  find_largest(stream, gradient, count, largest_weight);
  find_largest(stream, bias_gradient, bias_count, largest_bias);
  launch(clip_kernel, {dim3(1), dim3(1)}, stream, static_cast<const std::int32_t*>(largest_weight),
         static_cast<const std::int32_t*>(largest_bias), units, limit, rates, clipped);
}

}  // namespace wakesleep::cuda
