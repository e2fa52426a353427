// How threads are laid over the rows and columns of a matrix.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.cuh"
#include "wakesleep/error.hpp"

namespace wakesleep::cuda {

inline constexpr int warp_lanes = 32;
inline constexpr int block_threads = 256;
inline constexpr int block_warps = block_threads / warp_lanes;

/// Where there is work for more threads than this, which fill a large device several times, a thread takes
/// more of it.
inline constexpr std::int64_t enough_threads = std::int64_t{1} << 19;

/// ceil(count / per_block) as a grid's extent.
inline unsigned int blocks_for(std::int64_t count, std::int64_t per_block, std::int64_t limit) {
  const std::int64_t blocks = (count + per_block - 1) / per_block;
  if (blocks > limit) {
    throw InternalError("A CUDA kernel was asked for " + std::to_string(blocks) +
                        " blocks in one direction, above the limit of " + std::to_string(limit) +
                        "; use fewer rows or units at a time");
  }
  return static_cast<unsigned int>(blocks);
}

/// One thread per (row, item of the row): threadIdx.x runs along the row, `lanes` of them, threadIdx.y over
/// rows. Rows are the grid's x, whose limit is the larger one.
inline Shape over_rows(std::int64_t rows, std::int64_t items, int lanes = warp_lanes) {
  const int rows_per_block = block_threads / lanes;
  return {dim3(blocks_for(rows, rows_per_block, 2147483647), blocks_for(items, lanes, 65535)),
          dim3(static_cast<unsigned int>(lanes), static_cast<unsigned int>(rows_per_block))};
}

/// The same, with rows of blocks one behind the other, of which a block takes that of last_first(): sums larger
/// than the L2 cache are read from their end on, which the product has written last and the cache still holds.
inline Shape over_rows_last_first(std::int64_t rows, std::int64_t items) {
  const Shape shape = over_rows(rows, items);
  return {dim3(blocks_for(std::int64_t{shape.grid.x} * shape.grid.y, 1, 2147483647)), shape.block};
}
struct BlockPlace {
  std::uint32_t down, across;
};
__device__ inline BlockPlace last_first(std::uint32_t blocks_across) {
  const std::uint32_t index = gridDim.x - 1 - blockIdx.x;
  return {index / blocks_across, index % blocks_across};
}

/// One thread per element.
inline Shape over_elements(std::int64_t count) {
  return {dim3(blocks_for(count, block_threads, 2147483647)), dim3(block_threads)};
}

/// One block of block_threads threads per row.
inline Shape block_per_row(std::int64_t rows) {
  return {dim3(blocks_for(rows, 1, 2147483647)), dim3(block_threads)};
}

/// The calling thread's row and item in a launch over_rows().
struct Position {
  std::int64_t row;
  std::int64_t item;
};
__device__ inline Position position() {
  return {static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y,
          static_cast<std::int64_t>(blockIdx.y) * blockDim.x + threadIdx.x};
}

}  // namespace wakesleep::cuda
