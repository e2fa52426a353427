#include "wakesleep/training_algorithm.hpp"

#include "wakesleep/bidirectional_helmholtz.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/joint_stochastic_approximation.hpp"
#include "wakesleep/natural_reweighted_wake_sleep.hpp"
#include "wakesleep/reweighted_wake_sleep.hpp"
#include "wakesleep/sparse_wake_sleep.hpp"
#include "wakesleep/vimco.hpp"
#include "wakesleep/wake_sleep.hpp"

namespace wakesleep {

void TrainingAlgorithm::step(const Batch& batch) {
  if (batch.rows < 1 || batch.rows > batch_size_) {
    throw UsageError("a step of " + std::to_string(batch.rows) +
                     " rows, where the algorithm has memory for 1 to " + std::to_string(batch_size_) +
                     ": choose as many, or a larger batch_size in its settings");
  }
  queue_step(batch);
}

void TrainingAlgorithm::upload_state(const Tensors& tensors) {
  if (tensors.empty()) return;
  throw DataError(
      "the checkpoint holds \"" + tensors.begin()->first +
      "\", which its training algorithm has no use for: this checkpoint does not continue this run");
}

std::unique_ptr<TrainingAlgorithm> make_algorithm(Machine& machine, DeltaRule& delta_rule,
                                                  const TrainingSettings& settings, std::int64_t data_rows) {
  switch (settings.algorithm) {
    case Algorithm::wake_sleep:
      return std::make_unique<WakeSleep>(machine, delta_rule, settings);
    case Algorithm::reweighted_wake_sleep:
      return std::make_unique<ReweightedWakeSleep>(machine, delta_rule, settings);
    case Algorithm::joint_stochastic_approximation:
      return std::make_unique<JointStochasticApproximation>(machine, delta_rule, settings, data_rows);
    case Algorithm::sparse_wake_sleep:
      return std::make_unique<SparseWakeSleep>(machine, delta_rule, settings);
    case Algorithm::bidirectional_helmholtz:
      return std::make_unique<BidirectionalHelmholtz>(machine, delta_rule, settings);
    case Algorithm::vimco:
      return std::make_unique<Vimco>(machine, delta_rule, settings);
    case Algorithm::natural_reweighted_wake_sleep:
      return std::make_unique<NaturalReweightedWakeSleep>(machine, delta_rule, settings);
  }
  throw InternalError("the settings name an algorithm that is not there; report this as a defect");
}

}  // namespace wakesleep
