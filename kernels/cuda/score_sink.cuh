// How kernels that run over rows add log-probabilities to a ScoreSink.
#pragma once

#include <cstdint>

#include "kernels/cuda/interface.hpp"
#include "kernels/cuda/reduce.cuh"

namespace wakesleep::cuda {

inline bool has_sink(const ScoreSink& sink) { return sink.rows != nullptr || sink.total != nullptr; }

/// Adds every thread's log-probability to that of its row and to the total. For launches over_rows() with one
/// warp per row; all threads of the block must call it, those beyond the matrix with a log-probability of 0.
__device__ inline void add_to_sink(const ScoreSink& sink, std::int64_t row, std::int64_t rows,
                                   std::int64_t log_probability) {
  __shared__ std::int64_t of_row[block_warps];
  const std::int64_t sum = warp_reduce(log_probability, Plus{});
  if (threadIdx.x == 0) {
    of_row[threadIdx.y] = sum;
    if (sink.rows != nullptr && row < rows) atomic_add(sink.rows + row, sink.sign * sum);
  }
  __syncthreads();
  if (sink.total == nullptr || threadIdx.x != 0 || threadIdx.y != 0) return;
  std::int64_t of_block = 0;
  for (int i = 0; i < block_warps; ++i) of_block += of_row[i];
  atomic_add(sink.total, of_block);
}

}  // namespace wakesleep::cuda
