// How often each unit is on.
#include "kernels/cpu/instructions.hpp"

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

void count_columns(const std::uint8_t* states, std::int64_t rows, std::int64_t stride, std::int64_t units,
                   std::int64_t* counts) {
  constexpr std::int64_t rows_in_16_bits = 65535;
  constexpr std::int64_t block = 256;
  for (std::int64_t first = 0; first < units; first += block) {
    const std::int64_t count = units - first < block ? units - first : block;
    for (std::int64_t begin = 0; begin < rows; begin += rows_in_16_bits) {
      const std::int64_t end = rows - begin < rows_in_16_bits ? rows : begin + rows_in_16_bits;
      alignas(64) std::uint16_t partial[block] = {};
      for (std::int64_t r = begin; r < end; ++r) {
        const std::uint8_t* row = states + r * stride + first;
        for (std::int64_t u = 0; u < count; ++u) partial[u] = static_cast<std::uint16_t>(partial[u] + row[u]);
      }
      for (std::int64_t u = 0; u < count; ++u) counts[first + u] += partial[u];
    }
  }
}

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
