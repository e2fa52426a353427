// The order of an epoch: rows sorted by drawn keys.
#include <cub/device/device_radix_sort.cuh>

#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/philox.cuh"

namespace wakesleep::cuda {
namespace {

__global__ void key_kernel(Draw draw, std::int64_t rows, std::uint64_t* keys, std::uint32_t* numbers) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  if (row >= rows) return;
  keys[row] = sorting_key(random_block(draw, row, 1, 0));
  numbers[row] = static_cast<std::uint32_t>(row);
}

/// Keys and row numbers before and after sorting, and what the sort itself works in.
struct SortMemory {
  std::uint64_t* keys = nullptr;
  std::uint64_t* sorted_keys = nullptr;
  std::uint32_t* numbers = nullptr;
  void* sort = nullptr;
};

}  // namespace

void shuffle(cudaStream_t stream, const Draw& draw, std::int64_t rows, std::uint32_t* order,
             Workspace& workspace) {
  SortMemory memory;
  std::size_t sort_bytes = 0;
  const auto sort = [&] {
    // A radix sort is stable and the numbers come in ascending order, so equal keys go by row.
    WAKESLEEP_CUDA_CHECK(cub::DeviceRadixSort::SortPairs(memory.sort, sort_bytes, memory.keys,
                                                         memory.sorted_keys, memory.numbers, order, rows, 0,
                                                         64, stream));
  };
  sort();                                                  // without memory it only says how much it needs
  const std::int64_t rows_padded = (rows + 63) / 64 * 64;  // keeps every part aligned to 256 bytes
  std::byte* bytes = workspace.get<std::byte>(20 * rows_padded + static_cast<std::int64_t>(sort_bytes));
  memory.keys = reinterpret_cast<std::uint64_t*>(bytes);
  memory.sorted_keys = memory.keys + rows_padded;
  memory.numbers = reinterpret_cast<std::uint32_t*>(memory.sorted_keys + rows_padded);
  memory.sort = memory.numbers + rows_padded;
  launch(key_kernel, {dim3(blocks_for(rows, block_threads, 2147483647)), dim3(block_threads)}, stream, draw,
         rows, memory.keys, memory.numbers);
  sort();
}

}  // namespace wakesleep::cuda
