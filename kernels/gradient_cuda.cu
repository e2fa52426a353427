// The integer gradient: in one kernel where it is small, and else what it needs beside its product
// (kernels/cuda/product.cu): transposed operands, since the sum runs over rows and products want their summed
// dimension contiguous, and the bias gradient; and what an autoregressive prior leaves out.
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/four_by_four.cuh"
#include "kernels/cuda/gradient_tile.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/last_block.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/several.cuh"

namespace wakesleep::cuda {
namespace {

constexpr int tile_rows = 128;                             ///< that a block takes,
constexpr int tile_columns = 64;                           ///< and its columns
constexpr int row_groups = tile_rows / 4;                  ///< of four
constexpr int column_groups = tile_columns / 4;            ///< likewise
constexpr int rows_apart = block_threads / column_groups;  ///< groups from a thread's first to its second
constexpr int reads = row_groups / rows_apart;             ///< groups of rows that a thread reads
static_assert(row_groups == warp_lanes && 2 * column_groups == warp_lanes,
              "a warp writes whole columns of a tile, and half a warp reads whole rows of it");

/// Where sums over the rows of a column go.
struct ColumnSums {
  std::int32_t* result = nullptr;     ///< null: nowhere
  std::int32_t* partial = nullptr;    ///< zeros, before and after
  std::uint32_t* arrivals = nullptr;  ///< of blocks, for each column of tiles; zeros likewise
};

/// A matrix in tiles, numbered down its rows first, and where its transposed copy goes.
template <class Element>
struct Tiles {
  ConstDeltas matrix;
  Element* copy = nullptr;   ///< [columns x rows], each padded to 16; null: none is made
  std::int64_t columns = 0;  ///< of the matrix, padded
  std::int64_t rows = 0;     ///< likewise
  unsigned int down = 0;     ///< tiles
  std::int64_t count = 0;    ///< of tiles
};

template <class Element>
Tiles<Element> tiles_of(const ConstDeltas& matrix, void* copy) {
  constexpr std::int64_t limit = 2147483647;
  const unsigned int down = blocks_for(matrix.rows, tile_rows, limit);
  const unsigned int across = blocks_for(matrix.columns, tile_columns, limit);
  return {matrix, static_cast<Element*>(copy), padded_to_16(matrix.columns), padded_to_16(matrix.rows),
          down,   std::int64_t{down} * across};
}

/// Adds up what the blocks of a column of tiles have of its columns. Partial sums and arrivals are zeros
/// again when the last of them has gone, so that nothing needs to be cleared first.
__device__ void add_column_sums(const ColumnSums& column_sums, unsigned int down,
                                std::int64_t column_of_tiles, std::int64_t own_column, bool has_column,
                                std::int32_t sum) {
  if (down == 1) {
    if (has_column) column_sums.result[own_column] = sum;
    return;
  }
  if (has_column) atomic_add(column_sums.partial + own_column, sum);
  if (!is_last_block(column_sums.arrivals + column_of_tiles, down)) return;
  if (has_column) column_sums.result[own_column] = atomicExch(column_sums.partial + own_column, 0);
}

/// A block for every tile: first those of the deltas, whose columns it adds up unless there is nowhere for
/// the sums to go, then those of the states. A thread reads four bytes of each of four rows, twice, all of them
/// before it uses the first.
///
/// In between, a word holds four rows of a column, a column has 32 neighbouring words, and groups of four
/// columns are 130 words apart: two more than they need, so that half a warp, which has 16 groups of columns,
/// writes to every second bank, and the other half, one group of rows further on, to the banks between.
template <class Element>
__global__ void transpose_kernel(const Tiles<Element> deltas, const Tiles<Element> states,
                                 ColumnSums column_sums) {
  __shared__ std::uint32_t words[column_groups][4 * row_groups + 2];
  const bool of_deltas = blockIdx.x < deltas.count;
  const Tiles<Element> tiles = of_deltas ? deltas : states;
  // Grids have fewer than 2^31 blocks, and divisions of 64 bits take long.
  const unsigned int number = blockIdx.x - static_cast<unsigned int>(of_deltas ? 0 : deltas.count);
  const std::int64_t first_row = std::int64_t{number % tiles.down} * tile_rows;
  const std::int64_t first_column = std::int64_t{number / tiles.down} * tile_columns;
  const int thread = static_cast<int>(threadIdx.x);

  const int along = thread % column_groups;
  const int group_read = thread / column_groups;
  const std::int64_t column_read = first_column + 4 * along;
  FourBytesOfRows four[reads] = {};
  if (column_read < tiles.matrix.columns) {
#pragma unroll
    for (int k = 0; k < reads; ++k) {
      four[k] = four_rows(tiles.matrix, first_row + 4 * (group_read + k * rows_apart), column_read);
    }
  }
#pragma unroll
  for (int k = 0; k < reads; ++k) {
    const FourByFour columns = transposed(four[k]);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      words[along][row_groups * i + group_read + k * rows_apart] =
          column_read + i < tiles.matrix.columns ? columns.column[i] : 0u;
    }
  }
  __syncthreads();

