// States of a batch from the data set: bits are unpacked, grey values binarized by addressed draws
// or read as fixed point.
#include "kernels/cuda/gather.cuh"
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/kernels.cuh"

namespace wakesleep::cuda {
namespace {

__global__ void gather_kernel(DataRows data, const std::uint32_t* order, const std::uint32_t* first,
                              Draw draw, States states) {
  const auto [row, group] = position();
  if (row >= states.rows || 4 * group >= states.columns) return;
  gather_group(data, order, first, draw, states, row, group);
}

}  // namespace

void gather(cudaStream_t stream, const DataRows& data, const std::uint32_t* order, const std::uint32_t* first,
            const Draw& draw, States states) {
  launch(gather_kernel, over_rows(states.rows, (states.columns + 3) / 4), stream, data, order, first, draw,
         states);
}

}  // namespace wakesleep::cuda
