// Reweighted wake-sleep. Equations: docs/math.md.
#include "wakesleep/reweighted_wake_sleep.hpp"

namespace wakesleep {

ReweightedWakeSleep::ReweightedWakeSleep(Machine& machine, DeltaRule& delta_rule,
                                         const TrainingSettings& settings)
    : ReweightedWakeSleep(machine, delta_rule, settings, settings.insomnia > 0) {}

ReweightedWakeSleep::ReweightedWakeSleep(Machine& machine, DeltaRule& delta_rule,
                                         const TrainingSettings& settings, bool keeps_recognition)
    : TrainingAlgorithm(settings),
      delta_rule_(delta_rule),
      insomnia_(static_cast<float>(settings.insomnia)),
      control_variate_(settings.control_variate),
      posterior_(machine, settings, keeps_recognition),
      importance_weights_(machine.ops(), settings) {
  if (settings.insomnia < 1) {
    states_.emplace(machine.ops(), delta_rule.branches(), settings.batch_size, machine.widest());
    sleep_.emplace(machine, delta_rule, settings.seed, 1.0f - insomnia_);
  }
}

void ReweightedWakeSleep::reserve(std::int64_t rows) {
  delta_rule_.reserve(rows);
  delta_rule_.reserve(rows * posterior_.samples());
}

void ReweightedWakeSleep::queue_step(const Batch& batch) {
  posterior_.draw(batch, delta_rule_);
  SampleWeights weights = importance_weights_.normalize(posterior_.log_weights(batch));
  samples_weighted(batch, posterior_, weights);

  posterior_.learn_generative(batch, delta_rule_, weights);
  if (insomnia_ > 0) {
    weights.centred = control_variate_;
    weights.scale = insomnia_;
    if (sleep_) {
      posterior_.hold_recognition(batch, delta_rule_, weights);
    } else {
      posterior_.learn_recognition(batch, delta_rule_, weights, &batch.now->recognition);
    }
  }
  delta_rule_.await_branches();
  if (sleep_) sleep_->run(batch, *states_);
}

}  // namespace wakesleep
