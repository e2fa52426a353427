// Small copies to the device that neither wait for the stream nor need the caller's memory afterwards.
#pragma once

#include <cstring>

#include "kernels/cuda/pinned_memory.hpp"
#include "kernels/cuda/stream.hpp"

namespace wakesleep::cuda {

/// A ring of page-locked slots. A slot is filled again only after its last copy has run, so a caller waits
/// only when it is `slots` copies ahead of the device.
class StagingRing {
 public:
  static constexpr std::size_t slot_bytes = 65536;
  static constexpr std::size_t slots = 16;

  StagingRing() : memory_(slots * slot_bytes) {}

  /// At most slot_bytes.
  void copy_in(void* to, const void* from_host, std::size_t bytes, cudaStream_t stream) {
    const std::size_t slot = next_;
    next_ = (next_ + 1) % slots;
    copied_[slot].wait();
    std::byte* staged = memory_.data() + slot * slot_bytes;
    std::memcpy(staged, from_host, bytes);
    WAKESLEEP_CUDA_CHECK(cudaMemcpyAsync(to, staged, bytes, cudaMemcpyHostToDevice, stream));
    copied_[slot].record(stream);
  }

 private:
  PinnedMemory memory_;
  Event copied_[slots];
  std::size_t next_ = 0;
};

}  // namespace wakesleep::cuda
