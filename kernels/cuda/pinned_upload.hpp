// Copies to the device that run beside everything else, from memory that is filled again and again.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "kernels/cuda/pinned_memory.hpp"
#include "kernels/cuda/stream.hpp"

namespace wakesleep::cuda {

class PinnedUpload {
 public:
  explicit PinnedUpload(std::size_t bytes) : memory_(bytes) {}
  /// The copy may still be running.
  ~PinnedUpload() { WAKESLEEP_CUDA_REPORT(cudaEventSynchronize(copied_.get())); }
  PinnedUpload(const PinnedUpload&) = delete;
  PinnedUpload& operator=(const PinnedUpload&) = delete;

  std::size_t bytes() const { return memory_.bytes(); }
  /// Blocks until the latest copy has read the memory.
  std::byte* fill() const {
    copied_.wait();
    return memory_.data();
  }
  /// Queues the copy on a stream of its own, behind what the main stream has been given so far: that may
  /// still read what the copy overwrites.
  void send(void* to, std::size_t bytes, cudaStream_t main, cudaStream_t uploads) {
    called_.record(main);
    called_.hold_back(uploads);
    WAKESLEEP_CUDA_CHECK(cudaMemcpyAsync(to, memory_.data(), bytes, cudaMemcpyHostToDevice, uploads));
    copied_.record(uploads);
  }
  /// What is queued on the stream from here runs after the latest copy.
  void hold_back(cudaStream_t stream) const { copied_.hold_back(stream); }

 private:
  PinnedMemory memory_;
  Event called_;
  Event copied_;
};

}  // namespace wakesleep::cuda
