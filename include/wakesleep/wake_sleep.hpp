// One step of classic wake-sleep (Hinton, Dayan, Frey & Neal, Science 268, 1995), written once for all
// backends.
#pragma once

#include <cstdint>

#include "wakesleep/passing_states.hpp"
#include "wakesleep/sleep_phase.hpp"
#include "wakesleep/training_algorithm.hpp"

namespace wakesleep {

/// Working memory is that of PassingStates, whatever the depth.
class WakeSleep : public TrainingAlgorithm {
 public:
  /// `machine` and `delta_rule` must outlive it.
  WakeSleep(Machine& machine, DeltaRule& delta_rule, const TrainingSettings& settings);

  void reserve(std::int64_t rows) override;

 protected:
  /// Wake, then sleep.
  void queue_step(const Batch& batch) override;
  /// Called when the wake phase has sampled hidden layer `layer`, before its conditionals learn.
  virtual void hidden_sampled(int, ConstStates) {}
  Machine& machine() { return machine_; }
  DeltaRule& delta_rule() { return delta_rule_; }

 private:
  void wake(const Batch& batch);

  Machine& machine_;
  DeltaRule& delta_rule_;
  Ops& ops_;
  std::uint64_t seed_;
  PassingStates states_;
  SleepPhase sleep_;
};

}  // namespace wakesleep
