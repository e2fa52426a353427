// The optimisers' step, and the integers of the new weights in the same pass.
#include "kernels/cuda/ascent.cuh"
#include "kernels/cuda/integers.cuh"
#include "kernels/cuda/kernels.cuh"

namespace wakesleep::cuda {
namespace {

template <class Gradient>
__global__ void update_prior_kernel(ParameterUpdate update, GradientPair<const Gradient> gradient,
                                    Optimizer optimizer, const Rates* rates) {
  const std::int64_t unit = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  if (unit >= update.receiving) return;
  ascend_bias(update, update.step, unit, gradient.bias[unit], optimizer,
              rates_in_units(*rates, update.units.bias));
}

/// One block per receiving unit: its bias, its weights, and their integers. A thread keeps its new weights,
/// `kept` times four of them, until the unit's largest is known; where rows are longer (kept = 0) it reads
/// them again. The last units come first, as in over_rows_last_first().
template <int kept, int width, class Element, class Gradient>
__global__ void update_kernel(ParameterUpdate update, GradientPair<const Gradient> gradient,
                              Integers<Element> integers, Optimizer optimizer, const Rates* rates) {
  const std::int64_t unit = gridDim.x - 1 - blockIdx.x;
  const Rates now = rates_in_units(*rates, update.units.weight);
  if (threadIdx.x == 0) {
    ascend_bias(update, update.step, unit, gradient.bias[unit], optimizer,
                rates_in_units(*rates, update.units.bias));
  }
  const std::int64_t count = update.weight.columns;
  const Gradient* along = gradient.weight + unit * count;
  const Ascent ascent = weights_of(update, unit);
  std::uint32_t largest = 0;
  if constexpr (kept == 0) {
    for (std::int64_t i = width * threadIdx.x; i < count; i += width * block_threads) {
      ascend<width>(from(ascent, i), load<width>(along + i), true, optimizer, now, largest);
    }
    // Finds weights that are not finite, too.
    write_integers<width>(integers, unit, ascent.parameters, count, largest);
  } else {
    Several<float, width> weights[kept];
#pragma unroll
    for (int k = 0; k < kept; ++k) {
      const std::int64_t i = width * (k * block_threads + static_cast<std::int64_t>(threadIdx.x));
      if (i >= count) break;
      weights[k] = ascend<width>(from(ascent, i), load<width>(along + i), true, optimizer, now, largest);
    }
    const IntegerScale scale = scale_of_integers(integers, unit, largest);
    if (!scale.fits) return;
#pragma unroll
    for (int k = 0; k < kept; ++k) {
      const std::int64_t i = width * (k * block_threads + static_cast<std::int64_t>(threadIdx.x));
      if (i < count) store_integers<width>(integers, unit, i, weights[k], scale.two_to_shift);
    }
  }
}

template <class Element, class Gradient>
void update_as(cudaStream_t stream, const ParameterUpdate& update,
               const GradientPair<const Gradient>& gradient, const Integers<Element>& integers,
               const Optimizer& optimizer, const Rates* rates) {
  const bool fours = in_fours(update) && fours_aligned(gradient.weight);
  const std::int64_t at_once = std::int64_t{4} * block_threads;
  const auto kernel = !fours                                 ? update_kernel<0, 1, Element, Gradient>
                      : update.weight.columns <= at_once     ? update_kernel<1, 4, Element, Gradient>
                      : update.weight.columns <= 4 * at_once ? update_kernel<4, 4, Element, Gradient>
                                                             : update_kernel<0, 4, Element, Gradient>;
  launch(kernel, block_per_row(update.receiving), stream, update, gradient, integers, optimizer, rates);
}

template <class Gradient>
void update_along(cudaStream_t stream, const ParameterUpdate& update,
                  const GradientPair<const Gradient>& gradient, const Optimizer& optimizer,
                  const Rates* rates) {
  const Limbs& limbs = update.limbs;
  if (limbs.data == nullptr) {
    const Shape shape = {dim3(blocks_for(update.receiving, block_threads, 2147483647)), dim3(block_threads)};
    launch(update_prior_kernel<Gradient>, shape, stream, update, gradient, optimizer, rates);
  } else if (limbs.route == CudaRoute::int8) {
    update_as(stream, update, gradient,
              integers_in<std::int8_t>(limbs, update.bits, update.scales, update.diverged, update.step),
              optimizer, rates);
  } else {
    update_as(stream, update, gradient,
              integers_in<__half>(limbs, update.bits, update.scales, update.diverged, update.step), optimizer,
              rates);
  }
}

}  // namespace

void update(cudaStream_t stream, const ParameterUpdate& update,
            const GradientPair<const std::int32_t>& gradient, const Optimizer& optimizer,
            const Rates* rates) {
  update_along(stream, update, gradient, optimizer, rates);
}

void update(cudaStream_t stream, const ParameterUpdate& update, const GradientPair<const float>& gradient,
            const Optimizer& optimizer, const Rates* rates) {
  update_along(stream, update, gradient, optimizer, rates);
}

}  // namespace wakesleep::cuda
