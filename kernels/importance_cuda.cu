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

/// One block per image.
__global__ void importance_weights_kernel(Matrix<const std::int64_t> log_weights, int fraction_bits,
                                          std::int32_t* relative, std::int64_t* totals) {
  const std::int64_t image = blockIdx.x;
  const std::int64_t* row = log_weights.data + image * log_weights.stride;
  std::int64_t maximum = row[0];
  for (std::int64_t k = threadIdx.x; k < log_weights.columns; k += block_threads)
    maximum = Larger{}(maximum, row[k]);
  maximum = block_reduce(maximum, Larger{});
  std::int64_t total = 0;
  for (std::int64_t k = threadIdx.x; k < log_weights.columns; k += block_threads) {
    const std::int64_t weight = relative_weight(row[k], maximum, fraction_bits);
    relative[image * log_weights.columns + k] = static_cast<std::int32_t>(weight);
    total += weight;
  }
  total = block_reduce(total, Plus{});
  if (threadIdx.x == 0) totals[image] = total;
}

/// One thread an image.
__global__ void vimco_kernel(Matrix<const std::int64_t> log_weights, float* coefficients, float* sums) {
  const std::int64_t image = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  if (image >= log_weights.rows) return;
  sums[image] = vimco_coefficients(log_weights.data + image * log_weights.stride, log_weights.columns,
                                   coefficients + image * log_weights.columns);
}

/// One block: the exponent that fits the largest sum, and the rates that undo it.
__global__ void vimco_exponent_kernel(const float* sums, std::int64_t images, const Rates* rates,
                                      Rates* scaled, std::int32_t* exponent) {
  float largest = 0.0f;
  for (std::int64_t i = threadIdx.x; i < images; i += block_threads) largest = Larger{}(largest, sums[i]);
  largest = block_reduce(largest, Larger{});
  if (threadIdx.x != 0) return;
  *exponent = least_exponent(largest);
  Rates undoing = *rates;
  undoing.mean *= power_of_two(*exponent);
  *scaled = undoing;
}

__global__ void vimco_scale_kernel(float* coefficients, std::int64_t count, const std::int32_t* exponent) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  if (i < count) coefficients[i] *= power_of_two(-*exponent);
}

}  // namespace

void importance_weights(cudaStream_t stream, Matrix<const std::int64_t> log_weights, int fraction_bits,
                        std::int32_t* relative, std::int64_t* totals) {
  launch(importance_weights_kernel, block_per_row(log_weights.rows), stream, log_weights, fraction_bits,
         relative, totals);
}

void vimco_weights(cudaStream_t stream, Matrix<const std::int64_t> log_weights, float* coefficients,
                   const Rates* rates, Rates* scaled, Workspace& workspace) {
  float* sums = workspace.get<float>(log_weights.rows + 1);
  std::int32_t* exponent = reinterpret_cast<std::int32_t*>(sums + log_weights.rows);
  const std::int64_t count = log_weights.rows * log_weights.columns;
  launch(vimco_kernel, over_elements(log_weights.rows), stream, log_weights, coefficients, sums);
  launch(vimco_exponent_kernel, {dim3(1), dim3(block_threads)}, stream, static_cast<const float*>(sums),
         log_weights.rows, rates, scaled, exponent);
  launch(vimco_scale_kernel, over_elements(count), stream, coefficients, count,
         static_cast<const std::int32_t*>(exponent));
}

void importance(cudaStream_t stream, Matrix<const std::int64_t> log_weights, ImportanceSummary* summaries) {
  if (log_weights.columns == 0) {
    WAKESLEEP_CUDA_CHECK(cudaMemsetAsync(
        summaries, 0, static_cast<std::size_t>(log_weights.rows) * sizeof(ImportanceSummary), stream));
    return;
  }
  launch(importance_kernel, block_per_row(log_weights.rows), stream, log_weights, summaries);
}

}  // namespace wakesleep::cuda
