// Stands in for kernels/cuda/mma.cuh: the same product as plain loops over what the lanes hold.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace wakesleep::cuda {

inline void multiply_add(std::int32_t (&sums)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  const auto byte = [](std::uint32_t word, unsigned int place) {
    return std::int32_t{static_cast<std::int8_t>(word >> (8 * place) & 0xFFu)};
  };
  ::emulation::exchange({{a[0], a[1], a[2], a[3], b[0], b[1]}}, [&](const ::emulation::Words* of_lane) {
    const unsigned int group = ::emulation::lane() / 4;
    const unsigned int member = ::emulation::lane() % 4;
    for (unsigned int i = 0; i < 4; ++i) {
      const unsigned int lower = i / 2;  // row `group` or group + 8
      const unsigned int column = 2 * member + i % 2;
      std::int32_t sum = 0;
      for (unsigned int term = 0; term < 32; ++term) {
        const unsigned int right = term / 16;
        const unsigned int holder = term % 16 / 4;
        sum += byte(of_lane[4 * group + holder].word[2 * right + lower], term % 4) *
               byte(of_lane[4 * column + holder].word[4 + right], term % 4);
      }
      // Padding may hold anything, and its sums leave 32 bits, as they do on a GPU.
      sums[i] =
          static_cast<std::int32_t>(static_cast<std::uint32_t>(sums[i]) + static_cast<std::uint32_t>(sum));
    }
  });
}

}  // namespace wakesleep::cuda
