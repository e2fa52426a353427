// The calling thread's current device.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/check.hpp"

namespace wakesleep::cuda {

/// Makes a device the calling thread's current one and restores the previous one.
class CurrentDevice {
 public:
  explicit CurrentDevice(int ordinal) : ordinal_(ordinal) {
    WAKESLEEP_CUDA_CHECK(cudaGetDevice(&previous_));
    if (previous_ != ordinal_) WAKESLEEP_CUDA_CHECK(cudaSetDevice(ordinal_));
  }
  ~CurrentDevice() {
    if (previous_ != ordinal_) WAKESLEEP_CUDA_REPORT(cudaSetDevice(previous_));
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int ordinal_;
  int previous_ = 0;
};

}  // namespace wakesleep::cuda
