// VIMCO. Equations: docs/math.md.
#include "wakesleep/vimco.hpp"

namespace wakesleep {

Vimco::Vimco(Machine& machine, DeltaRule& delta_rule, const TrainingSettings& settings)
    : TrainingAlgorithm(settings),
      delta_rule_(delta_rule),
      ops_(machine.ops()),
      posterior_(machine, settings, true),
      importance_weights_(ops_, settings),
      coefficients_(ops_, rows_of_a_step(settings)),
      recognition_rates_(ops_, 1) {}

void Vimco::reserve(std::int64_t rows) {
  delta_rule_.reserve(rows);
  delta_rule_.reserve(rows * posterior_.samples());
}

void Vimco::queue_step(const Batch& batch) {
  posterior_.draw(batch, delta_rule_);
  const Matrix<const std::int64_t> log_weights = posterior_.log_weights(batch);
  const SampleWeights weights = importance_weights_.normalize(log_weights);
  ops_.vimco_weights(log_weights, coefficients_.data(), &batch.now->recognition, recognition_rates_.data());

  posterior_.learn_generative(batch, delta_rule_, weights);

  SampleWeights coefficients;
  coefficients.samples = posterior_.samples();
  coefficients.coefficient = coefficients_.data();
  posterior_.learn_recognition(batch, delta_rule_, coefficients, recognition_rates_.data());
  delta_rule_.await_branches();
}

}  // namespace wakesleep
