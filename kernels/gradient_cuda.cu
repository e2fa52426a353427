// What the integer gradient needs beside its product (kernels/cuda/product.cu): transposed operands, since
// the sum runs over rows and products want their summed dimension contiguous, the bias gradient, and what an
// autoregressive prior leaves out.
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/four_by_four.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/last_block.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/several.cuh"

namespace wakesleep::cuda {
namespace {

inline constexpr int tile = 64;         ///< rows and columns that a block takes
inline constexpr int fours = tile / 4;  ///< groups of four of them
static_assert(fours * fours == block_threads && fours == warp_lanes / 2,
              "every thread has 4 x 4 bytes, and a warp has two times all groups of one direction");

/// Where sums over the rows of a column go.
struct ColumnSums {
  std::int32_t* result = nullptr;     ///< null: nowhere
  std::int32_t* partial = nullptr;    ///< zeros, before and after
  std::uint32_t* arrivals = nullptr;  ///< of blocks, for each column of tiles; zeros likewise
};

/// A matrix in tiles of 64 x 64, numbered down its rows first, and where its transposed copy goes.
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
  const unsigned int down = blocks_for(matrix.rows, tile, limit);
  const unsigned int across = blocks_for(matrix.columns, tile, limit);
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
/// the sums to go, then those of the states. A thread reads four bytes of four rows, so that half a warp
/// reads whole rows of the tile, and writes four rows of four columns, so that half a warp writes whole
/// columns of it.
///
/// In between, a word holds four rows of a column, a column has 16 neighbouring words, and groups of four
/// columns are 66 words apart. They need 64; two more bring the lanes of a warp to 32 different banks.
/// Writing, lanes have 16 groups of columns, in every second bank, and the halves of a warp neighbouring
/// groups of rows, one bank apart. Reading, half a warp has the 16 words of a column, and the other half
/// those of the column 8 groups on, 8 * 66 = 16 (mod 32) banks away.
template <class Element>
__global__ void transpose_kernel(const Tiles<Element> deltas, const Tiles<Element> states,
                                 ColumnSums column_sums) {
  __shared__ std::uint32_t words[fours][4 * fours + 2];
  const bool of_deltas = blockIdx.x < deltas.count;
  const Tiles<Element> tiles = of_deltas ? deltas : states;
  // Grids have fewer than 2^31 blocks, and divisions of 64 bits take long.
  const unsigned int number = blockIdx.x - static_cast<unsigned int>(of_deltas ? 0 : deltas.count);
  const std::int64_t first_row = std::int64_t{number % tiles.down} * tile;
  const std::int64_t first_column = std::int64_t{number / tiles.down} * tile;
  const int thread = static_cast<int>(threadIdx.x);
  const int along = thread % fours;

  const int rows_read = thread / fours;
  const std::int64_t column_read = first_column + 4 * along;
  FourByFour four = {};
  if (column_read < tiles.matrix.columns) {
    four = transposed(tiles.matrix, first_row + 4 * rows_read, column_read);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    words[along][fours * i + rows_read] = column_read + i < tiles.matrix.columns ? four.column[i] : 0u;
  }
  __syncthreads();

  const int columns_written = thread / warp_lanes + fours / 2 * (thread / fours % 2);
  const std::int64_t row_written = first_row + 4 * along;
  if (tiles.copy != nullptr && row_written < tiles.rows) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::int64_t column = first_column + 4 * columns_written + i;
      if (column >= tiles.columns) break;
      const std::uint32_t word = words[columns_written][fours * i + along];
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
  const bool has_column = thread < tile && own_column < tiles.matrix.columns;
  std::int32_t sum = 0;
  if (has_column) {
#pragma unroll
    for (int rows = 0; rows < fours; ++rows) {
      sum = plus_bytes(sum, words[thread / 4][fours * (thread % 4) + rows]);
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

__global__ void keep_below_diagonal_kernel(std::int32_t* gradient, std::int64_t units) {
  const auto [row, column] = position();
  if (row < units && column >= row && column < units) gradient[row * units + column] = 0;
}

}  // namespace

std::int64_t column_sums_count(std::int64_t columns) { return columns + (columns + tile - 1) / tile; }

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

void keep_below_diagonal(cudaStream_t stream, std::int32_t* gradient, std::int64_t units) {
  launch(keep_below_diagonal_kernel, over_rows(units, units), stream, gradient, units);
}

}  // namespace wakesleep::cuda
