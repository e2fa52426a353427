// The optimisers' step, and the integers of the new weights in the same pass.
#include "kernels/cuda/ascent.cuh"
#include "kernels/cuda/integers.cuh"
#include "kernels/cuda/kernels.cuh"

namespace wakesleep::cuda {
namespace {

__global__ void update_prior_kernel(ParameterUpdate update, Optimizer optimizer, const Rates* rates) {
  const std::int64_t unit = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  if (unit < update.receiving) ascend_bias(update, unit, update.bias_gradient[unit], optimizer, *rates);
}

/// One block per receiving unit: its bias, its weights, and their integers.
template <int width, class Element>
__global__ void update_kernel(ParameterUpdate update, Integers<Element> integers, Optimizer optimizer,
                              const Rates* rates) {
  const std::int64_t unit = blockIdx.x;
  const Rates now = *rates;
  if (threadIdx.x == 0) ascend_bias(update, unit, update.bias_gradient[unit], optimizer, now);
  const std::int64_t count = update.weight.columns;
  const std::int32_t* gradient = update.gradient + unit * count;
  const Ascent ascent = weights_of(update, unit);
  std::uint32_t largest = 0;
  for (std::int64_t i = width * threadIdx.x; i < count; i += width * block_threads) {
    largest =
        Larger{}(largest, ascend<width>(from(ascent, i), load<width>(gradient + i), true, optimizer, now));
  }
  // Finds weights that are not finite, too.
  write_integers<width>(integers, unit, ascent.parameters, count, largest);
}

template <class Element>
void update_as(cudaStream_t stream, const ParameterUpdate& update, const Integers<Element>& integers,
               const Optimizer& optimizer, const Rates* rates) {
  launch(in_fours(update) ? update_kernel<4, Element> : update_kernel<1, Element>,
         block_per_row(update.receiving), stream, update, integers, optimizer, rates);
}

}  // namespace

void update(cudaStream_t stream, const ParameterUpdate& update, const Optimizer& optimizer,
            const Rates* rates) {
  const Limbs& limbs = update.limbs;
  if (limbs.data == nullptr) {
    const Shape shape = {dim3(blocks_for(update.receiving, block_threads, 2147483647)), dim3(block_threads)};
    launch(update_prior_kernel, shape, stream, update, optimizer, rates);
  } else if (limbs.route == CudaRoute::int8) {
    update_as(stream, update,
              integers_in<std::int8_t>(limbs, update.bits, update.scales, update.diverged, update.step),
              optimizer, rates);
  } else {
    update_as(stream, update,
              integers_in<__half>(limbs, update.bits, update.scales, update.diverged, update.step), optimizer,
              rates);
  }
}

}  // namespace wakesleep::cuda
