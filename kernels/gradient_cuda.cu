// What the integer gradient needs beside its product (kernels/cuda/product.cu): transposed operands, since
// the sum runs over rows and products want their summed dimension contiguous, the bias gradient, and what an
// autoregressive prior leaves out.
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/several.cuh"

namespace wakesleep::cuda {
namespace {

inline constexpr int tile = 64;
inline constexpr int tile_threads = 16;  ///< in each direction; every thread moves four elements at a time

/// A tile of 64 x 64 is read along the rows of the matrix and written along its columns. The rows of the tile
/// in shared memory are one word longer than they need to be, which spreads its columns over the banks.
template <class Element>
__global__ void transpose_kernel(Matrix<const std::int8_t> matrix, Element* transposed,
                                 std::int64_t columns_padded, std::int64_t rows_padded) {
  __shared__ std::int8_t bytes[tile][tile + 4];
  const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.x) * tile;
  const std::int64_t first_column = static_cast<std::int64_t>(blockIdx.y) * tile;
  const int four = static_cast<int>(4 * threadIdx.x);

  for (int i = static_cast<int>(threadIdx.y); i < tile; i += tile_threads) {
    const std::int64_t row = first_row + i;
    const std::int64_t column = first_column + four;
    // Rows are whole 64-byte lines, so a tile never reaches beyond the line that holds its last column.
    const std::uint32_t read =
        row < matrix.rows && column < matrix.columns
            ? *reinterpret_cast<const std::uint32_t*>(matrix.data + row * matrix.stride + column)
            : 0u;
    for (int j = 0; j < 4; ++j) {
      bytes[i][four + j] =
          column + j < matrix.columns ? static_cast<std::int8_t>(read >> (8 * j)) : std::int8_t{0};
    }
  }
  __syncthreads();
  for (int j = static_cast<int>(threadIdx.y); j < tile; j += tile_threads) {
    const std::int64_t column = first_column + j;
    const std::int64_t row = first_row + four;
    if (column >= columns_padded || row >= rows_padded) continue;
    Several<Element, 4> written;
    for (int i = 0; i < 4; ++i) written.element[i] = as_element<Element>(bytes[four + i][j]);
    store(transposed + column * rows_padded + row, written);
  }
}

__global__ void keep_below_diagonal_kernel(std::int32_t* gradient, std::int64_t units) {
  const auto [row, column] = position();
  if (row < units && column >= row && column < units) gradient[row * units + column] = 0;
}

Shape over_tiles(std::int64_t rows, std::int64_t columns) {
  return {dim3(blocks_for(rows, tile, 2147483647), blocks_for(columns, tile, 65535)),
          dim3(tile_threads, tile_threads)};
}

}  // namespace

void transpose(cudaStream_t stream, Matrix<const std::int8_t> matrix, CudaRoute route, void* transposed,
               std::int64_t columns_padded, std::int64_t rows_padded) {
  const Shape shape = over_tiles(rows_padded, columns_padded);
  if (route == CudaRoute::int8) {
    launch(transpose_kernel<std::int8_t>, shape, stream, matrix, static_cast<std::int8_t*>(transposed),
           columns_padded, rows_padded);
  } else {
    launch(transpose_kernel<__half>, shape, stream, matrix, static_cast<__half*>(transposed), columns_padded,
           rows_padded);
  }
}

void keep_below_diagonal(cudaStream_t stream, std::int32_t* gradient, std::int64_t units) {
  launch(keep_below_diagonal_kernel, over_rows(units, units), stream, gradient, units);
}

void bias_gradient(cudaStream_t stream, ConstDeltas deltas, std::int32_t* bias_gradient) {
  WAKESLEEP_CUDA_CHECK(cudaMemsetAsync(
      bias_gradient, 0, static_cast<std::size_t>(deltas.columns) * sizeof(std::int32_t), stream));
  launch(column_sums_kernel<std::int8_t, std::int32_t>, over_column_sums(deltas.rows, deltas.columns), stream,
         deltas, bias_gradient);
}

}  // namespace wakesleep::cuda
