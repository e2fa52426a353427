// Owners of what the CUDA runtime hands out. Their destructors report failures on the standard error stream.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/cuda/check.hpp"
#include "kernels/cuda/interface.hpp"

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

/// A stream that does not wait for the default stream.
class Stream {
 public:
  Stream() { WAKESLEEP_CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~Stream() { WAKESLEEP_CUDA_REPORT(cudaStreamDestroy(stream_)); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t get() const { return stream_; }
  /// Blocks until everything queued before has run.
  void synchronize() const { WAKESLEEP_CUDA_CHECK(cudaStreamSynchronize(stream_)); }

 private:
  cudaStream_t stream_ = nullptr;
};

/// Marks a place in a stream. Waiting for one that was never recorded returns at once.
class Event {
 public:
  Event() { WAKESLEEP_CUDA_CHECK(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming)); }
  ~Event() { WAKESLEEP_CUDA_REPORT(cudaEventDestroy(event_)); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(cudaStream_t stream) { WAKESLEEP_CUDA_CHECK(cudaEventRecord(event_, stream)); }
  void wait() const { WAKESLEEP_CUDA_CHECK(cudaEventSynchronize(event_)); }

 private:
  cudaEvent_t event_ = nullptr;
};

/// Page-locked host memory, from which copies to the device run asynchronously.
class PinnedMemory {
 public:
  explicit PinnedMemory(std::size_t bytes) { WAKESLEEP_CUDA_CHECK(cudaMallocHost(&memory_, bytes)); }
  ~PinnedMemory() { WAKESLEEP_CUDA_REPORT(cudaFreeHost(memory_)); }
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  std::byte* data() const { return static_cast<std::byte*>(memory_); }

 private:
  void* memory_ = nullptr;
};

class BlasHandle {
 public:
  BlasHandle() { WAKESLEEP_CUDA_CHECK(cublasCreate(&handle_)); }
  ~BlasHandle() { WAKESLEEP_CUDA_REPORT(cublasDestroy(handle_)); }
  BlasHandle(const BlasHandle&) = delete;
  BlasHandle& operator=(const BlasHandle&) = delete;
  cublasHandle_t get() const { return handle_; }

 private:
  cublasHandle_t handle_ = nullptr;
};

/// Memory that grows to the largest size it was asked for and never shrinks: operations allocate at the first
/// use of a shape only. Growing frees the old memory, which waits for the device; the contents are lost.
class Workspace {
 public:
  explicit Workspace(Ops& ops) : ops_(&ops) {}

  template <class T>
  T* get(std::int64_t count) {
    const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(T));
    if (bytes > memory_.size()) {
      memory_ = {};  // frees before it allocates
      memory_ = Buffer<std::byte>(*ops_, bytes);
    }
    return reinterpret_cast<T*>(memory_.data());
  }
  void release() { memory_ = {}; }

 private:
  Ops* ops_;
  Buffer<std::byte> memory_;
};

}  // namespace wakesleep::cuda
