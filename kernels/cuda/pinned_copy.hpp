// Copies to the host that nobody waits for until they are looked at.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "kernels/cuda/pinned_memory.hpp"
#include "kernels/cuda/stream.hpp"

namespace wakesleep::cuda {

class PinnedCopy {
 public:
  explicit PinnedCopy(std::size_t bytes) : bytes_(bytes), memory_(bytes) {}
  /// The copy may still be running.
  ~PinnedCopy() { WAKESLEEP_CUDA_REPORT(cudaEventSynchronize(copied_.get())); }
  PinnedCopy(const PinnedCopy&) = delete;
  PinnedCopy& operator=(const PinnedCopy&) = delete;

  void request(const void* from, cudaStream_t stream) {
    WAKESLEEP_CUDA_CHECK(cudaMemcpyAsync(memory_.data(), from, bytes_, cudaMemcpyDeviceToHost, stream));
    copied_.record(stream);
    requested_ = true;
  }
  /// Null if nothing was requested. Blocks until the latest copy has run.
  const void* result() const {
    if (!requested_) return nullptr;
    copied_.wait();
    return memory_.data();
  }

 private:
  std::size_t bytes_;
  PinnedMemory memory_;
  Event copied_;
  bool requested_ = false;
};

}  // namespace wakesleep::cuda
