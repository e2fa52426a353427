// Reweighted wake-sleep. Equations: docs/math.md.
#include "wakesleep/reweighted_wake_sleep.hpp"

namespace wakesleep {

ReweightedWakeSleep::ReweightedWakeSleep(Machine& machine, DeltaRule& delta_rule,
                                         const TrainingSettings& settings)
    : ReweightedWakeSleep(machine, delta_rule, settings, settings.insomnia > 0) {}

ReweightedWakeSleep::ReweightedWakeSleep(Machine& machine, DeltaRule& delta_rule,
                                         const TrainingSettings& settings, bool keeps_recognition)
    : delta_rule_(delta_rule),
      ops_(machine.ops()),
      insomnia_(static_cast<float>(settings.insomnia)),
      control_variate_(settings.control_variate),
      posterior_(machine, settings, keeps_recognition),
      relative_weights_(ops_, rows_of_a_step(settings)),
      total_weights_(ops_, settings.batch_size) {
  if (settings.insomnia < 1) {
    states_.emplace(ops_, delta_rule.branches(), settings.batch_size, machine.widest());
    sleep_.emplace(machine, delta_rule, settings.seed, 1.0f - insomnia_);
  }
}

void ReweightedWakeSleep::reserve(std::int64_t rows) {
  delta_rule_.reserve(rows);
  delta_rule_.reserve(rows * posterior_.samples());
}

void ReweightedWakeSleep::step(const Batch& batch) {
  posterior_.draw(batch);
  ops_.importance_weights(posterior_.log_weights(batch), log_fraction_bits, relative_weights_.data(),
                          total_weights_.data());
  SampleWeights weights;
  weights.relative = relative_weights_.data();
  weights.total = total_weights_.data();
  weights.samples = posterior_.samples();
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
