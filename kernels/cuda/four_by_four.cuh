// Matrices of bytes hold the units of a row side by side; sums over rows want the rows of a unit side by
// side.
#pragma once

#include <cstdint>

#include "kernels/cuda/interface.hpp"

namespace wakesleep::cuda {

/// Four neighbouring columns of four rows of bytes: a word for each column, whose lowest byte is the first
/// row.
struct FourByFour {
  std::uint32_t column[4];
};

/// Four bytes of each of four rows.
struct FourBytesOfRows {
  std::uint32_t row[4];
};

/// Those from `row` and `column` on, a multiple of 4 below the stride. Rows are whole 64-byte lines, so four
/// bytes are always there to be read; columns behind the last are whatever the padding holds. Rows behind the
/// last are zeros.
template <class Byte>
__device__ FourBytesOfRows four_rows(const Matrix<const Byte>& matrix, std::int64_t row,
                                     std::int64_t column) {
  static_assert(sizeof(Byte) == 1);
  FourBytesOfRows four;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    four.row[i] =
        row + i < matrix.rows
            ? *reinterpret_cast<const std::uint32_t*>(matrix.data + (row + i) * matrix.stride + column)
            : 0u;
  }
  return four;
}

__device__ inline FourByFour transposed(const FourBytesOfRows& four) {
  const std::uint32_t(&rows)[4] = four.row;
  // In a selector the lowest digit picks the lowest byte: 0 to 3 from the first word, 4 to 7 from the second.
  const std::uint32_t first_pair = __byte_perm(rows[0], rows[1], 0x5140);
  const std::uint32_t first_pair_high = __byte_perm(rows[0], rows[1], 0x7362);
  const std::uint32_t second_pair = __byte_perm(rows[2], rows[3], 0x5140);
  const std::uint32_t second_pair_high = __byte_perm(rows[2], rows[3], 0x7362);
  return {{__byte_perm(first_pair, second_pair, 0x5410), __byte_perm(first_pair, second_pair, 0x7632),
           __byte_perm(first_pair_high, second_pair_high, 0x5410),
           __byte_perm(first_pair_high, second_pair_high, 0x7632)}};
}

/// sum + the four signed bytes of a word.
__device__ inline std::int32_t plus_bytes(std::int32_t sum, std::uint32_t word) {
  return __dp4a(static_cast<int>(word), 0x01010101, sum);
}

}  // namespace wakesleep::cuda
