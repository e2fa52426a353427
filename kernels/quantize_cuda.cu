// Integer weights from the master weights: one shift per receiving unit, taken from its largest weight.
#include <cuda_fp16.h>

#include "kernels/cuda/divergence.cuh"
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/reduce.cuh"

namespace wakesleep::cuda {
namespace {

__device__ void store(std::int8_t* element, std::int32_t limb) { *element = static_cast<std::int8_t>(limb); }
__device__ void store(__half* element, std::int32_t limb) { *element = __int2half_rn(limb); }

/// max |w| of a row by its bits: the bits of floats without a sign order as integers, and those of infinities
/// and NaNs lie above all others.
__device__ float largest_magnitude(const float* weights, std::int64_t count) {
  std::uint32_t largest = 0;
  for (std::int64_t i = threadIdx.x; i < count; i += block_threads) {
    largest = Larger{}(largest, float_bits(weights[i]) & 0x7FFFFFFFu);
  }
  return float_from_bits(block_reduce(largest, Larger{}));
}

/// One block per receiving unit. A unit that has diverged keeps its last integers: its run is about to stop.
template <class Element>
__global__ void quantize_kernel(Matrix<const float> weight, int bits, Element* high, Element* low,
                                std::int64_t stride, float* scales, std::uint32_t* diverged,
                                const std::uint32_t* step) {
  const std::int64_t unit = blockIdx.x;
  const float* weights = weight.data + unit * weight.stride;
  const std::int32_t shift = weight_shift(largest_magnitude(weights, weight.columns), bits);
  if (shift == shift_overflow) {
    if (threadIdx.x == 0) mark_diverged(diverged, step);
    return;
  }
  if (threadIdx.x == 0) scales[unit] = power_of_two(-shift);
  const float two_to_shift = power_of_two(shift);
  for (std::int64_t i = threadIdx.x; i < weight.columns; i += block_threads) {
    const std::int32_t q = integer_weight(weights[i], two_to_shift);
    store(high + unit * stride + i, low != nullptr ? high_limb(q) : q);
    if (low != nullptr) store(low + unit * stride + i, low_limb(q));
  }
}

template <class Element>
void quantize_as(cudaStream_t stream, Matrix<const float> weight, int bits, const Limbs& limbs, float* scales,
                 std::uint32_t* diverged, const std::uint32_t* step) {
  Element* high = static_cast<Element*>(limbs.data);
  Element* low = limbs.count == 2 ? high + limbs.rows * limbs.stride : nullptr;
  launch(quantize_kernel<Element>, block_per_row(weight.rows), stream, weight, bits, high, low, limbs.stride,
         scales, diverged, step);
}

}  // namespace

void quantize(cudaStream_t stream, Matrix<const float> weight, int bits, const Limbs& limbs, float* scales,
              std::uint32_t* diverged, const std::uint32_t* step) {
  if (limbs.route == CudaRoute::int8) {
    quantize_as<std::int8_t>(stream, weight, bits, limbs, scales, diverged, step);
  } else {
    quantize_as<__half>(stream, weight, bits, limbs, scales, diverged, step);
  }
}

cudaError_t find_kernel_image() {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, quantize_kernel<std::int8_t>);
}

}  // namespace wakesleep::cuda
