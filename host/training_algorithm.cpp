#include "wakesleep/training_algorithm.hpp"

#include "wakesleep/bidirectional_helmholtz.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/reweighted_wake_sleep.hpp"
#include "wakesleep/vimco.hpp"
#include "wakesleep/wake_sleep.hpp"

namespace wakesleep {

std::unique_ptr<TrainingAlgorithm> make_algorithm(Machine& machine, DeltaRule& delta_rule,
                                                  const TrainingSettings& settings) {
  switch (settings.algorithm) {
    case Algorithm::wake_sleep:
      return std::make_unique<WakeSleep>(machine, delta_rule, settings);
    case Algorithm::reweighted_wake_sleep:
      return std::make_unique<ReweightedWakeSleep>(machine, delta_rule, settings);
    case Algorithm::bidirectional_helmholtz:
      return std::make_unique<BidirectionalHelmholtz>(machine, delta_rule, settings);
    case Algorithm::vimco:
      return std::make_unique<Vimco>(machine, delta_rule, settings);
  }
  throw InternalError("the settings name an algorithm that is not there; report this as a defect");
}

}  // namespace wakesleep
