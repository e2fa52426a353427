// What the trainer sees of a training algorithm.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "wakesleep/delta_rule.hpp"
#include "wakesleep/machine.hpp"
#include "wakesleep/ops.hpp"
#include "wakesleep/settings.hpp"

namespace wakesleep {

/// The rows of one step. Everything it points to is in the backend's memory.
struct Batch {
  DataRows data;
  const std::uint32_t* order = nullptr;  ///< rows of the data set, from now->first on; null: its own order
  std::int64_t rows = 0;
  const StepScalars* now = nullptr;
  std::int64_t step = 0;  ///< number of the step as the host knows it; negative while steps are recorded
};

class TrainingAlgorithm {
 public:
  virtual ~TrainingAlgorithm() = default;
  /// Makes what steps of `rows` rows need. From then on such steps allocate nothing; only the library behind
  /// the products may take memory during a call and give it back. Steps of other sizes do it when they first
  /// come.
  virtual void reserve(std::int64_t rows) = 0;
  /// Queues one step's operations and nothing else, so that it can be recorded. At a step of which
  /// steps_without_host() is 0, it works on the host as well, and blocks. Throws UsageError, before anything
  /// is queued, unless the batch has 1 to batch_size rows.
  void step(const Batch& batch);

  /// How many steps from number `step` on only queue operations, always the same.
  virtual std::int64_t steps_without_host(std::int64_t) const {
    return std::numeric_limits<std::int64_t>::max();
  }

  /// What it carries from step to step beside parameters and optimiser state, by name; most carry nothing.
  /// Blocks.
  virtual Tensors download_state() const { return {}; }
  /// Throws DataError when the tensors are not this algorithm's.
  virtual void upload_state(const Tensors& tensors);
  /// What can be said of the steps since the last call, by name. Blocks.
  virtual std::vector<std::pair<std::string, double>> diagnostics() { return {}; }

 protected:
  explicit TrainingAlgorithm(const TrainingSettings& settings) : batch_size_(settings.batch_size) {}
  /// step(), of a batch that fits.
  virtual void queue_step(const Batch& batch) = 0;

 private:
  std::int64_t batch_size_;
};

/// The algorithm that the settings name, for `data_rows` training rows. `machine` and `delta_rule` must
/// outlive it.
std::unique_ptr<TrainingAlgorithm> make_algorithm(Machine& machine, DeltaRule& delta_rule,
                                                  const TrainingSettings& settings, std::int64_t data_rows);

}  // namespace wakesleep
