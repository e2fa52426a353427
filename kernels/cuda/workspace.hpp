// Memory that operations work in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/cuda/capture.hpp"
#include "kernels/cuda/interface.hpp"

namespace wakesleep::cuda {

/// Memory that workspaces have outgrown. A recording holds the addresses at which its operations work, so
/// while there is a recording nothing is freed.
class OutgrownMemory {
 public:
  void take(Buffer<std::byte> memory) {
    if (recordings_ > 0) kept_.push_back(std::move(memory));
  }
  void recording_made() { ++recordings_; }
  /// Once nothing that it queued is running any more.
  void recording_gone() {
    if (--recordings_ == 0) kept_.clear();
  }

 private:
  int recordings_ = 0;
  std::vector<Buffer<std::byte>> kept_;
};

/// Memory that grows to the largest size it was asked for and never shrinks: operations allocate at the first
/// use of a shape only. Growing gives the old memory up, which waits for the device; the contents are lost.
class Workspace {
 public:
  Workspace(Ops& ops, OutgrownMemory& outgrown) : ops_(&ops), outgrown_(&outgrown) {}

  template <class T>
  T* get(std::int64_t count) {
    const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(T));
    if (bytes > memory_.size()) {
      refuse_while_capturing("more working memory than there is");
      outgrown_->take(std::exchange(memory_, {}));  // freed before more is allocated
      memory_ = Buffer<std::byte>(*ops_, bytes);
    }
    return reinterpret_cast<T*>(memory_.data());
  }

 private:
  Ops* ops_;
  OutgrownMemory* outgrown_;
  Buffer<std::byte> memory_;
};

}  // namespace wakesleep::cuda
