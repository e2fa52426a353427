// A line of operations that run in the order in which they are queued.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/product.cuh"
#include "kernels/cuda/stream.hpp"
#include "kernels/cuda/workspace.hpp"

namespace wakesleep::cuda {

/// The main line and each branch is a lane, with a stream and working memory of its own, so that what runs at
/// the same time shares nothing.
struct Lane {
  Lane(Ops& ops, const BlasHandle& blas, TestElements& test_elements, const ProductOptions& options,
       OutgrownMemory& outgrown)
      : products(ops, stream.get(), blas, test_elements, options, outgrown),
        shuffle_memory(ops, outgrown),
        scratch(ops, outgrown) {}

  Stream stream;
  Products products;
  Workspace shuffle_memory;
  Workspace scratch;  ///< of operations over units or images
};

/// A lane beside the main one.
class Branch {
 public:
  Branch(Ops& ops, const BlasHandle& blas, TestElements& test_elements, const ProductOptions& options,
         OutgrownMemory& outgrown)
      : lane_(ops, blas, test_elements, options, outgrown) {}

  Lane& lane() { return lane_; }

  /// What the branch is given from here runs after everything on the main stream so far.
  void enter(cudaStream_t main) {
    entered_.record(main);
    entered_.hold_back(lane_.stream.get());
  }
  void leave() {
    left_.record(lane_.stream.get());
    pending_ = true;
  }
  /// What the main stream is given from here runs after everything on the branch so far. Where the branch has
  /// been given nothing since, there is nothing to wait for, and inside a capture it would be an error: one
  /// may not wait there for what was queued outside.
  void join(cudaStream_t main) {
    if (!pending_) return;
    left_.hold_back(main);
    pending_ = false;
  }
  bool pending() const { return pending_; }
  /// After everything on the branch has run, or has been thrown away.
  void forget() { pending_ = false; }

 private:
  Lane lane_;
  Event entered_;
  Event left_;
  bool pending_ = false;
};

}  // namespace wakesleep::cuda
