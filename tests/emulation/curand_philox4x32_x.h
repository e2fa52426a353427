// Stands in for NVIDIA's header of this name: Philox4x32-10 as its authors define it (Salmon, Moraes, Dror,
// Shaw: Parallel Random Numbers: As Easy as 1, 2, 3).
#pragma once

#include "cuda_runtime.h"

#define PHILOX_W32_0 0x9E3779B9u
#define PHILOX_W32_1 0xBB67AE85u
#define PHILOX_M4x32_0 0xD2511F53u
#define PHILOX_M4x32_1 0xCD9E8D57u

inline uint4 curand_Philox4x32_10(uint4 counter, uint2 key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{PHILOX_M4x32_0} * counter.x;
    const std::uint64_t product1 = std::uint64_t{PHILOX_M4x32_1} * counter.z;
    counter = {
        static_cast<unsigned int>(product1 >> 32) ^ counter.y ^ key.x, static_cast<unsigned int>(product1),
        static_cast<unsigned int>(product0 >> 32) ^ counter.w ^ key.y, static_cast<unsigned int>(product0)};
    key.x += PHILOX_W32_0;
    key.y += PHILOX_W32_1;
  }
  return counter;
}
