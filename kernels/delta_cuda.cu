// The delta rule's error, weighted and stochastically rounded to signed bytes.
#include "kernels/cuda/approximate.cuh"
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

/// The same of Bernoulli units whose rows all have one weight and a target each. A thread has eight units of
/// several rows, as in draw_states_kernel.
template <int rows_of_thread>
__global__ void uniform_delta_kernel(Logits logits, ConstStates target, float weight, Draw draw,
                                     Deltas deltas) {
  const auto units = static_cast<std::uint32_t>(deltas.columns);
  const auto rows = static_cast<std::uint32_t>(deltas.rows);
  const BlockPlace block = last_first((units + 8 * warp_lanes - 1) / (8 * warp_lanes));
  const std::uint32_t first_unit = 8 * (block.across * warp_lanes + threadIdx.x);
  const std::uint32_t first_row = block.down * (block_warps * rows_of_thread) + threadIdx.y;
  if (first_unit >= units) return;
  std::uint32_t row_read[rows_of_thread];
  Several<std::uint32_t, 2> states[rows_of_thread];
#pragma unroll
  for (int i = 0; i < rows_of_thread; ++i) {
    const std::uint32_t row = first_row + i * block_warps;
    row_read[i] = row < rows ? row : rows - 1;
    states[i] = load<2>(
        reinterpret_cast<const std::uint32_t*>(target.data + row_read[i] * target.stride + first_unit));
  }
  Several<std::int32_t, 4> sums[rows_of_thread][2];
  load_sums(logits, row_read, first_unit, sums);
  const UnitGroup<8> group = unit_group<8>(logits, first_unit, units);
  const std::uint32_t left = units - first_unit;
  const std::uint32_t exist[2] = {existing(0xFFFFFFFFu, left),
                                  existing(0xFFFFFFFFu, static_cast<std::int64_t>(left) - 4)};
  RowDraws draws = row_draws(draw, 1, first_unit / 8);
  draws.samples = 0;  // every row has its own address
  std::int8_t* rounded = deltas.data + first_row * deltas.stride + first_unit;
  const std::int64_t apart = block_warps * deltas.stride;
#pragma unroll
  for (int i = 0; i < rows_of_thread; ++i) {
    const std::uint32_t row = first_row + i * block_warps;
    if (row >= rows) return;
    const PhiloxBlock random = draws.of_row(row);
    Several<std::uint32_t, 2> eight;
#pragma unroll
    for (int four = 0; four < 2; ++four) {
      float a[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int unit = 4 * four + j;
        a[j] = pre_activation(sums[i][four].element[j], group.scale[unit], group.bias[unit]);
      }
      eight.element[four] =
          deltas_of(a, states[i].element[four], weight, random.word[2 * four], random.word[2 * four + 1]) &
          exist[four];
    }
    store(reinterpret_cast<std::uint32_t*>(rounded), eight);
    rounded += apart;
  }
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

/// sum_k w_k (s_k - sigma(a)) of eight units over the samples of an image, in the order of k.
struct SharedErrors {
  float unit[8];
};
__device__ SharedErrors shared_errors(const SampleWeights& weights, std::int64_t image,
                                      const std::uint8_t* states, std::int64_t stride,
                                      const LogitGroup<8>& a) {
  const std::int64_t first = image * weights.samples;
  const auto is_on = [](std::uint64_t eight, int unit) { return (eight >> (8 * unit) & 0xFFu) != 0; };
  SharedErrors errors;
  if (weights.coefficient != nullptr) {
    double sum[8] = {};
    double total = 0.0;
#pragma unroll 2
    for (std::int64_t k = 0; k < weights.samples; ++k) {
      const std::uint64_t eight = *reinterpret_cast<const std::uint64_t*>(states + k * stride);
      const double coefficient = weights.coefficient[first + k];
      total += coefficient;
#pragma unroll
      for (int i = 0; i < 8; ++i) sum[i] += is_on(eight, i) ? coefficient : 0.0;
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) errors.unit[i] = sum_minus_probability(sum[i], total, a.unit[i]);
    return errors;
  }
  std::int64_t sum[8] = {};
  std::int32_t on[8] = {};
#pragma unroll 4
  for (std::int64_t k = 0; k < weights.samples; ++k) {
    const std::uint64_t eight = *reinterpret_cast<const std::uint64_t*>(states + k * stride);
    const std::int32_t relative = weights.relative[first + k];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      sum[i] += is_on(eight, i) ? relative : 0;
      on[i] += is_on(eight, i) ? 1 : 0;
    }
  }
  const auto total = static_cast<double>(weights.total[image]);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const double mean = static_cast<double>(sum[i]) / total;
    errors.unit[i] =
        weights.centred
            ? static_cast<float>(mean - static_cast<double>(on[i]) / static_cast<double>(weights.samples))
            : mean_minus_probability(mean, a.unit[i]);
  }
  return errors;
}

/// The same of the samples that share an input.
__global__ void shared_delta_kernel(Logits logits, ConstStates target, SampleWeights weights, Draw draw,
                                    Deltas deltas) {
  const auto [image, group] = position();
  const std::int64_t first_unit = 8 * group;
  if (image >= deltas.rows || first_unit >= deltas.columns) return;
  const PhiloxBlock random = random_block(draw, image, 1, group);
  const LogitGroup<8> a = logit_group<8>(logits, image, first_unit, deltas.columns);
  // Rows are whole 64-byte lines, so eight bytes are always there to be read.
  const std::uint8_t* states = target.data + image * weights.samples * target.stride + first_unit;
  const SharedErrors errors = shared_errors(weights, image, states, target.stride, a);
  std::uint64_t rounded = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (first_unit + i >= deltas.columns) break;
    const std::int32_t value = round_delta(weights.scale * errors.unit[i], half_word(random, i));
    rounded |= static_cast<std::uint64_t>(static_cast<std::uint8_t>(value)) << (8 * i);
  }
  *reinterpret_cast<std::uint64_t*>(deltas.data + image * deltas.stride + first_unit) = rounded;
}

}  // namespace

void delta(cudaStream_t stream, const Logits& logits, ConstStates target, std::int64_t rows_per_target,
           const SampleWeights& weights, const Draw& draw, Deltas deltas) {
  const bool uniform = weights.coefficient == nullptr && weights.relative == nullptr && rows_per_target == 1;
  if (uniform && logits.kept.data == nullptr && logits.deviation == 0.0f) {
    const std::int64_t groups = (deltas.columns + 7) / 8;
    constexpr int rows_of_thread = 2;
    const bool several = deltas.rows * groups >= enough_threads;
    const std::int64_t rows = several ? (deltas.rows + rows_of_thread - 1) / rows_of_thread : deltas.rows;
    launch(several ? uniform_delta_kernel<rows_of_thread> : uniform_delta_kernel<1>,
           over_rows_last_first(rows, groups), stream, logits, target, weights.scale, draw, deltas);
    return;
  }
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
