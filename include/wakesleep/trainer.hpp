// A training run: machine, algorithm and data, step after step. Knows nothing of folders, files or terminals;
// the command line (host/command/) adds those. The Ops outlives it, and whatever was made with one Ops serves
// one thread at a time (ops.hpp).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "wakesleep/data.hpp"
#include "wakesleep/delta_rule.hpp"
#include "wakesleep/machine.hpp"
#include "wakesleep/model_file.hpp"
#include "wakesleep/settings.hpp"
#include "wakesleep/step_clock.hpp"
#include "wakesleep/training_algorithm.hpp"
#include "wakesleep/training_rows.hpp"
#include "wakesleep/validation_progress.hpp"

namespace wakesleep {

class Trainer {
 public:
  /// A new machine, initialised from the data's means and the seed. Throws UsageError when the settings
  /// cannot be used with this data (batch larger than the data, a layer too wide, grey data without dynamic
  /// binarization or Gaussian visible units). `placement` decides where the rows are kept, and changes no
  /// bit: rows that are streamed stay in the data set, which is otherwise given back once they have been
  /// copied, so pass it by std::move. Throws DeviceError where the device has not the memory.
  Trainer(Ops& ops, DataSet data, const TrainingSettings& settings, const PlacementSettings& placement = {});
  /// Goes on where `checkpoint` stopped (a snapshot() of a Trainer, or one that was read from a file), to the
  /// same bits as a run that never stopped. Throws DataError when the checkpoint does not fit the data, or is
  /// a finished model, without optimiser state or the data's fingerprint.
  Trainer(Ops& ops, DataSet data, const Model& checkpoint, const PlacementSettings& placement = {});
  ~Trainer();

  /// The parameters of `initial` instead of the drawn ones, whatever trained them; optimiser and algorithm
  /// begin anew. Its hash becomes a setting (TrainingSettings::initial_hash). Blocks. Throws UsageError after
  /// the first step or where the settings name another hash, and DataError when its layers, its prior or its
  /// visible units are not the run's.
  void begin_with(const Model& initial);

  const TrainingSettings& settings() const { return settings_; }
  Machine& machine() { return *machine_; }
  const Machine& machine() const { return *machine_; }
  std::int64_t step() const { return step_; }  ///< steps done
  std::int64_t steps_per_epoch() const { return batches_of(rows_, settings_.batch_size); }
  std::int64_t total_steps() const { return steps_per_epoch() * settings_.epochs; }
  std::int64_t epoch() const { return step_ / steps_per_epoch(); }  ///< epochs completed
  /// All steps are done, or early stopping has ended the run.
  bool finished() const { return step_ >= total_steps() || progress_.stopped(); }
  /// Where the rows are kept, and why.
  const PlacementDecision& placement() const { return placement_; }

  /// The estimate after the epoch that was just completed (Evaluation::log_likelihood). Settings that watch
  /// validation (watches_validation) need it before the next epoch begins; others have no use for it. Telling
  /// it again changes nothing.
  void observe(double log_likelihood);
  const ValidationProgress& progress() const { return progress_; }
  /// The factor on the learning rates in the last step that was done; one must have been (step() > 0).
  double last_schedule_factor() const;

  /// Trains up to the end of the current epoch (not at all if the run is finished), or until
  /// `interrupted` (asked after every few steps; may be
  /// empty) returns true. `progress` (may be empty) gets the steps of this epoch that are done or queued.
  /// Blocks. Throws DivergenceError, and UsageError where an estimate is missing (observe).
  void run_epoch(const std::function<bool()>& interrupted = {},
                 const std::function<void(std::int64_t)>& progress = {});

  /// Trains so many steps, past ends of epochs and of the run (finished()), so that steps can be timed for
  /// any time; cosine learning rates stay at 0 there. No steps for 0 and less. Blocks. Throws as run_epoch.
  void run_steps(std::int64_t steps);

  /// What the algorithm can say of the steps since the last call (TrainingAlgorithm::diagnostics). Blocks.
  std::vector<std::pair<std::string, double>> diagnostics() { return algorithm_->diagnostics(); }

  /// Parameters, optimiser state and counters as they are now. Blocks. Throws UsageError while the initial
  /// model that the settings name has not been given (begin_with).
  Model snapshot() const;

 private:
  struct KnownData {
    DataSet data;
    std::string fingerprint;
  };
  static KnownData known(DataSet data);
  static KnownData data_of(const Model& checkpoint, DataSet data);
  Trainer(Ops& ops, KnownData known, const TrainingSettings& settings, const PlacementSettings& placement);

  void require_estimate() const;
  void require_parameters() const;
  std::int64_t some_steps(std::int64_t most);
  void queue_step(std::int64_t rows, std::int64_t step);
  void record_steps();

  Ops& ops_;
  TrainingSettings settings_;
  std::int64_t rows_;
  std::int64_t height_, width_;
  std::string data_fingerprint_;
  std::int64_t step_ = 0;
  bool parameters_are_there_ = true;  ///< unless the settings name an initial model that was not given yet
  ValidationProgress progress_;
  std::unique_ptr<Machine> machine_;
  std::unique_ptr<DeltaRule> delta_rule_;
  std::unique_ptr<TrainingAlgorithm> algorithm_;
  PlacementDecision placement_;
  std::unique_ptr<TrainingRows> training_rows_;
  std::unique_ptr<StepClock> clock_;
  std::int64_t steps_of_recording_ = 0;
  bool recorded_ = false;  ///< whether it was tried: not every backend records
  std::unique_ptr<Recording> recording_;
};

/// SHA-256 of the binarized (or grey) rows and their shape: what a checkpoint remembers of its data.
std::string fingerprint(const DataSet& data);

}  // namespace wakesleep
