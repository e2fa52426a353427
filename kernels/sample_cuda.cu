// Samples of a conditional, their log-probabilities, and the probabilities or means themselves.
#include "kernels/cuda/approximate.cuh"
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/philox.cuh"
#include "kernels/cuda/score_sink.cuh"

namespace wakesleep::cuda {
namespace {

/// Samples the four units that share one Philox block, and writes their errors where there is room for them.
/// Returns their log-probability if `scored`, else 0.
template <bool scored, bool gaussian>
__device__ std::int64_t sample_group(const Logits& logits, std::int64_t input_row, const PhiloxBlock& random,
                                     const States& output, const Matrix<float>& errors, std::int64_t row,
                                     std::int64_t group) {
  const std::int64_t left = output.columns - 4 * group;
  const LogitGroup<4> a = logit_group<4>(logits, input_row, 4 * group, output.columns);
  std::uint32_t states = 0;
  if constexpr (gaussian) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      states |= sample_gaussian(a.unit[i], logits.deviation, random.word[i]) << (8 * i);
    }
  } else {
    states = states_of(a.unit, random);
  }
  states = existing(states, left);
  *reinterpret_cast<std::uint32_t*>(output.data + row * output.stride + 4 * group) = states;
  std::int64_t log_probability = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (i >= left) break;
    const std::uint32_t state = states >> (8 * i) & 0xFFu;
    if constexpr (scored) log_probability += log_probability_of_state(logits, state, a.unit[i]);
    if (errors.data != nullptr)
      errors.data[row * errors.stride + 4 * group + i] = error_of_state(logits, state, a.unit[i]);
  }
  return log_probability;
}

/// Samples of Bernoulli units of which nothing else is asked. A thread has four units of several rows, which
/// lie a block's height apart: what the rows have in common is read and computed once, and all their sums are
/// on their way before the first is used. `alone`: every input row has one output row and one step.
template <int rows_of_thread, bool alone>
__global__ void draw_states_kernel(Logits logits, std::int64_t rows_per_input, Draw draw,
                                   std::int64_t samples, States output) {
  const auto units = static_cast<std::uint32_t>(output.columns);
  const auto rows = static_cast<std::uint32_t>(output.rows);
  const BlockPlace block = last_first((units + 4 * warp_lanes - 1) / (4 * warp_lanes));
  const std::uint32_t first_unit = 4 * (block.across * warp_lanes + threadIdx.x);
  const std::uint32_t first_row = block.down * (block_warps * rows_of_thread) + threadIdx.y;
  if (first_unit >= units) return;
  std::uint32_t input_row[rows_of_thread];
#pragma unroll
  for (int i = 0; i < rows_of_thread; ++i) {
    const std::uint32_t row = first_row + i * block_warps;
    input_row[i] = row < rows ? row : rows - 1;
    if constexpr (!alone) input_row[i] /= static_cast<std::uint32_t>(rows_per_input);
  }
  Several<std::int32_t, 4> sums[rows_of_thread][1];
  load_sums(logits, input_row, first_unit, sums);
  const UnitGroup<4> group = unit_group<4>(logits, first_unit, units);
  const std::uint32_t exist = existing(0xFFFFFFFFu, units - first_unit);
  RowDraws draws = row_draws(draw, samples, first_unit / 4);
  if constexpr (alone) draws.samples = 0;
  std::uint8_t* states = output.data + first_row * output.stride + first_unit;
  const std::int64_t apart = block_warps * output.stride;
#pragma unroll
  for (int i = 0; i < rows_of_thread; ++i) {
    const std::uint32_t row = first_row + i * block_warps;
    if (row >= rows) return;
    const PhiloxBlock random = draws.of_row(row);
    float a[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) a[j] = pre_activation(sums[i][0].element[j], group.scale[j], group.bias[j]);
    *reinterpret_cast<std::uint32_t*>(states) = states_of(a, random) & exist;
    states += apart;
  }
}

