// Memory that operations work in.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/capture.hpp"
#include "kernels/cuda/interface.hpp"

namespace wakesleep::cuda {

/// Memory that grows to the largest size it was asked for and never shrinks: operations allocate at the first
/// use of a shape only. Growing frees the old memory, which waits for the device; the contents are lost.
class Workspace {
 public:
  explicit Workspace(Ops& ops) : ops_(&ops) {}

  template <class T>
  T* get(std::int64_t count) {
    const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(T));
    if (bytes > memory_.size()) {
      refuse_while_capturing("more working memory than there is");
      memory_ = {};  // frees before it allocates
      memory_ = Buffer<std::byte>(*ops_, bytes);
    }
    return reinterpret_cast<T*>(memory_.data());
  }

 private:
  Ops* ops_;
  Buffer<std::byte> memory_;
};

}  // namespace wakesleep::cuda
