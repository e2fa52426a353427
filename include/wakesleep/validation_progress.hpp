// What a run makes of the estimates after its epochs: where they stop improving, the plateau schedule reduces
// the learning rates and early stopping ends the run.
#pragma once

#include <cstdint>

#include "wakesleep/model_file.hpp"
#include "wakesleep/settings.hpp"

namespace wakesleep {

/// Epochs are counted as completed: the first estimate is that after epoch 1. Everything here follows from
/// the estimates by comparisons of doubles and counting, so equal estimates make equal runs.
class ValidationProgress {
 public:
  explicit ValidationProgress(const TrainingSettings& settings) : settings_(settings) {}

  /// The estimate after `epoch`. It is an improvement when it exceeds the best one by more than
  /// min_improvement, or is the first. After `patience` epochs without one, counted from the best epoch or
  /// the reduction before, the plateau schedule makes a reduction. Estimates of epochs that are known already
  /// change nothing.
  void observe(std::int64_t epoch, double estimate);

  std::int64_t epoch() const { return epoch_; }            ///< of the latest estimate; 0: none yet
  std::int64_t best_epoch() const { return best_epoch_; }  ///< of the latest improvement; 0: none yet
  double best() const { return best_; }                    ///< the estimate then
  std::int64_t reductions() const { return reductions_; }
  /// Those made before a step of the epoch that follows `epochs_before` completed ones, be it the epoch just
  /// trained or the next.
  std::int64_t reductions_during(std::int64_t epochs_before) const {
    return epochs_before < reduced_after_ ? reductions_ - 1 : reductions_;
  }
  /// Whether early_stopping epochs have gone by since the best.
  bool stopped() const {
    return settings_.early_stopping > 0 && epoch_ - best_epoch_ >= settings_.early_stopping;
  }

  /// For checkpoints, under names that begin with "progress-".
  Metadata save() const;
  /// Throws DataError when what save() has written is missing or impossible.
  void restore(const Metadata& run);

 private:
  TrainingSettings settings_;
  std::int64_t epoch_ = 0;
  std::int64_t best_epoch_ = 0;
  double best_ = 0;
  std::int64_t reductions_ = 0;
  std::int64_t reduced_after_ = 0;  ///< epoch of the last reduction
};

}  // namespace wakesleep
