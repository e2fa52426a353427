// Natural gradients: a receiving unit's gradient times what is kept of its inverse Fisher block. Every sum is
// made by one thread, in the order in which the CPU makes it.
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/kernels.cuh"

namespace wakesleep::cuda {
namespace {

/// The mean gradient of a unit's weights, and behind them of its bias.
struct UnitGradient {
  const std::int32_t* weights;
  std::int32_t bias;
  std::int64_t sending;
  Rates rates;
  __device__ float operator[](std::int64_t j) const {
    return mean_gradient(j < sending ? weights[j] : bias, rates);
  }
};

__device__ UnitGradient gradient_of(const GradientPair<const std::int32_t>& gradient, std::int64_t unit,
                                    std::int64_t sending, const Rates* rates) {
  return {gradient.weight + unit * sending, gradient.bias[unit], sending, *rates};
}

__device__ float& element_of(const GradientPair<float>& natural, std::int64_t unit, std::int64_t sending,
                             std::int64_t j) {
  return j < sending ? natural.weight[unit * sending + j] : natural.bias[unit];
}

__global__ void diagonal_kernel(FisherInverse inverse, std::int64_t receiving, std::int64_t sending,
                                const Rates* rates, GradientPair<const std::int32_t> gradient,
                                GradientPair<float> natural) {
  const auto [unit, j] = position();
  if (unit >= receiving || j > sending) return;
  element_of(natural, unit, sending, j) =
      inverse.blocks[unit * (sending + 1) + j] * gradient_of(gradient, unit, sending, rates)[j];
}

/// One block per receiving unit.
__global__ void dense_kernel(FisherInverse inverse, std::int64_t sending, const Rates* rates,
                             GradientPair<const std::int32_t> gradient, GradientPair<float> natural) {
  const std::int64_t unit = blockIdx.x;
  const std::int64_t d = sending + 1;
  const UnitGradient g = gradient_of(gradient, unit, sending, rates);
  const float* p = inverse.blocks + unit * d * d;
  for (std::int64_t j = threadIdx.x; j < d; j += block_threads) {
    float sum = 0.0f;
    for (std::int64_t k = 0; k < d; ++k) sum += g[k] * p[k * d + j];
    element_of(natural, unit, sending, j) = sum;
  }
}

__device__ const std::uint8_t* states_of(const FisherInverse& inverse, std::int64_t row) {
  return inverse.rows.data + row * inverse.rows.stride;
}

/// One block per receiving unit: (g - A^T Q A g) / damping.
__global__ void woodbury_kernel(FisherInverse inverse, std::int64_t sending, const Rates* rates,
                                GradientPair<const std::int32_t> gradient, GradientPair<float> natural) {
  __shared__ float projected[max_fisher_order];  // A g
  __shared__ float solved[max_fisher_order];     // Q A g
  const std::int64_t unit = blockIdx.x;
  const std::int64_t rows = inverse.rows.rows;
  const UnitGradient g = gradient_of(gradient, unit, sending, rates);
  const float* q = inverse.blocks + unit * rows * rows;
  for (std::int64_t r = threadIdx.x; r < rows; r += block_threads) {
    const std::uint8_t* states = states_of(inverse, r);
    std::int64_t sum = g.bias;
    for (std::int64_t j = 0; j < sending; ++j) sum += states[j] * g.weights[j];
    projected[r] = static_cast<float>(sum) * g.rates.mean;
  }
  __syncthreads();
  for (std::int64_t k = threadIdx.x; k < rows; k += block_threads) {
    float sum = 0.0f;
    for (std::int64_t r = 0; r < rows; ++r) sum += projected[r] * q[r * rows + k];
    solved[k] = sum;
  }
  __syncthreads();
  for (std::int64_t j = threadIdx.x; j <= sending; j += block_threads) {
    float sum = 0.0f;
    for (std::int64_t r = 0; r < rows; ++r) {
      sum += j < sending ? static_cast<float>(states_of(inverse, r)[j]) * solved[r] : solved[r];
    }
    element_of(natural, unit, sending, j) = (g[j] - sum) / inverse.damping;
  }
}

}  // namespace

void natural_gradient(cudaStream_t stream, const FisherInverse& inverse, std::int64_t receiving,
                      std::int64_t sending, const Rates* rates,
                      const GradientPair<const std::int32_t>& gradient, const GradientPair<float>& natural) {
  switch (inverse.form) {
    case FisherForm::diagonal:
      launch(diagonal_kernel, over_rows(receiving, sending + 1, block_threads), stream, inverse, receiving,
             sending, rates, gradient, natural);
      break;
    case FisherForm::dense:
      launch(dense_kernel, block_per_row(receiving), stream, inverse, sending, rates, gradient, natural);
      break;
    case FisherForm::woodbury:
      launch(woodbury_kernel, block_per_row(receiving), stream, inverse, sending, rates, gradient, natural);
      break;
  }
}

}  // namespace wakesleep::cuda
