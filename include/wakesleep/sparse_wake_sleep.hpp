// Sparse wake-sleep: wake-sleep with a penalty that draws each hidden unit's activation to a target. The
// formulation is the engine's own, after Lee, Ekanadham & Ng (NIPS 2008); docs/math.md derives it.
#pragma once

#include <cstdint>
#include <vector>

#include "wakesleep/wake_sleep.hpp"

namespace wakesleep {

class SparseWakeSleep : public WakeSleep {
 public:
  /// `machine` and `delta_rule` must outlive it.
  SparseWakeSleep(Machine& machine, DeltaRule& delta_rule, const TrainingSettings& settings);

  /// activation.{l} [units]: the running means. Blocks.
  Tensors download_state() const override;
  void upload_state(const Tensors& tensors) override;

 protected:
  /// m_j <- beta m_j + (1 - beta) mean h_j, and lambda (rho - m_j) joins the gradients of the unit's
  /// recognition bias and of its generative (or prior) bias.
  void hidden_sampled(int layer, ConstStates states) override;

 private:
  Sparsity sparsity_;
  std::vector<Buffer<float>> activation_;      ///< by hidden layer
  std::vector<Buffer<std::int32_t>> penalty_;  ///< likewise
};

}  // namespace wakesleep
