// Joint stochastic approximation. Equations: docs/math.md.
#include "wakesleep/joint_stochastic_approximation.hpp"

#include <algorithm>
#include <array>

namespace wakesleep {

JointStochasticApproximation::JointStochasticApproximation(Machine& machine, DeltaRule& delta_rule,
                                                           const TrainingSettings& settings,
                                                           std::int64_t data_rows)
    : machine_(machine),
      delta_rule_(delta_rule),
      ops_(machine.ops()),
      seed_(settings.seed),
      posterior_(machine, settings, true),
      memory_(machine, data_rows, settings.fresh_epochs),
      visits_(ops_, rows_of_a_step(settings)),
      totals_(ops_, settings.batch_size),
      last_(ops_, settings.batch_size),
      counts_(ops_, 2) {
  counts_.fill_zero();
}

void JointStochasticApproximation::reserve(std::int64_t rows) {
  delta_rule_.reserve(rows);
  delta_rule_.reserve(rows * posterior_.samples());
}

void JointStochasticApproximation::step(const Batch& batch) {
  posterior_.draw(batch, &memory_);
  const Draw draw{seed_, Domain::chain_acceptance, 0, 0, 0, &batch.now->step, SampleAddress::row};
  ops_.metropolis(posterior_.log_weights(batch), draw, visits_.data(), totals_.data(), last_.data(),
                  counts_.data());
  for (int l = 1; l <= machine_.layers(); ++l) {
    memory_.remember(batch, l, posterior_.hidden(batch, l), posterior_.samples(), last_.data());
  }
  SampleWeights weights;
  weights.samples = posterior_.samples();
  weights.relative = visits_.data();
  weights.total = totals_.data();
  posterior_.learn_generative(batch, delta_rule_, weights);
  posterior_.learn_recognition(batch, delta_rule_, weights, &batch.now->recognition);
  delta_rule_.await_branches();
}

std::vector<std::pair<std::string, double>> JointStochasticApproximation::diagnostics() {
  std::array<std::int64_t, 2> counts{};
  counts_.copy_out(counts.data());
  counts_.fill_zero();
  const double proposals = static_cast<double>(std::max<std::int64_t>(counts[0], 1));
  return {{"acceptance_rate", static_cast<double>(counts[1]) / proposals}};
}

}  // namespace wakesleep
