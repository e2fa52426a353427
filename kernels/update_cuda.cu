// The optimisers' step, and the integers of the new weights in the same pass.
#include "kernels/cuda/integers.cuh"
#include "kernels/cuda/kernels.cuh"

namespace wakesleep::cuda {
namespace {

/// Neighbouring parameters, their gradient and what the optimiser keeps of them (null: nothing).
template <class Gradient>
struct Ascent {
  float* parameters;
  const Gradient* gradient;
  float* first;
  float* second;
};
template <class Gradient>
__device__ Ascent<Gradient> from(const Ascent<Gradient>& ascent, std::int64_t index) {
  return {ascent.parameters + index, ascent.gradient + index,
          ascent.first != nullptr ? ascent.first + index : nullptr,
          ascent.second != nullptr ? ascent.second + index : nullptr};
}

/// Moves `width` parameters along their gradient. Returns the largest of their magnitude_bits.
template <int width, class Gradient>
__device__ std::uint32_t ascend(const Ascent<Gradient>& ascent, bool decayed, const Optimizer& optimizer,
                                const Rates& rates) {
  Several<float, width> parameter = load<width>(ascent.parameters);
  const Several<Gradient, width> gradient = load<width>(ascent.gradient);
  Several<float, width> first = {};
  Several<float, width> second = {};
  if (ascent.first != nullptr) first = load<width>(ascent.first);
  if (ascent.second != nullptr) second = load<width>(ascent.second);
  std::uint32_t largest = 0;
#pragma unroll
  for (int j = 0; j < width; ++j) {
    parameter.element[j] = updated_parameter(parameter.element[j], gradient.element[j], decayed, optimizer,
                                             rates, first.element[j], second.element[j]);
    largest = Larger{}(largest, magnitude_bits(parameter.element[j]));
  }
  store(ascent.parameters, parameter);
  if (ascent.first != nullptr) store(ascent.first, first);
  if (ascent.second != nullptr) store(ascent.second, second);
  return largest;
}

template <class Gradient>
__device__ void update_bias(const ParameterUpdate& update, const GradientPair<const Gradient>& gradient,
                            std::int64_t unit, const Optimizer& optimizer, const Rates& rates) {
  const Ascent<Gradient> biases = {update.bias, gradient.bias, update.state.bias_first,
                                   update.state.bias_second};
  ascend<1>(from(biases, unit), false, optimizer, rates);
  if (!is_finite(update.bias[unit])) mark_diverged(update.diverged, update.step);
}

template <class Gradient>
__global__ void update_prior_kernel(ParameterUpdate update, GradientPair<const Gradient> gradient,
                                    Optimizer optimizer, const Rates* rates) {
  const std::int64_t unit = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  if (unit < update.receiving) update_bias(update, gradient, unit, optimizer, *rates);
}

/// One block per receiving unit: its bias, its weights, and their integers.
template <int width, class Element, class Gradient>
__global__ void update_kernel(ParameterUpdate update, GradientPair<const Gradient> gradient,
                              Integers<Element> integers, Optimizer optimizer, const Rates* rates) {
  const std::int64_t unit = blockIdx.x;
  const Rates now = *rates;
  if (threadIdx.x == 0) update_bias(update, gradient, unit, optimizer, now);
  const std::int64_t count = update.weight.columns;
  float* weights = update.weight.data + unit * update.weight.stride;
  Ascent<Gradient> ascent = {update.weight.data, gradient.weight, update.state.weight_first,
                             update.state.weight_second};
  ascent = from(ascent, unit * count);  // all but the weights are dense
  ascent.parameters = weights;
  std::uint32_t largest = 0;
  for (std::int64_t i = width * threadIdx.x; i < count; i += width * block_threads) {
    largest = Larger{}(largest, ascend<width>(from(ascent, i), true, optimizer, now));
  }
  write_integers<width>(integers, unit, weights, count, largest);  // finds weights that are not finite, too
}

template <class Element, class Gradient>
void update_as(cudaStream_t stream, const ParameterUpdate& update,
               const GradientPair<const Gradient>& gradient, const Integers<Element>& integers,
               const Optimizer& optimizer, const Rates* rates) {
  const bool fours = update.weight.columns % 4 == 0 && update.weight.stride % 4 == 0 &&
                     fours_aligned(update.weight.data) && fours_aligned(gradient.weight) &&
                     fours_aligned(update.state.weight_first) && fours_aligned(update.state.weight_second);
  launch(fours ? update_kernel<4, Element, Gradient> : update_kernel<1, Element, Gradient>,
         block_per_row(update.receiving), stream, update, gradient, integers, optimizer, rates);
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
