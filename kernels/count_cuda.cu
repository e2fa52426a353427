// How often each unit is on.
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/reduce.cuh"

namespace wakesleep::cuda {
namespace {

inline constexpr int sum_rows = 1024;               ///< rows that one block adds up
inline constexpr int sum_columns = 4 * warp_lanes;  ///< columns that one block covers, four per thread

/// counts[column] += sum of the column.
__global__ void count_kernel(ConstStates states, std::int64_t* counts) {
  __shared__ std::int32_t partial[block_warps][sum_columns];
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.y) * sum_columns + 4 * threadIdx.x;
  const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.x) * sum_rows;
  std::int32_t sum[4] = {0, 0, 0, 0};
  if (column < states.columns) {
    for (std::int64_t row = first_row + threadIdx.y; row < first_row + sum_rows && row < states.rows;
         row += block_warps) {
      // Rows are whole 64-byte lines, so four bytes are always there to be read.
      const std::uint32_t four =
          *reinterpret_cast<const std::uint32_t*>(states.data + row * states.stride + column);
      for (int i = 0; i < 4; ++i) sum[i] += static_cast<std::int32_t>((four >> (8 * i)) & 0xFFu);
    }
  }
  for (int i = 0; i < 4; ++i) partial[threadIdx.y][4 * threadIdx.x + i] = sum[i];
  __syncthreads();
  const int thread = static_cast<int>(threadIdx.y * warp_lanes + threadIdx.x);
  const std::int64_t own_column = static_cast<std::int64_t>(blockIdx.y) * sum_columns + thread;
  if (thread >= sum_columns || own_column >= states.columns) return;
  std::int32_t total = 0;
  for (int i = 0; i < block_warps; ++i) total += partial[i][thread];
  atomic_add(counts + own_column, std::int64_t{total});
}

}  // namespace

void count(cudaStream_t stream, ConstStates states, std::int64_t* counts) {
  const Shape shape = {
      dim3(blocks_for(states.rows, sum_rows, 2147483647), blocks_for(states.columns, sum_columns, 65535)),
      dim3(warp_lanes, block_warps)};
  launch(count_kernel, shape, stream, states, counts);
}

}  // namespace wakesleep::cuda
