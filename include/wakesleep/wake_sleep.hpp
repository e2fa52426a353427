// One step of classic wake-sleep (Hinton, Dayan, Frey & Neal, Science 268, 1995), written once for all
// backends.
#pragma once

#include <cstdint>
#include <vector>

#include "wakesleep/delta_rule.hpp"
#include "wakesleep/machine.hpp"
#include "wakesleep/settings.hpp"
#include "wakesleep/training_algorithm.hpp"

namespace wakesleep {

/// Working memory is two layers' states (one more for each further branch), whatever the depth.
class WakeSleep : public TrainingAlgorithm {
 public:
  /// `machine` and `delta_rule` must outlive it.
  WakeSleep(Machine& machine, DeltaRule& delta_rule, const TrainingSettings& settings);

  void reserve(std::int64_t rows) override;
  /// Wake, then sleep.
  void step(const Batch& batch) override;

 private:
  void wake(const Batch& batch);
  void sleep(const Batch& batch);
  States states(int place, std::int64_t rows, int layer) const;
  void await_branches();

  Machine& machine_;
  DeltaRule& delta_rule_;
  Ops& ops_;
  std::uint64_t seed_;
  std::vector<Buffer<std::uint8_t>> states_;
};

}  // namespace wakesleep
