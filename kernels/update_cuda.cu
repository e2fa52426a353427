// The optimisers' step, elementwise.
#include "kernels/cuda/divergence.cuh"
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/kernels.cuh"

namespace wakesleep::cuda {
namespace {

__global__ void update_kernel(ParameterUpdate update, Optimizer optimizer, const Rates* rates) {
  const auto [row, column] = position();
  if (row >= update.parameters.rows || column >= update.parameters.columns) return;
  float& parameter = update.parameters.data[row * update.parameters.stride + column];
  const std::int64_t index = row * update.parameters.columns + column;
  float first = update.first != nullptr ? update.first[index] : 0.0f;
  float second = update.second != nullptr ? update.second[index] : 0.0f;
  const float updated =
      updated_parameter(parameter, update.gradient[index], update.decayed, optimizer, *rates, first, second);
  parameter = updated;
  if (update.first != nullptr) update.first[index] = first;
  if (update.second != nullptr) update.second[index] = second;
  if (!is_finite(updated)) mark_diverged(update.diverged, update.step);
}

}  // namespace

void update(cudaStream_t stream, const ParameterUpdate& update, const Optimizer& optimizer,
            const Rates* rates) {
  launch(update_kernel, over_rows(update.parameters.rows, update.parameters.columns, 128), stream, update,
         optimizer, rates);
}

}  // namespace wakesleep::cuda
