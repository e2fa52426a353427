// Integer weights from the master weights: one shift per receiving unit, taken from its largest weight.
#include "kernels/cuda/integers.cuh"
#include "kernels/cuda/kernels.cuh"

namespace wakesleep::cuda {
namespace {

/// One block per receiving unit.
template <int width, class Element>
__global__ void quantize_kernel(Matrix<const float> weight, Integers<Element> integers) {
  const std::int64_t unit = blockIdx.x;
  const float* weights = weight.data + unit * weight.stride;
  std::uint32_t largest = 0;
  for (std::int64_t i = width * threadIdx.x; i < weight.columns; i += width * block_threads) {
    const Several<float, width> several = load<width>(weights + i);
#pragma unroll
    for (int j = 0; j < width; ++j) largest = Larger{}(largest, magnitude_bits(several.element[j]));
  }
  write_integers<width>(integers, unit, weights, weight.columns, largest);
}

template <class Element>
void quantize_as(cudaStream_t stream, Matrix<const float> weight, const Integers<Element>& integers) {
  const bool fours = weight.columns % 4 == 0 && weight.stride % 4 == 0 && fours_aligned(weight.data);
  launch(fours ? quantize_kernel<4, Element> : quantize_kernel<1, Element>, block_per_row(weight.rows),
         stream, weight, integers);
}

}  // namespace

void quantize(cudaStream_t stream, Matrix<const float> weight, int bits, const Limbs& limbs, float* scales,
              std::uint32_t* diverged, const std::uint32_t* step) {
  if (limbs.route == CudaRoute::int8) {
    quantize_as(stream, weight, integers_in<std::int8_t>(limbs, bits, scales, diverged, step));
  } else {
    quantize_as(stream, weight, integers_in<__half>(limbs, bits, scales, diverged, step));
  }
}

cudaError_t find_kernel_image() {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, quantize_kernel<4, std::int8_t>);
}

}  // namespace wakesleep::cuda
