// Column sums of deltas: the gradient of the biases. (The weights' gradient is a product:
// kernels/cpu/product.cpp.)
#include "kernels/cpu/instructions.hpp"

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

void sum_columns(const std::int8_t* deltas, std::int64_t rows, std::int64_t stride, std::int64_t units,
                 std::int32_t* sums) {
  for (std::int64_t u = 0; u < units; ++u) sums[u] = 0;
  // 256 rows of magnitude 127 fit a 16-bit sum.
  constexpr std::int64_t rows_in_16_bits = 256;
  constexpr std::int64_t block = 256;
  for (std::int64_t first = 0; first < units; first += block) {
    const std::int64_t count = units - first < block ? units - first : block;
    for (std::int64_t begin = 0; begin < rows; begin += rows_in_16_bits) {
      const std::int64_t end = rows - begin < rows_in_16_bits ? rows : begin + rows_in_16_bits;
      alignas(64) std::int16_t partial[block] = {};
      for (std::int64_t r = begin; r < end; ++r) {
        const std::int8_t* row = deltas + r * stride + first;
        for (std::int64_t u = 0; u < count; ++u) partial[u] = static_cast<std::int16_t>(partial[u] + row[u]);
      }
      for (std::int64_t u = 0; u < count; ++u) sums[first + u] += partial[u];
    }
  }
}

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
