// Whether this program can use a GPU, and what it says about the one it uses.
#pragma once

#include <cuda_runtime.h>

#include <string>

namespace wakesleep::cuda {

cudaDeviceProp properties_of(int ordinal);

/// Why a device cannot be used, in one clause; empty when it can.
std::string why_unusable(int ordinal);

/// "NVIDIA H200, compute capability 9.0, CUDA driver 13.0, runtime 13.0".
std::string description_of(const cudaDeviceProp& properties);

}  // namespace wakesleep::cuda
