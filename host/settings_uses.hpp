// Predicates on the settings of a run: which of them it has any use for.
#pragma once

#include "wakesleep/settings.hpp"

namespace wakesleep {

inline bool is_sparse(const TrainingSettings& settings) {
  return settings.algorithm == Algorithm::sparse_wake_sleep;
}
inline bool draws_samples(const TrainingSettings& settings) {
  return settings.algorithm != Algorithm::wake_sleep && !is_sparse(settings);
}
inline bool is_natural(const TrainingSettings& settings) {
  return settings.algorithm == Algorithm::natural_reweighted_wake_sleep;
}
inline bool is_reweighted(const TrainingSettings& settings) {
  return settings.algorithm == Algorithm::reweighted_wake_sleep || is_natural(settings);
}
inline bool has_chains(const TrainingSettings& settings) {
  return settings.algorithm == Algorithm::joint_stochastic_approximation;
}

inline bool has_plateaus(const TrainingSettings& settings) { return settings.schedule == Schedule::plateau; }

// What is off at 0 is no setting of a run that does without it, so that files written before there was such a
// setting read as they always did. A number that is not usable counts as given, so that `check` refuses it.
inline bool warms_up(const TrainingSettings& settings) { return settings.warm_up != 0; }
inline bool clips(const TrainingSettings& settings) { return settings.clip_gradient != 0; }
inline bool stops_early(const TrainingSettings& settings) { return settings.early_stopping != 0; }
inline bool begins_with_a_model(const TrainingSettings& settings) { return !settings.initial_hash.empty(); }

inline bool is_autoregressive(const TrainingSettings& settings) {
  return settings.prior == Prior::autoregressive;
}
inline bool is_gaussian(const TrainingSettings& settings) { return settings.visible == Visible::gaussian; }
inline bool binarizes(const TrainingSettings& settings) { return !is_gaussian(settings); }
inline bool has_threshold(const TrainingSettings& settings) {
  return binarizes(settings) && settings.binarization == Binarization::threshold;
}

inline bool has_momentum(const TrainingSettings& settings) {
  return settings.optimizer != OptimizerKind::sgd;
}
inline bool is_adam(const TrainingSettings& settings) { return settings.optimizer == OptimizerKind::adam; }
inline bool has_intervals(const TrainingSettings& settings) { return settings.schedule == Schedule::step; }
inline bool reduces_rates(const TrainingSettings& settings) {
  return has_intervals(settings) || has_plateaus(settings);
}

}  // namespace wakesleep
