// Rows of bits: one bit per unit, the first unit in the most significant bit of the first byte
// (numpy.packbits).
#pragma once

#include <algorithm>
#include <cstdint>

namespace wakesleep {

constexpr std::int64_t packed_bytes(std::int64_t units) { return units / 8 + (units % 8 != 0 ? 1 : 0); }

/// Packs on(0) .. on(units - 1), asked in this order; unused bits become zero. A byte is written after the
/// eight units in it have been asked for, so grey values may be packed in place.
template <class On>
void pack_bits(std::int64_t units, On&& on, std::uint8_t* packed) {
  for (std::int64_t first = 0; first < units; first += 8) {
    const std::int64_t count = std::min<std::int64_t>(8, units - first);
    unsigned byte = 0;
    for (std::int64_t i = 0; i < count; ++i) byte |= (on(first + i) ? 0x80u : 0u) >> i;
    packed[first / 8] = static_cast<std::uint8_t>(byte);
  }
}

inline bool bit_is_on(const std::uint8_t* packed, std::int64_t unit) {
  return ((packed[unit / 8] >> (7 - unit % 8)) & 1) != 0;
}

}  // namespace wakesleep
