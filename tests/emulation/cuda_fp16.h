// Stands in for NVIDIA's header of this name: fp16 numbers that carry integers, which is all that the engine
// uses them for. An integer that fp16 does not hold exactly ends the program.
#pragma once

#include "cuda_runtime.h"

struct __half {
  std::uint16_t bits;
};

inline __half __int2half_rn(int value) {
  const std::uint32_t magnitude = static_cast<std::uint32_t>(value < 0 ? -value : value);
  if (magnitude > 2048) emulation::fail("an integer above 2048 was stored in fp16");
  if (magnitude == 0) return {0};
  int exponent = 0;
  while (magnitude >> (exponent + 1) != 0) ++exponent;
  const std::uint32_t fraction = (exponent <= 10 ? magnitude << (10 - exponent) : magnitude >> 1) & 0x3FFu;
  return {static_cast<std::uint16_t>((value < 0 ? 0x8000u : 0u) |
                                     (static_cast<std::uint32_t>(exponent + 15) << 10) | fraction)};
}

inline int __half2int_rn(__half half) {
  const int exponent = (half.bits >> 10) & 31;
  if (exponent == 0) {
    if ((half.bits & 0x3FFu) != 0) emulation::fail("an fp16 number is not an integer: it is subnormal");
    return 0;
  }
  const int fraction = 1024 + (half.bits & 0x3FF);
  const int shift = 25 - exponent;
  if (exponent == 31 || shift > 10 || (shift > 0 && fraction % (1 << shift) != 0)) {
    emulation::fail("an fp16 number that was to be read as an integer is none");
  }
  const int value = shift > 0 ? fraction >> shift : fraction << -shift;
  return half.bits >> 15 != 0 ? -value : value;
}

inline __half __float2half(float value) { return __int2half_rn(static_cast<int>(value)); }