  const int lane = thread % warp_lanes;
  const std::int64_t row_written = first_row + 4 * lane;
  if (tiles.copy != nullptr && row_written < tiles.rows) {
#pragma unroll
    for (int k = 0; k < tile_columns / block_warps; ++k) {
      const int own = thread / warp_lanes + k * block_warps;
      const std::int64_t column = first_column + own;
      if (column >= tiles.columns) break;
      const std::uint32_t word = words[own / 4][row_groups * (own % 4) + lane];
      Several<Element, 4> written;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        written.element[j] = as_element<Element>(static_cast<std::int8_t>(word >> (8 * j) & 0xFFu));
      }
      store(tiles.copy + column * tiles.rows + row_written, written);
    }
  }

  if (!of_deltas || column_sums.result == nullptr) return;
  const std::int64_t own_column = first_column + thread;
  const bool has_column = thread < tile_columns && own_column < tiles.matrix.columns;
  std::int32_t sum = 0;
  if (has_column) {
#pragma unroll 8
    for (int i = 0; i < row_groups; ++i) {
      // The lanes of a warp read from different banks.
      const int group = (i + 8 * (thread % 4) + thread / 16 % 2) % row_groups;
      sum = plus_bytes(sum, words[thread / 4][row_groups * (thread % 4) + group]);
    }
  }
  add_column_sums(column_sums, tiles.down, number / tiles.down, own_column, has_column, sum);
}

template <class Element>
void transpose_tiles(cudaStream_t stream, const Tiles<Element>& deltas, const Tiles<Element>& states,
                     const ColumnSums& column_sums) {
  const Shape shape = {dim3(blocks_for(deltas.count + states.count, 1, 2147483647)), dim3(block_threads)};
  launch(transpose_kernel<Element>, shape, stream, deltas, states, column_sums);
}

template <class Tiling>
__global__ void __launch_bounds__(Tiling::threads, 512 / Tiling::threads)
    small_gradient_kernel(ConstDeltas deltas, ConstStates states, std::int32_t* gradient,
                          std::int32_t* bias_gradient, bool fours) {
  __shared__ GradientMemory<Tiling> memory;
  const auto units = static_cast<std::int32_t>(deltas.columns);
  const auto sending = static_cast<std::int32_t>(states.columns);
  const GradientPlace<Tiling> place(sending);
  const Gradient<Tiling> tile = gradient_of_tile(deltas, states, place, memory);
#pragma unroll
  for (int i = 0; i < Tiling::down; ++i) {
#pragma unroll
    for (int odd = 0; odd < 2; ++odd) {
      const std::int32_t unit = place.unit(i, odd);
      if (place.sums_biases) {
        const std::int32_t sum = tile.bias_sum(i, odd);
        if (bias_gradient != nullptr && place.member == 0 && unit < units) bias_gradient[unit] = sum;
      }
#pragma unroll
      for (int j = 0; j < Tiling::across; ++j) {
        const std::int32_t first = place.sending(j);
        const std::int32_t left = unit < units ? sending - first : 0;
        if (left > 0) store_four(gradient + (unit * sending + first), tile.four(i, j, odd), left, fours);
      }
    }
  }
}

__global__ void keep_below_diagonal_kernel(std::int32_t* gradient, std::int64_t units) {
  const auto [row, column] = position();
  if (row < units && column >= row && column < units) gradient[row * units + column] = 0;
}

}  // namespace

std::int64_t column_sums_count(std::int64_t columns) {
  return columns + (columns + tile_columns - 1) / tile_columns;
}

void transpose(cudaStream_t stream, CudaRoute route, ConstDeltas deltas, void* transposed_deltas,
               ConstStates states, void* transposed_states, std::int32_t* bias_gradient,
               std::int32_t* zeros) {
  // States are at most 127, which signed bytes hold as well.
  const ConstDeltas signed_states = {reinterpret_cast<const std::int8_t*>(states.data), states.rows,
                                     states.columns, states.stride};
  const ColumnSums column_sums = {bias_gradient, zeros,
                                  reinterpret_cast<std::uint32_t*>(zeros + deltas.columns)};
  if (route == CudaRoute::int8) {
    transpose_tiles(stream, tiles_of<std::int8_t>(deltas, transposed_deltas),
                    tiles_of<std::int8_t>(signed_states, transposed_states), column_sums);
  } else {
    transpose_tiles(stream, tiles_of<__half>(deltas, transposed_deltas),
                    tiles_of<__half>(signed_states, transposed_states), column_sums);
  }
}

bool gradient_is_small(CudaRoute route, std::int64_t rows, std::int64_t receiving, std::int64_t sending) {
  // As of fits_one_kernel: a thousand rows and units each way; a block sums all rows from end to end.
  constexpr std::int64_t most = std::int64_t{1} << 31;
  constexpr std::int64_t most_rows = 4096;
  if (route != CudaRoute::int8 || rows > most_rows || receiving == 0 || sending == 0) return false;
  return rows * padded_to_16(receiving) <= most / padded_units(sending);
}

void small_gradient(cudaStream_t stream, ConstDeltas deltas, ConstStates states, std::int32_t* gradient,
                    std::int32_t* bias_gradient) {
  const bool fours = states.columns % 4 == 0 && fours_aligned(gradient);
  with_gradient_tiling(deltas.columns, states.columns, [&](auto tiling, const Shape& shape) {
    launch(small_gradient_kernel<decltype(tiling)>, shape, stream, deltas, states, gradient, bias_gradient,
           fours);
  });
}

void keep_below_diagonal(cudaStream_t stream, std::int32_t* gradient, std::int64_t units) {
  launch(keep_below_diagonal_kernel, over_rows(units, units), stream, gradient, units);
}

}  // namespace wakesleep::cuda
