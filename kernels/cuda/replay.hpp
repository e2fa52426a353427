// A recording on the device, in the one or two forms that it has there.
#pragma once

#include <cuda_runtime.h>

#include <memory>
#include <optional>
#include <string>

#include "kernels/cuda/capture.hpp"
#include "kernels/cuda/program.cuh"
#include "kernels/cuda/stream.hpp"

namespace wakesleep::cuda {

/// A program whose levels lie in the device's memory.
class PersistentKernel {
 public:
  PersistentKernel(Ops& ops, const Draft& draft, int blocks);
  void launch(cudaStream_t stream);

 private:
  Buffer<Level> levels_;
  Buffer<std::uint32_t> arrivals_;
  Program program_;
  int blocks_;
};

/// Runs a recording as a CUDA graph or as one persistent kernel. Where it may choose, it takes both in turn,
/// since they give the same bits, until each has been timed a few times, and then keeps the one whose least
/// time is less.
class Replay {
 public:
  /// Takes the graph over. `why_not_persistent` is empty where the draft is to become a kernel, or where the
  /// wish is a graph.
  Replay(Ops& ops, cudaGraph_t graph, const Draft& draft, int blocks, CudaReplay wish,
         std::string why_not_persistent);

  /// Returns whether it has chosen just now. Blocks while it is still timing.
  bool run(cudaStream_t stream);
  /// Uploads the graph, where it may be used.
  void prepare(cudaStream_t stream) const;
  /// "recordings as a CUDA graph", with the times where both were tried, or why there was nothing to try.
  std::string description() const;

 private:
  enum class Form { graph, persistent };
  void launch(Form form, cudaStream_t stream);
  void time(Form form, cudaStream_t stream);

  Graph graph_;
  std::unique_ptr<PersistentKernel> persistent_;
  std::string why_not_persistent_;
  std::optional<Form> chosen_;
  int runs_ = 0;    ///< while both are tried
  float least_[2];  ///< milliseconds, by form
  std::unique_ptr<Stopwatch> stopwatch_;
};

}  // namespace wakesleep::cuda
