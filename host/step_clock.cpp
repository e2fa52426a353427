#include "wakesleep/step_clock.hpp"

#include <algorithm>

#include "wakesleep/error.hpp"

namespace wakesleep {

StepClock::StepClock(Ops& ops, const TrainingSettings& settings, std::int64_t data_rows,
                     std::int64_t steps_a_round)
    : ops_(ops),
      settings_(settings),
      data_rows_(data_rows),
      steps_per_epoch_(batches_of(data_rows, settings.batch_size)),
      steps_a_round_(steps_a_round > 0 ? steps_a_round : steps_per_epoch_),
      ahead_(static_cast<std::size_t>(steps_ahead)),
      table_(ops, steps_ahead),
      position_(ops, 1),
      now_(ops, 1) {}

std::int64_t StepClock::rows_of(std::int64_t step) const {
  const std::int64_t first = step % steps_per_epoch_ * settings_.batch_size;
  return std::min(settings_.batch_size, data_rows_ - first);
}

StepScalars StepClock::scalars_of(std::int64_t step) const {
  const std::int64_t rows = rows_of(step);
  StepScalars scalars;
  scalars.step = static_cast<std::uint32_t>(step);
  scalars.first = static_cast<std::uint32_t>(step % steps_a_round_ * settings_.batch_size);
  scalars.epoch = static_cast<std::uint32_t>(step / steps_per_epoch_);
  const auto rates = [&](double learning_rate) {
    return rates_at(settings_, learning_rate, step, steps_per_epoch_, rows, reductions_);
  };
  scalars.generative = rates(settings_.generative_learning_rate);
  scalars.recognition = rates(settings_.recognition_learning_rate);
  return scalars;
}

void StepClock::prepare(std::int64_t step, std::int64_t count) {
  if (count < 1 || count > steps_ahead) {
    throw InternalError("a step clock was asked for " + std::to_string(count) +
                        " steps ahead; it holds 1 to " + std::to_string(steps_ahead));
  }
  if (step != next_ || step + count > table_end_) {
    for (std::int64_t i = 0; i < steps_ahead; ++i) ahead_[static_cast<std::size_t>(i)] = scalars_of(step + i);
    table_.copy_in(ahead_.data());
    position_.fill_zero();
    table_end_ = step + steps_ahead;
  }
  next_ = step + count;
}

void StepClock::set_reductions(std::int64_t reductions) {
  if (reductions == reductions_) return;
  reductions_ = reductions;
  table_end_ = -1;  // what was computed ahead holds other rates
}

void StepClock::advance() { ops_.advance(table_.data(), position_.data(), now_.data()); }

}  // namespace wakesleep
