// The sleep phase, which several algorithms share: the generative model dreams downward, and each layer is
// recognised from the one below.
#pragma once

#include <cstdint>

#include "wakesleep/delta_rule.hpp"
#include "wakesleep/machine.hpp"
#include "wakesleep/passing_states.hpp"
#include "wakesleep/training_algorithm.hpp"

namespace wakesleep {

class SleepPhase {
 public:
  /// The errors count `weight` (above 0, at most 1). `machine` and `delta_rule` must outlive it.
  SleepPhase(Machine& machine, DeltaRule& delta_rule, std::uint64_t seed, float weight = 1.0f);

  /// Queues batch.rows dreams, which pass through `states`, and the recognition weights' step along them,
  /// together with the gradients that DeltaRule::hold has kept. Everything queued before on branches must
  /// have been awaited.
  void run(const Batch& batch, const PassingStates& states);

 private:
  Machine& machine_;
  DeltaRule& delta_rule_;
  Ops& ops_;
  std::uint64_t seed_;
  SampleWeights weight_;
};

}  // namespace wakesleep
