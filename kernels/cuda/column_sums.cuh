// Integer sums over the rows of a matrix of bytes: bias gradients and counts.
#pragma once

#include <cstdint>

#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/interface.hpp"
#include "kernels/cuda/reduce.cuh"

namespace wakesleep::cuda {

inline constexpr int sum_rows = 1024;               ///< rows that one block adds up
inline constexpr int sum_columns = 4 * warp_lanes;  ///< columns that one block covers, four per thread

/// sums[column] += sum of the column.
template <class Element, class Sum>
__global__ void column_sums_kernel(Matrix<const Element> matrix, Sum* sums) {
  __shared__ std::int32_t partial[block_warps][sum_columns];
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.y) * sum_columns + 4 * threadIdx.x;
  const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.x) * sum_rows;
  std::int32_t sum[4] = {0, 0, 0, 0};
  if (column < matrix.columns) {
    for (std::int64_t row = first_row + threadIdx.y; row < first_row + sum_rows && row < matrix.rows;
         row += block_warps) {
      // Rows are whole 64-byte lines, so four bytes are always there to be read.
      const std::uint32_t four =
          *reinterpret_cast<const std::uint32_t*>(matrix.data + row * matrix.stride + column);
      for (int i = 0; i < 4; ++i) sum[i] += static_cast<Element>((four >> (8 * i)) & 0xFFu);
    }
  }
  for (int i = 0; i < 4; ++i) partial[threadIdx.y][4 * threadIdx.x + i] = sum[i];
  __syncthreads();
  const int thread = static_cast<int>(threadIdx.y * warp_lanes + threadIdx.x);
  const std::int64_t own_column = static_cast<std::int64_t>(blockIdx.y) * sum_columns + thread;
  if (thread >= sum_columns || own_column >= matrix.columns) return;
  std::int32_t total = 0;
  for (int i = 0; i < block_warps; ++i) total += partial[i][thread];
  atomic_add(sums + own_column, static_cast<Sum>(total));
}

inline Shape over_column_sums(std::int64_t rows, std::int64_t columns) {
  return {dim3(blocks_for(rows, sum_rows, 2147483647), blocks_for(columns, sum_columns, 65535)),
          dim3(warp_lanes, block_warps)};
}

}  // namespace wakesleep::cuda
