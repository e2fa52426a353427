// Owners of streams and of the events that mark places in them. Their destructors report failures on the
// standard error stream.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/check.hpp"

namespace wakesleep::cuda {

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
  explicit Event(unsigned int flags = cudaEventDisableTiming) {
    WAKESLEEP_CUDA_CHECK(cudaEventCreateWithFlags(&event_, flags));
  }
  ~Event() { WAKESLEEP_CUDA_REPORT(cudaEventDestroy(event_)); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }
  void record(cudaStream_t stream) { WAKESLEEP_CUDA_CHECK(cudaEventRecord(event_, stream)); }
  /// Blocks the calling thread.
  void wait() const { WAKESLEEP_CUDA_CHECK(cudaEventSynchronize(event_)); }
  /// What is queued on the stream from here runs after the marked place; nothing blocks.
  void hold_back(cudaStream_t stream) const { WAKESLEEP_CUDA_CHECK(cudaStreamWaitEvent(stream, event_, 0)); }

 private:
  cudaEvent_t event_ = nullptr;
};

/// The time between two places in a stream, as the device measures it.
class Stopwatch {
 public:
  void start(cudaStream_t stream) { begin_.record(stream); }
  /// Milliseconds. Blocks until everything queued since start() has run.
  float stop(cudaStream_t stream) {
    end_.record(stream);
    end_.wait();
    float milliseconds = 0;
    WAKESLEEP_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, begin_.get(), end_.get()));
    return milliseconds;
  }

 private:
  Event begin_{cudaEventDefault};
  Event end_{cudaEventDefault};
};

}  // namespace wakesleep::cuda
