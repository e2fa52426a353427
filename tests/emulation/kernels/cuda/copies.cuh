// Stands in for kernels/cuda/copies.cuh. Copies arrive at once: that kernels wait for them is not seen here.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

namespace wakesleep::cuda {

inline void begin_copy(void* to, const void* from, bool exist = true) {
  if (exist) {
    std::memcpy(to, from, 16);
  } else {
    std::memset(to, 0, 16);
  }
}
inline void close_group() {}
template <int pending>
void await_groups() {}

/// Calls receive(matrix, rows) for each of four matrices, of which the lanes give the rows.
template <class Receive>
void exchange_matrices(const void* row, const Receive& receive) {
  const auto address = reinterpret_cast<std::uintptr_t>(row);
  ::emulation::exchange(
      {{static_cast<std::uint32_t>(address), static_cast<std::uint32_t>(std::uint64_t{address} >> 32)}},
      [&](const ::emulation::Words* of_lane) {
        for (unsigned int matrix = 0; matrix < 4; ++matrix) {
          const unsigned char* rows[8];
          for (unsigned int i = 0; i < 8; ++i) {
            const std::uint32_t* given = of_lane[8 * matrix + i].word;
            rows[i] = reinterpret_cast<const unsigned char*>(given[0] | std::uint64_t{given[1]} << 32);
          }
          receive(matrix, rows);
        }
      });
}

inline void load_matrices(std::uint32_t (&words)[4], const void* row) {
  const unsigned int lane = ::emulation::lane();
  exchange_matrices(row, [&](unsigned int matrix, const unsigned char* const* rows) {
    std::memcpy(&words[matrix], rows[lane / 4] + 4 * (lane % 4), 4);
  });
}

inline void load_matrices_transposed(std::uint32_t (&words)[4], const void* row) {
  const unsigned int group = ::emulation::lane() / 4;
  const unsigned int member = ::emulation::lane() % 4;
  exchange_matrices(row, [&](unsigned int matrix, const unsigned char* const* rows) {
    unsigned char bytes[4];
    std::memcpy(bytes, rows[2 * member] + 2 * group, 2);
    std::memcpy(bytes + 2, rows[2 * member + 1] + 2 * group, 2);
    std::memcpy(&words[matrix], bytes, 4);
  });
}

}  // namespace wakesleep::cuda
