// How many rows are sampled at a time where nobody sets a chunk's bytes (generate.hpp, partition.hpp).
#pragma once

#include <algorithm>
#include <cstdint>

namespace wakesleep {

/// At most `rows` and 4096, and no more than 64 MiB hold where a row takes `row_bytes`, but at least 1.
inline std::int64_t chunk_rows_of(std::int64_t rows, std::int64_t row_bytes) {
  constexpr std::int64_t most_rows = 4096;
  constexpr std::int64_t most_bytes = 64 << 20;
  return std::clamp<std::int64_t>(std::min(rows, most_bytes / row_bytes), 1, most_rows);
}

}  // namespace wakesleep
