// The calling thread's current device.
#pragma once

#include <cuda_runtime.h>

#include <new>

#include "kernels/cuda/check.hpp"

namespace wakesleep::cuda {

/// Whether this process uses the device (cuDevicePrimaryCtxGetState). True where the driver cannot be asked.
bool has_context(int ordinal) noexcept;

/// Makes a device the calling thread's current one, and restores the previous one if this process uses that:
/// to make a device current is to open a context on it, hundreds of megabytes on a GPU that nobody asked for,
/// and an error where another process has that GPU to itself.
class CurrentDevice {
 public:
  explicit CurrentDevice(int ordinal) { WAKESLEEP_CUDA_CHECK(make_current(ordinal)); }
  /// For destructors: a failure is reported on the standard error stream.
  CurrentDevice(int ordinal, std::nothrow_t) noexcept { WAKESLEEP_CUDA_REPORT(make_current(ordinal)); }
  ~CurrentDevice() {
    if (restores_) WAKESLEEP_CUDA_REPORT(cudaSetDevice(previous_));
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  cudaError_t make_current(int ordinal) noexcept {
    const cudaError_t error = cudaGetDevice(&previous_);
    if (error != cudaSuccess || previous_ == ordinal) return error;
    restores_ = has_context(previous_);
    return cudaSetDevice(ordinal);
  }

  int previous_ = 0;
  bool restores_ = false;
};

}  // namespace wakesleep::cuda
