// The one place where statuses of CUDA and cuBLAS calls become exceptions.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <cstdio>
#include <string>

#include "wakesleep/error.hpp"

namespace wakesleep::cuda {

/// The call that a status came from, for messages.
struct CallSite {
  const char* call;
  const char* file;
  int line;
};

inline bool succeeded(cudaError_t error) { return error == cudaSuccess; }
inline bool succeeded(cublasStatus_t status) { return status == CUBLAS_STATUS_SUCCESS; }

/// The name that the CUDA documentation uses, and its text.
inline std::string describe(cudaError_t error) {
  return std::string(cudaGetErrorName(error)) + " (" + cudaGetErrorString(error) + ")";
}
inline std::string describe(cublasStatus_t status) { return cublasLtGetStatusName(status); }

/// True for what the state of the machine explains, false for what only a fault in the program does.
inline bool is_device_condition(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorDevicesUnavailable:
    case cudaErrorECCUncorrectable:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorSystemNotReady:
    case cudaErrorSystemDriverMismatch:
      return true;
    default:
      return false;
  }
}
inline bool is_device_condition(cublasStatus_t status) {
  return status == CUBLAS_STATUS_ALLOC_FAILED || status == CUBLAS_STATUS_ARCH_MISMATCH ||
         status == CUBLAS_STATUS_NOT_INITIALIZED;
}

/// "cudaMalloc(&memory, bytes) failed in ops_cuda.cu:12 with cudaErrorMemoryAllocation (out of memory)".
template <class Status>
std::string failure(Status status, const CallSite& site) {
  std::string file = site.file;
  file.erase(0, file.find_last_of('/') + 1);
  return std::string(site.call) + " failed in " + file + ":" + std::to_string(site.line) + " with " +
         describe(status);
}

template <class Status>
[[noreturn]] void throw_failure(Status status, const CallSite& site) {
  cudaGetLastError();  // an error that the device survives must not be reported again by the next call
  if (is_device_condition(status)) {
    throw DeviceError("The GPU cannot be used: " + failure(status, site) +
                      "; free the device or choose another one, or run on the CPU");
  }
  throw InternalError("The CUDA backend failed: " + failure(status, site) +
                      "; an earlier operation may be the cause, which CUDA_LAUNCH_BLOCKING=1 will show");
}

template <class Status>
void check(Status status, const CallSite& site) {
  if (!succeeded(status)) throw_failure(status, site);
}

/// For destructors: reports on the standard error stream instead of throwing.
template <class Status>
void report(Status status, const CallSite& site) noexcept {
  if (succeeded(status)) return;
  cudaGetLastError();  // or the next kernel's launch would be blamed
  try {
    std::fprintf(stderr, "wakesleep: %s\n", failure(status, site).c_str());
  } catch (...) {
    std::fputs("wakesleep: a CUDA call failed, and there is no memory left to say which\n", stderr);
  }
}

}  // namespace wakesleep::cuda

/// Throws DeviceError or InternalError, with file, line, call and error name, unless the call succeeded.
#define WAKESLEEP_CUDA_CHECK(call) ::wakesleep::cuda::check((call), {#call, __FILE__, __LINE__})
/// The same for destructors: never throws.
#define WAKESLEEP_CUDA_REPORT(call) ::wakesleep::cuda::report((call), {#call, __FILE__, __LINE__})
