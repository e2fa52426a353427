// How often each unit is on.
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/kernels.cuh"

namespace wakesleep::cuda {

void count(cudaStream_t stream, ConstStates states, std::int64_t* counts) {
  launch(column_sums_kernel<std::uint8_t, std::int64_t>, over_column_sums(states.rows, states.columns),
         stream, states, counts);
}

}  // namespace wakesleep::cuda
