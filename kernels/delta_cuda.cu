// The delta rule's error, weighted and stochastically rounded to signed bytes.
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/philox.cuh"

namespace wakesleep::cuda {
namespace {

/// The weight of a row of deltas.
__device__ float weight_of(const SampleWeights& weights, std::int64_t row) {
  if (weights.coefficient != nullptr) return weights.scale * weights.coefficient[row];
  if (weights.relative == nullptr) return weights.scale;
  const double baseline = weights.centred ? 1.0 / static_cast<double>(weights.samples) : 0.0;
  return weights.scale * sample_weight(weights.relative[row], weights.total[row / weights.samples], baseline);
}

/// One thread rounds the eight units that share one Philox block, two to a word.
__global__ void delta_kernel(Logits logits, ConstStates target, std::int64_t rows_per_target,
                             SampleWeights weights, Draw draw, Deltas deltas) {
  const auto [row, group] = position();
  const std::int64_t first_unit = 8 * group;
  if (row >= deltas.rows || first_unit >= deltas.columns) return;
  const PhiloxBlock random = random_block(draw, row, 1, group);
  const std::uint64_t states = *reinterpret_cast<const std::uint64_t*>(
      target.data + row / rows_per_target * target.stride + first_unit);
  const float weight = weight_of(weights, row);
  const LogitGroup<8> a = logit_group<8>(logits, row, first_unit, deltas.columns);
  std::uint64_t rounded = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (first_unit + i >= deltas.columns) break;
    const std::uint32_t state = static_cast<std::uint32_t>(states >> (8 * i)) & 0xFFu;
    const std::int32_t value =
        round_delta(weight * error_of_state(logits, state, a.unit[i]), half_word(random, i));
    rounded |= static_cast<std::uint64_t>(static_cast<std::uint8_t>(value)) << (8 * i);
  }
  *reinterpret_cast<std::uint64_t*>(deltas.data + row * deltas.stride + first_unit) = rounded;
}

/// The same of errors that were kept.
__global__ void round_errors_kernel(Matrix<const float> errors, SampleWeights weights, Draw draw,
                                    Deltas deltas) {
  const auto [row, group] = position();
  const std::int64_t first_unit = 8 * group;
  if (row >= deltas.rows || first_unit >= deltas.columns) return;
  const PhiloxBlock random = random_block(draw, row, 1, group);
  const float weight = weight_of(weights, row);
  std::uint64_t rounded = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (first_unit + i >= deltas.columns) break;
    const std::int32_t value =
        round_delta(weight * errors.data[row * errors.stride + first_unit + i], half_word(random, i));
    rounded |= static_cast<std::uint64_t>(static_cast<std::uint8_t>(value)) << (8 * i);
  }
  *reinterpret_cast<std::uint64_t*>(deltas.data + row * deltas.stride + first_unit) = rounded;
}

/// sum_k w_k (s_k - sigma(a)) of one unit over the samples of an image, in the order of k.
__device__ float shared_error(const SampleWeights& weights, std::int64_t image, const std::uint8_t* states,
                              std::int64_t stride, float a) {
  const std::int64_t first = image * weights.samples;
  if (weights.coefficient != nullptr) {
    double sum = 0.0;
    double total = 0.0;
    for (std::int64_t k = 0; k < weights.samples; ++k) {
      const double coefficient = weights.coefficient[first + k];
      total += coefficient;
      sum += states[k * stride] != 0 ? coefficient : 0.0;
    }
    return sum_minus_probability(sum, total, a);
  }
  std::int64_t sum = 0;
  std::int64_t on = 0;
  for (std::int64_t k = 0; k < weights.samples; ++k) {
    if (states[k * stride] == 0) continue;
    sum += weights.relative[first + k];
    ++on;
  }
  const double mean = static_cast<double>(sum) / static_cast<double>(weights.total[image]);
  return weights.centred
             ? static_cast<float>(mean - static_cast<double>(on) / static_cast<double>(weights.samples))
             : mean_minus_probability(mean, a);
}

/// The same of the samples that share an input.
__global__ void shared_delta_kernel(Logits logits, ConstStates target, SampleWeights weights, Draw draw,
                                    Deltas deltas) {
  const auto [image, group] = position();
  const std::int64_t first_unit = 8 * group;
  if (image >= deltas.rows || first_unit >= deltas.columns) return;
  const PhiloxBlock random = random_block(draw, image, 1, group);
  const LogitGroup<8> a = logit_group<8>(logits, image, first_unit, deltas.columns);
  const std::uint8_t* states = target.data + image * weights.samples * target.stride + first_unit;
  std::uint64_t rounded = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (first_unit + i >= deltas.columns) break;
    const float error = shared_error(weights, image, states + i, target.stride, a.unit[i]);
    const std::int32_t value = round_delta(weights.scale * error, half_word(random, i));
    rounded |= static_cast<std::uint64_t>(static_cast<std::uint8_t>(value)) << (8 * i);
  }
  *reinterpret_cast<std::uint64_t*>(deltas.data + image * deltas.stride + first_unit) = rounded;
}

}  // namespace

void delta(cudaStream_t stream, const Logits& logits, ConstStates target, std::int64_t rows_per_target,
           const SampleWeights& weights, const Draw& draw, Deltas deltas) {
  launch(delta_kernel, over_rows(deltas.rows, (deltas.columns + 7) / 8), stream, logits, target,
         rows_per_target, weights, draw, deltas);
}

void round_errors(cudaStream_t stream, Matrix<const float> errors, const SampleWeights& weights,
                  const Draw& draw, Deltas deltas) {
  launch(round_errors_kernel, over_rows(deltas.rows, (deltas.columns + 7) / 8), stream, errors, weights, draw,
         deltas);
}

void shared_delta(cudaStream_t stream, const Logits& logits, ConstStates target, const SampleWeights& weights,
                  const Draw& draw, Deltas deltas) {
  launch(shared_delta_kernel, over_rows(deltas.rows, (deltas.columns + 7) / 8), stream, logits, target,
         weights, draw, deltas);
}

}  // namespace wakesleep::cuda
