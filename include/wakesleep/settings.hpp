// Everything that decides which model a run ends with. Device, threads, paths and times are not here: they
// never enter what is compared.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "wakesleep/arithmetic.hpp"
#include "wakesleep/prior.hpp"
#include "wakesleep/visible.hpp"

namespace wakesleep {

enum class Algorithm {
  wake_sleep,
  reweighted_wake_sleep,
  joint_stochastic_approximation,
  sparse_wake_sleep,
  bidirectional_helmholtz,
  vimco,
  natural_reweighted_wake_sleep
};
enum class Schedule { constant, step, cosine, plateau };
enum class Binarization { threshold, fixed, dynamic };

/// The settings of a training run. Learning rates multiply the MEAN gradient over the batch.
struct TrainingSettings {
  std::vector<std::int64_t> layers = {200, 200, 200};  ///< hidden layers, from the data upward
  Prior prior = Prior::factorial;                      ///< of the top layer
  Visible visible = Visible::bernoulli;                ///< units of the visible layer
  double visible_deviation = 0.1;                      ///< sigma of Gaussian ones
  Algorithm algorithm = Algorithm::wake_sleep;
  std::int64_t samples = 5;        ///< K: hidden states drawn for each image; not of wake_sleep and
                                   ///< sparse_wake_sleep
  double insomnia = 0.5;           ///< share of wake-phi in the recognition gradient, the rest is sleep-phi
  bool control_variate = false;    ///< wake-phi weighs samples by w_k - 1 / K
  std::int64_t fresh_epochs = 1;   ///< epochs whose chains begin anew (joint stochastic approximation)
  double sparsity = 0.1;           ///< strength lambda of the penalty on activations (sparse wake-sleep)
  double target_activation = 0.1;  ///< rho
  double activation_memory = 0.9;  ///< beta of the running means
  FisherForm fisher = FisherForm::diagonal;  ///< of natural gradients (natural reweighted wake-sleep)
  double fisher_damping = 0.2;               ///< alpha, at least 1e-15
  std::int64_t fisher_refresh = 100;         ///< steps from one Fisher matrix to the next
  std::int64_t epochs = 50;
  std::int64_t batch_size = 100;
  double generative_learning_rate = 0.003;
  double recognition_learning_rate = 0.003;
  OptimizerKind optimizer = OptimizerKind::adam;
  double momentum = 0.9;           ///< mu of momentum, beta1 of Adam
  double second_momentum = 0.999;  ///< beta2 of Adam
  double epsilon = 1e-8;           ///< of Adam
  Schedule schedule = Schedule::cosine;
  std::int64_t schedule_every = 10;  ///< step schedule: epochs between two reductions
  double schedule_factor = 0.5;      ///< step and plateau schedule: factor of a reduction; cosine: unused
  std::int64_t patience = 3;         ///< plateau schedule: epochs without improvement before a reduction
  std::int64_t early_stopping = 0;   ///< epochs without improvement after which the run ends; 0: none
  double min_improvement = 0.01;     ///< nats by which an estimate must exceed the best to be an improvement
  std::int64_t warm_up = 0;          ///< steps over which both learning rates rise linearly; 0: none
  double clip_gradient = 0.0;        ///< largest magnitude in a conditional's mean gradient; 0: not clipped
  double weight_decay = 0.0;         ///< decoupled: each step w <- (1 - learning rate * D) w
  int weight_bits = 8;  ///< 16, 12 or 8; 8 are fastest, and as good but for trainings of several hundred
                        ///< thousand steps, which end better with 16 (docs/numerics.md)
  std::uint64_t seed = 1;
  std::string initial_hash;  ///< of the parameters that the run begins with (Trainer::begin_with); empty:
                             ///< they are drawn
  Binarization binarization = Binarization::threshold;  ///< not of Gaussian visible units, as the next
  int threshold = 128;                                  ///< grey values of at least this (1..255) are on
};

const char* name_of(Prior prior);
const char* name_of(Visible visible);
const char* name_of(Algorithm algorithm);
const char* name_of(OptimizerKind kind);
const char* name_of(FisherForm form);
const char* name_of(Schedule schedule);
const char* name_of(Binarization binarization);
/// These throw UsageError with the valid names.
Prior prior_named(const std::string& name);
Visible visible_named(const std::string& name);
Algorithm algorithm_named(const std::string& name);
OptimizerKind optimizer_named(const std::string& name);
FisherForm fisher_form_named(const std::string& name);
Schedule schedule_named(const std::string& name);
Binarization binarization_named(const std::string& name);

/// Throws UsageError naming the first setting that cannot be used: a learning rate of 0, negative or NaN, no
/// layers, a width of 0, weight_bits other than 16, 12, 8, and so on. The message begins with the name.
void check(const TrainingSettings& settings);

/// Steps of an epoch of so many rows; the last may have fewer than `batch_size` of them.
constexpr std::int64_t batches_of(std::int64_t data_rows, std::int64_t batch_size) {
  return (data_rows + batch_size - 1) / batch_size;
}
/// Rows that a step of batch_size images works on: samples times as many where the algorithm draws several.
std::int64_t rows_of_a_step(const TrainingSettings& settings);
/// Which runs with these settings give the same bits (docs/numerics.md), in one clause.
std::string promise_of(const TrainingSettings& settings);
/// Whether the recognition gradient is mixed of two phases.
bool mixes_phases(const TrainingSettings& settings);

/// Whether the run's course depends on the estimates after its epochs (ValidationProgress).
bool watches_validation(const TrainingSettings& settings);

/// The factor on the learning rates at `step`, warm-up included, in double from + - x / and the engine's own
/// cosine. `reductions` are those that the plateau schedule has made so far.
double schedule_factor_at(const TrainingSettings& settings, std::int64_t step, std::int64_t steps_per_epoch,
                          std::int64_t reductions = 0);

/// The rates of one step: learning rate, decay, 1 / (127 rows) and Adam's corrections, rounded once to
/// float32.
Rates rates_at(const TrainingSettings& settings, double learning_rate, std::int64_t step,
               std::int64_t steps_per_epoch, std::int64_t rows, std::int64_t reductions = 0);
Optimizer optimizer_of(const TrainingSettings& settings);
VisibleUnits visible_units_of(const TrainingSettings& settings);
Sparsity sparsity_of(const TrainingSettings& settings);
/// The limit of Ops::clip, 0 where gradients are not clipped.
float clip_limit_of(const TrainingSettings& settings);

/// One setting by its name, which is that of the command line without the dashes
/// ("generative-learning-rate"; "learning-rate" stands for two settings and is none). This and the next four
/// throw UsageError, with the nearest name, where there is no setting of that name.
std::string setting_text(const TrainingSettings& settings, const std::string& name);
/// Also throws UsageError when the text stands for no value of the setting.
void set_setting(TrainingSettings& settings, const std::string& name, const std::string& text);
/// The names of which the setting is one ("sgd", "momentum", "adam"); none where it is a number or a flag.
std::vector<std::string> choices_of(const std::string& name);
/// Whether the settings have any use for the setting of that name beside the others.
bool is_used(const TrainingSettings& settings, const std::string& name);
/// What a setting that is not used would need: "another --algorithm", "--schedule plateau".
std::string needed_for(const std::string& name);

/// The settings as (name, value) pairs in a fixed order, as they stand in models: those that are used, but
/// for the factorial prior and Bernoulli visible units, and, used or not, those of optimiser, schedule and
/// threshold.
std::vector<std::pair<std::string, std::string>> to_pairs(const TrainingSettings& settings);
/// Reads such pairs back; throws DataError naming a missing, unknown or unusable one.
TrainingSettings settings_from_pairs(const std::vector<std::pair<std::string, std::string>>& pairs);

}  // namespace wakesleep
