// Page-locked host memory, to and from which copies run beside everything else.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "kernels/cuda/check.hpp"

namespace wakesleep::cuda {

class PinnedMemory {
 public:
  explicit PinnedMemory(std::size_t bytes) : bytes_(bytes) {
    WAKESLEEP_CUDA_CHECK(cudaMallocHost(&memory_, bytes));
  }
  ~PinnedMemory() { WAKESLEEP_CUDA_REPORT(cudaFreeHost(memory_)); }
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  std::byte* data() const { return static_cast<std::byte*>(memory_); }
  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_;
  void* memory_ = nullptr;
};

}  // namespace wakesleep::cuda
