// Log-probabilities of given states under a conditional.
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/score_sink.cuh"

namespace wakesleep::cuda {
namespace {

/// One warp adds up 128 units of one row, four to a thread. The errors may take the place of kept logits:
/// each is written by the thread that has read the logit.
__global__ void score_kernel(Logits logits, std::int64_t rows, std::int64_t rows_per_input,
                             ConstStates target, std::int64_t rows_per_target, ScoreSink sink,
                             Matrix<float> errors) {
  const auto [row, group] = position();
  std::int64_t log_probability = 0;
  if (row < rows && 4 * group < target.columns) {
    const std::uint8_t* states = target.data + (row / rows_per_target) * target.stride;
    const LogitGroup<4> a = logit_group<4>(logits, row / rows_per_input, 4 * group, target.columns);
    for (int i = 0; i < 4; ++i) {
      const std::int64_t unit = 4 * group + i;
      if (unit >= target.columns) break;
      log_probability += log_probability_of_state(logits, states[unit], a.unit[i]);
      if (errors.data != nullptr)
        errors.data[row * errors.stride + unit] = error_of_state(logits, states[unit], a.unit[i]);
    }
  }
  add_to_sink(sink, row, rows, log_probability);
}

}  // namespace

void score(cudaStream_t stream, const Logits& logits, std::int64_t rows, std::int64_t rows_per_input,
           ConstStates target, std::int64_t rows_per_target, const ScoreSink& sink, Matrix<float> errors) {
  if (!has_sink(sink) && errors.data == nullptr) return;
  launch(score_kernel, over_rows(rows, (target.columns + 3) / 4), stream, logits, rows, rows_per_input,
         target, rows_per_target, sink, errors);
}

}  // namespace wakesleep::cuda
