// Samples of a conditional, their log-probabilities, and the probabilities or means themselves.
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/philox.cuh"
#include "kernels/cuda/score_sink.cuh"

namespace wakesleep::cuda {
namespace {

/// Samples the four units that share one Philox block, and writes their errors where there is room for them.
/// Returns their log-probability if `scored`, else 0.
template <bool scored>
__device__ std::int64_t sample_group(const Logits& logits, std::int64_t input_row, const PhiloxBlock& random,
                                     const States& output, const Matrix<float>& errors, std::int64_t row,
                                     std::int64_t group) {
  std::uint32_t states = 0;
  std::int64_t log_probability = 0;
  const LogitGroup<4> a = logit_group<4>(logits, input_row, 4 * group, output.columns);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (4 * group + i >= output.columns) break;
    const std::uint32_t state = drawn_state(logits, a.unit[i], random.word[i]);
    states |= state << (8 * i);
    if constexpr (scored) log_probability += log_probability_of_state(logits, state, a.unit[i]);
    if (errors.data != nullptr)
      errors.data[row * errors.stride + 4 * group + i] = error_of_state(logits, state, a.unit[i]);
  }
  *reinterpret_cast<std::uint32_t*>(output.data + row * output.stride + 4 * group) = states;
  return log_probability;
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
    log_probability = sample_group<scored>(logits, row / rows_per_input, random, output, errors, row, group);
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
