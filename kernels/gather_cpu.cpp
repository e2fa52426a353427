// Data rows as states: bits expanded to bytes, grey values binarized by addressed draws or as fixed point;
// and states as bits.
#include "kernels/cpu/instructions.hpp"
#include "kernels/cpu/random_words.hpp"

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

void gather_bits(const std::uint8_t* bits, std::int64_t units, std::uint8_t on, std::uint8_t* states) {
  const std::int64_t whole_bytes = units / 8;
  for (std::int64_t byte = 0; byte < whole_bytes; ++byte) {
    for (int bit = 0; bit < 8; ++bit) {
      states[8 * byte + bit] = static_cast<std::uint8_t>(on & -((bits[byte] >> (7 - bit)) & 1));
    }
  }
  for (std::int64_t u = 8 * whole_bytes; u < units; ++u) {
    states[u] = static_cast<std::uint8_t>(on & -((bits[u / 8] >> (7 - u % 8)) & 1));
  }
}

void pack_bits(const std::uint8_t* states, std::int64_t units, std::int64_t row_bytes, std::uint8_t* bits) {
  for (std::int64_t byte = 0; byte < row_bytes; ++byte) {
    std::uint32_t packed = 0;
    for (std::int64_t u = 8 * byte; u < 8 * byte + 8; ++u) packed = 2 * packed + (u < units ? states[u] : 0u);
    bits[byte] = static_cast<std::uint8_t>(packed);
  }
}

void gather_grey(const std::uint8_t* grey, std::int64_t units, const RowAddress& address,
                 std::uint8_t* states) {
  WordBuffer random;
  for (std::int64_t first = 0; first < units; first += words_at_a_time) {
    const std::int64_t count = units - first < words_at_a_time ? units - first : words_at_a_time;
    random_words(address, first / 4, (count + 3) / 4, random);
    for (std::int64_t i = 0; i < count; ++i)
      states[first + i] = sample_grey(grey[first + i], random.words[i]);
  }
}

void gather_fixed_point(const std::uint8_t* grey, std::int64_t units, std::uint8_t* states) {
  for (std::int64_t u = 0; u < units; ++u) states[u] = fixed_point_of_grey(grey[u]);
}

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
