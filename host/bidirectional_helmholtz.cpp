// The bidirectional Helmholtz machine. Equations: docs/math.md.
#include "wakesleep/bidirectional_helmholtz.hpp"

namespace wakesleep {

BidirectionalHelmholtz::BidirectionalHelmholtz(Machine& machine, DeltaRule& delta_rule,
                                               const TrainingSettings& settings)
    : TrainingAlgorithm(settings),
      delta_rule_(delta_rule),
      posterior_(machine, settings, true),
      importance_weights_(machine.ops(), settings) {}

void BidirectionalHelmholtz::reserve(std::int64_t rows) {
  delta_rule_.reserve(rows);
  delta_rule_.reserve(rows * posterior_.samples());
}

void BidirectionalHelmholtz::queue_step(const Batch& batch) {
  posterior_.draw(batch, delta_rule_);
  const int halved = log_fraction_bits + 1;  // the same integers, in units half as large
  SampleWeights weights = importance_weights_.normalize(posterior_.log_weights(batch), halved);
  posterior_.learn_generative(batch, delta_rule_, weights);
  weights.centred = true;
  posterior_.learn_recognition(batch, delta_rule_, weights, &batch.now->recognition);
  delta_rule_.await_branches();
}

}  // namespace wakesleep
