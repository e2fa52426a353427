// Stream capture: what is queued while it lasts becomes a graph instead of running.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "kernels/cuda/check.hpp"

namespace wakesleep::cuda {

/// Whether the calling thread captures. CUDA then forbids it whatever touches the device directly:
/// allocating, freeing, waiting.
inline thread_local bool this_thread_captures = false;

/// Throws InternalError while the calling thread captures; `what` says what was called for.
inline void refuse_while_capturing(const char* what) {
  if (!this_thread_captures) return;
  throw InternalError(std::string("While operations were being recorded, there was need of ") + what +
                      ", which a recording cannot hold; call the same operations once before recording them");
}

/// A captured graph, ready to be launched.
class Graph {
 public:
  /// Takes the graph over.
  explicit Graph(cudaGraph_t graph) {
    const cudaError_t instantiated = cudaGraphInstantiate(&executable_, graph, 0);
    WAKESLEEP_CUDA_REPORT(cudaGraphDestroy(graph));
    WAKESLEEP_CUDA_CHECK(instantiated);
  }
  ~Graph() { WAKESLEEP_CUDA_REPORT(cudaGraphExecDestroy(executable_)); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  /// Brings what the graph needs to the device, so that the first launch costs no more than the others.
  void upload(cudaStream_t stream) const { WAKESLEEP_CUDA_CHECK(cudaGraphUpload(executable_, stream)); }
  void launch(cudaStream_t stream) const { WAKESLEEP_CUDA_CHECK(cudaGraphLaunch(executable_, stream)); }

 private:
  cudaGraphExec_t executable_ = nullptr;
};

/// Captures a stream, and every stream that waits for it, from construction to end(). Destroyed before that,
/// it throws away what it has captured.
class Capture {
 public:
  explicit Capture(cudaStream_t stream) : stream_(stream) {
    WAKESLEEP_CUDA_CHECK(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
    this_thread_captures = true;
  }
  ~Capture() {
    if (stream_ == nullptr) return;
    this_thread_captures = false;
    cudaGraph_t graph = nullptr;
    // What made the capture fail is on its way as an exception; that ending it fails as well says nothing
    // new.
    if (cudaStreamEndCapture(stream_, &graph) != cudaSuccess) cudaGetLastError();
    if (graph != nullptr) WAKESLEEP_CUDA_REPORT(cudaGraphDestroy(graph));
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  /// The caller owns the graph.
  cudaGraph_t end() {
    const cudaStream_t stream = stream_;
    stream_ = nullptr;
    this_thread_captures = false;
    cudaGraph_t graph = nullptr;
    WAKESLEEP_CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
    return graph;
  }

 private:
  cudaStream_t stream_;
};

}  // namespace wakesleep::cuda