/// A kernel of its own for Bernoulli units, which then keep the registers that Gaussian ones would take.
template <bool scored, bool gaussian>
__global__ void sample_kernel(Logits logits, std::int64_t rows_per_input, Draw draw, std::int64_t samples,
                              States output, ScoreSink sink, Matrix<float> errors) {
  if constexpr (!gaussian) logits.deviation = 0.0f;
  const auto [row, group] = position();
  std::int64_t log_probability = 0;
  if (row < output.rows && 4 * group < output.columns) {
    const PhiloxBlock random = random_block(draw, row, samples, group);
    const std::int64_t input_row =
        rows_per_input == 1 ? row
                            : static_cast<std::uint32_t>(row) /
                                  static_cast<std::uint32_t>(rows_per_input);  // rows are below 2^31
    log_probability = sample_group<scored, gaussian>(logits, input_row, random, output, errors, row, group);
  }
  if constexpr (scored) add_to_sink(sink, row, output.rows, log_probability);
}

__global__ void keep_logits_kernel(Logits logits, Matrix<float> kept) {
  const auto [row, group] = position();
  if (row >= kept.rows || 4 * group >= kept.columns) return;
  const LogitGroup<4> a = logit_group<4>(logits, row, 4 * group, kept.columns);
  for (int i = 0; i < 4; ++i) {
    if (4 * group + i < kept.columns) kept.data[row * kept.stride + 4 * group + i] = a.unit[i];
  }
}

__global__ void probabilities_kernel(Logits logits, Matrix<float> probabilities) {
  const auto [row, group] = position();
  if (row >= probabilities.rows || 4 * group >= probabilities.columns) return;
  const LogitGroup<4> a = logit_group<4>(logits, row, 4 * group, probabilities.columns);
  for (int i = 0; i < 4; ++i) {
    const std::int64_t unit = 4 * group + i;
    if (unit < probabilities.columns) {
      probabilities.data[row * probabilities.stride + unit] =
          logits.deviation > 0.0f ? mean_in_range(a.unit[i]) : sigmoid(a.unit[i]);
    }
  }
}

}  // namespace

void sample(cudaStream_t stream, const Logits& logits, std::int64_t rows_per_input, const Draw& draw,
            std::int64_t samples, States output, const ScoreSink& sink, Matrix<float> errors) {
  const bool gaussian = logits.deviation > 0.0f;
  if (!gaussian && !has_sink(sink) && errors.data == nullptr && logits.kept.data == nullptr) {
    const std::int64_t groups = (output.columns + 3) / 4;
    const bool alone = rows_per_input == 1 && draw.samples != SampleAddress::step;
    const bool several = output.rows * groups >= enough_threads;
    constexpr int rows_of_thread = 4;
    const auto kernel =
        several
            ? (alone ? draw_states_kernel<rows_of_thread, true> : draw_states_kernel<rows_of_thread, false>)
            : (alone ? draw_states_kernel<1, true> : draw_states_kernel<1, false>);
    const std::int64_t rows = several ? (output.rows + rows_of_thread - 1) / rows_of_thread : output.rows;
    launch(kernel, over_rows_last_first(rows, groups), stream, logits, rows_per_input, draw, samples, output);
    return;
  }
  const auto kernel = has_sink(sink) ? (gaussian ? sample_kernel<true, true> : sample_kernel<true, false>)
                                     : (gaussian ? sample_kernel<false, true> : sample_kernel<false, false>);
  launch(kernel, over_rows(output.rows, (output.columns + 3) / 4), stream, logits, rows_per_input, draw,
         samples, output, sink, errors);
}

void keep_logits(cudaStream_t stream, const Logits& logits, Matrix<float> kept) {
  launch(keep_logits_kernel, over_rows(kept.rows, (kept.columns + 3) / 4), stream, logits, kept);
}

void probabilities(cudaStream_t stream, const Logits& logits, Matrix<float> probabilities) {
  launch(probabilities_kernel, over_rows(probabilities.rows, (probabilities.columns + 3) / 4), stream, logits,
         probabilities);
}

}  // namespace wakesleep::cuda
