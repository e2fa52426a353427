// Sums over the importance weights of one image, all in integers.
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/reduce.cuh"

namespace wakesleep::cuda {
namespace {

/// One block per image.
__global__ void importance_kernel(Matrix<const std::int64_t> log_weights, ImportanceSummary* summaries) {
  const std::int64_t* row = log_weights.data + static_cast<std::int64_t>(blockIdx.x) * log_weights.stride;
  std::int64_t maximum = row[0];
  for (std::int64_t k = threadIdx.x; k < log_weights.columns; k += block_threads)
    maximum = Larger{}(maximum, row[k]);
  maximum = block_reduce(maximum, Larger{});

  ImportanceSummary own;
  for (std::int64_t k = threadIdx.x; k < log_weights.columns; k += block_threads) {
    const std::int64_t weight = relative_weight(row[k], maximum);
    own.sum += weight;
    own.sum_of_squares += (weight >> 10) * (weight >> 10);
    own.total_high += row[k] >> log_fraction_bits;
    own.total_low += row[k] & ((std::int64_t{1} << log_fraction_bits) - 1);
  }
  const ImportanceSummary summary = {
      maximum, block_reduce(own.sum, Plus{}), block_reduce(own.sum_of_squares, Plus{}),
      block_reduce(own.total_high, Plus{}), block_reduce(own.total_low, Plus{})};
  if (threadIdx.x == 0) summaries[blockIdx.x] = summary;
}

}  // namespace

void importance(cudaStream_t stream, Matrix<const std::int64_t> log_weights, ImportanceSummary* summaries) {
  if (log_weights.columns == 0) {
    WAKESLEEP_CUDA_CHECK(cudaMemsetAsync(
        summaries, 0, static_cast<std::size_t>(log_weights.rows) * sizeof(ImportanceSummary), stream));
    return;
  }
  launch(importance_kernel, block_per_row(log_weights.rows), stream, log_weights, summaries);
}

}  // namespace wakesleep::cuda
