// What changes from step to step: numbers and rates, in the backend's memory ahead of time, so that the host
// has nothing to do between two steps.
#pragma once

#include <cstdint>
#include <vector>

#include "wakesleep/ops.hpp"
#include "wakesleep/settings.hpp"

namespace wakesleep {

class StepClock {
 public:
  /// StepScalars::first begins again at 0 after `steps_a_round` steps; 0: with each epoch.
  StepClock(Ops& ops, const TrainingSettings& settings, std::int64_t data_rows,
            std::int64_t steps_a_round = 0);

  /// Batches of batch_size rows, and one of what is left.
  std::int64_t steps_per_epoch() const { return steps_per_epoch_; }
  /// Rows of the batch of a step, which counts from 0 over the whole run.
  std::int64_t rows_of(std::int64_t step) const;

  /// The next `count` executions of advance() will go to steps `step`, `step` + 1, ... At most `steps_ahead`.
  void prepare(std::int64_t step, std::int64_t count = 1);
  /// Queues the operation that makes the next step the current one.
  void advance();
  /// Reductions by the plateau schedule that hold for the steps that are prepared from here on.
  void set_reductions(std::int64_t reductions);
  /// The current step's scalars, in the backend's memory.
  const StepScalars* now() const { return now_.data(); }

  static constexpr std::int64_t steps_ahead = 512;

 private:
  StepScalars scalars_of(std::int64_t step) const;

  Ops& ops_;
  TrainingSettings settings_;
  std::int64_t data_rows_;
  std::int64_t steps_per_epoch_;
  std::int64_t steps_a_round_;
  std::int64_t reductions_ = 0;
  std::int64_t next_ = -1;       ///< step that the device goes to next; none yet
  std::int64_t table_end_ = -1;  ///< step behind the last of the table
  std::vector<StepScalars> ahead_;
  Buffer<StepScalars> table_;
  Buffer<std::uint32_t> position_;
  Buffer<StepScalars> now_;
};

}  // namespace wakesleep
