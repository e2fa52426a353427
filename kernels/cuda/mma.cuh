// Products of small tiles of signed bytes by the matrix units.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace wakesleep::cuda {

/// sums += a . b, a of 16 x 32 and b of 32 x 8 signed bytes, spread over the 32 lanes of a warp, all of which
/// must call it. With group = lane / 4 and member = lane % 4, a lane holds (PTX, mma.m16n8k32)
///   a[0], a[2]   row `group` of a, columns 4 member .. 4 member + 3 and, of a[2], 16 further on; in a word,
///                the first column is the lowest byte
///   a[1], a[3]   the same of row group + 8
///   b[0], b[1]   column `group` of b, rows 4 member .. 4 member + 3 and, of b[1], 16 further on
///   sums[0..1]   row `group`, columns 2 member and 2 member + 1
///   sums[2..3]   the same of row group + 8
__device__ inline void multiply_add(std::int32_t (&sums)[4], const std::uint32_t (&a)[4],
                                    const std::uint32_t (&b)[2]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 750
#error "compute capability 7.5 is the lowest that is supported: set CMAKE_CUDA_ARCHITECTURES"
#elif __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  // Compute capability 7.5 has the quarter of it, with the same lanes.
#pragma unroll
  for (int quarter = 0; quarter < 4; ++quarter) {
    const int lower_rows = quarter % 2;
    const int right_columns = quarter / 2;
    asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
                 : "+r"(sums[2 * lower_rows]), "+r"(sums[2 * lower_rows + 1])
                 : "r"(a[2 * right_columns + lower_rows]), "r"(b[right_columns]));
  }
#endif
}

}  // namespace wakesleep::cuda
