// Initial weights by addressed draws, where they are kept: nothing is copied from the host.
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/philox.cuh"

namespace wakesleep::cuda {
namespace {

/// One thread for four sending units of one receiving unit, which share a block of random words.
__global__ void draw_weights_kernel(Draw draw, float limit, Matrix<float> weight) {
  const auto [unit, group] = position();
  if (unit >= weight.rows || 4 * group >= weight.columns) return;
  const PhiloxBlock random = random_block(draw, unit, 1, group);
  float* weights = weight.data + unit * weight.stride + 4 * group;
  for (int j = 0; j < 4 && 4 * group + j < weight.columns; ++j) {
    weights[j] = symmetric_uniform(random.word[j]) * limit;
  }
}

}  // namespace

void draw_weights(cudaStream_t stream, const Draw& draw, float limit, Matrix<float> weight) {
  launch(draw_weights_kernel, over_rows(weight.rows, (weight.columns + 3) / 4), stream, draw, limit, weight);
}

}  // namespace wakesleep::cuda
