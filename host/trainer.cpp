// A training run, step after step.
#include "wakesleep/trainer.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "hash.hpp"
#include "number_text.hpp"
#include "recording_length.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {

namespace {

/// Steps between two looks at the divergence flags. What a look asks for is seen by the next one, so that it
/// does not wait for the steps just queued; divergence is noticed within two intervals, and the rest of a
/// recording. The host runs no further ahead of the device than that, too.
constexpr std::int64_t divergence_interval = 12;

void check_fit(const DataSet& data, const TrainingSettings& settings) {
  check_layout(data);
  // A model file holds 65,536 tensors, and Adam makes 12 a layer. Natural gradients add 2, Woodbury's form 4.
  const bool natural = settings.algorithm == Algorithm::natural_reweighted_wake_sleep;
  const std::size_t deepest = !natural ? 5000 : settings.fisher == FisherForm::woodbury ? 4000 : 4600;
  if (settings.layers.size() > deepest) {
    throw UsageError("a machine of " + std::to_string(settings.layers.size()) +
                     " hidden layers does not fit a model file: at most " + std::to_string(deepest) +
                     (natural ? " with natural gradients" : ""));
  }
  if (data.rows == 0) throw UsageError("the data has no rows to train on; give at least one");
  if (settings.batch_size > data.rows) {
    throw UsageError("a batch of " + std::to_string(settings.batch_size) +
                     " rows is larger than the data, which has " + std::to_string(data.rows) +
                     ": use a smaller --batch-size");
  }
  if (data.rows > max_data_rows) {
    throw UsageError("the data has " + std::to_string(data.rows) + " rows, more than the " +
                     std::to_string(max_data_rows) + " that random draws can address: split it");
  }
  const bool takes_grey =
      settings.visible == Visible::gaussian || settings.binarization == Binarization::dynamic;
  if (data.grey && !takes_grey) {
    throw UsageError("the data is grey, but binarization \"" + std::string(name_of(settings.binarization)) +
                     "\" needs binary rows: binarize() it first, or choose dynamic");
  }
}

TrainingSettings checked(const TrainingSettings& settings, const DataSet& data) {
  check(settings);
  check_fit(data, settings);
  return settings;
}

}  // namespace

std::string fingerprint(const DataSet& data) {
  check_layout(data);
  Sha256 hash;
  const std::string shape =
      std::to_string(data.rows) + "," + std::to_string(data.units) + (data.grey ? ",grey" : ",binary");
  hash.add(shape.data(), shape.size());
  hash.add(data.bytes.data(), data.bytes.size());
  return hash.finish();
}

Trainer::KnownData Trainer::known(DataSet data) {
  std::string own = fingerprint(data);
  return {std::move(data), std::move(own)};
}

/// Refuses data other than that which `checkpoint` was trained on.
Trainer::KnownData Trainer::data_of(const Model& checkpoint, DataSet data) {
  const auto seen = checkpoint.run.find("data");
  const bool keeps_state = checkpoint.settings.optimizer != OptimizerKind::sgd;
  if (seen == checkpoint.run.end() || (keeps_state && checkpoint.optimizer.empty())) {
    throw DataError(
        "this is a finished model, without the state that a run goes on from: give a checkpoint, or begin a "
        "new run with the model's parameters (Trainer::begin_with)");
  }
  std::vector<std::int64_t> sizes = {data.units};
  sizes.insert(sizes.end(), checkpoint.settings.layers.begin(), checkpoint.settings.layers.end());
  if (sizes != checkpoint.sizes) {
    throw DataError(
        "the checkpoint has layers of " + numbers_text(checkpoint.sizes, "-") +
        " units, but its settings and the data's rows make " + numbers_text(sizes, "-") +
        ", the visible ones first: resume with the data and the settings that the run began with");
  }
  if (checkpoint.step < 0 || checkpoint.step > std::numeric_limits<std::uint32_t>::max()) {
    throw DataError("the checkpoint is of step " + std::to_string(checkpoint.step) +
                    ", which no run has: use the checkpoint before it");
  }
  KnownData found = known(std::move(data));
  if (seen->second != found.fingerprint) {
    throw DataError(
        "the checkpoint was trained on other data (its rows, their binarization or the held-out part "
        "differ from " +
        found.data.source + "): resume with the data that the run began with");
  }
  return found;
}

Trainer::Trainer(Ops& ops, DataSet data, const TrainingSettings& settings, const PlacementSettings& placement)
    : Trainer(ops, known(std::move(data)), settings, placement) {}

Trainer::Trainer(Ops& ops, KnownData known, const TrainingSettings& settings,
                 const PlacementSettings& placement)
    : ops_(ops),
      settings_(checked(settings, known.data)),
      rows_(known.data.rows),
      height_(known.data.height),
      width_(known.data.width),
      data_fingerprint_(std::move(known.fingerprint)),
      progress_(settings_) {
  if (settings_.epochs > std::numeric_limits<std::uint32_t>::max() / steps_per_epoch()) {
    throw UsageError(std::to_string(settings_.epochs) + " epochs of " + std::to_string(steps_per_epoch()) +
                     " steps are more than the 4,294,967,295 steps that random draws can address");
  }
  std::vector<std::int64_t> sizes = {known.data.units};
  sizes.insert(sizes.end(), settings_.layers.begin(), settings_.layers.end());
  machine_ = std::make_unique<Machine>(ops, sizes, settings_.weight_bits, settings_.prior,
                                       visible_units_of(settings_));
  machine_->initialize(unit_means(known.data), settings_.seed);
  parameters_are_there_ = settings_.initial_hash.empty();
  delta_rule_ = std::make_unique<DeltaRule>(*machine_, settings_);
  algorithm_ = make_algorithm(*machine_, *delta_rule_, settings_, rows_);
  algorithm_->reserve(settings_.batch_size);
  algorithm_->reserve(rows_ % settings_.batch_size);  // an epoch's last batch
  // Last, when everything else has its memory.
  placement_ =
      decide_placement(placement, settings_.batch_size, rows_, known.data.row_bytes, ops.available_memory());
  training_rows_ = make_training_rows(ops, std::move(known.data), settings_, placement, placement_.streamed);
  clock_ = std::make_unique<StepClock>(ops, settings_, rows_, training_rows_->steps_a_round());
  // An algorithm that works on the host does so in step 0; from step 1 on it leaves the device alone longest.
  steps_of_recording_ =
      std::min({steps_worth_recording(machine_->conditionals()), rows_ / settings_.batch_size,
                training_rows_->most_steps(), algorithm_->steps_without_host(1)});
}

Trainer::Trainer(Ops& ops, DataSet data, const Model& checkpoint, const PlacementSettings& placement)
    : Trainer(ops, data_of(checkpoint, std::move(data)), checkpoint.settings, placement) {
  machine_->upload(checkpoint.tensors);
  delta_rule_->upload_optimizer(checkpoint.optimizer);
  algorithm_->upload_state(checkpoint.algorithm);
  parameters_are_there_ = true;
  step_ = checkpoint.step;
  if (watches_validation(settings_)) progress_.restore(checkpoint.run);
  clock_->set_reductions(progress_.reductions());
}

Trainer::~Trainer() = default;

void Trainer::begin_with(const Model& initial) {
  if (step_ > 0) {
    throw UsageError("a run begins with the parameters of a model before its first step, not after " +
                     std::to_string(step_));
  }
  const std::string hash = hash_of(initial.tensors);
  if (!settings_.initial_hash.empty() && settings_.initial_hash != hash) {
    throw UsageError("the run begins with the parameters of the model " + settings_.initial_hash +
                     ", not of " + hash);
  }
  const auto refuse = [](const std::string& what, const std::string& found, const std::string& expected) {
    throw DataError("the initial model has " + what + " " + found + " where the run has " + expected +
                    "; choose the same");
  };
  if (initial.sizes != machine_->sizes()) {
    refuse("layers of", numbers_text(initial.sizes, "-"),
           numbers_text(machine_->sizes(), "-") + " units, the visible ones first");
  }
  if (initial.settings.prior != settings_.prior) {
    refuse("the prior", name_of(initial.settings.prior), name_of(settings_.prior));
  }
  if (initial.settings.visible != settings_.visible) {
    refuse("visible units that are", name_of(initial.settings.visible), name_of(settings_.visible));
  }
  machine_->upload(initial.tensors);
  settings_.initial_hash = hash;
  parameters_are_there_ = true;
}

void Trainer::require_parameters() const {
  if (parameters_are_there_) return;
  throw UsageError("the settings begin with the parameters of the model " + settings_.initial_hash +
                   ", which was not given: call Trainer::begin_with before the first step");
}

void Trainer::queue_step(std::int64_t rows, std::int64_t step) {
  clock_->advance();
  algorithm_->step({training_rows_->data(), training_rows_->order(), rows, clock_->now(), step});
}

/// Once a full step has run, so that nothing is left to be made when the steps are recorded.
void Trainer::record_steps() {
  recorded_ = true;
  recording_ = ops_.record([this] {
    for (std::int64_t i = 0; i < steps_of_recording_; ++i) queue_step(settings_.batch_size, -1);
  });
}

void Trainer::require_estimate() const {
  if (!watches_validation(settings_) || progress_.epoch() == epoch()) return;
  throw UsageError(
      "the schedule \"plateau\" and early stopping go by the estimates after the epochs, but that after "
      "epoch " +
      std::to_string(epoch()) + " is missing: call Trainer::observe between two epochs");
}

void Trainer::observe(double log_likelihood) {
  progress_.observe(epoch(), log_likelihood);
  clock_->set_reductions(progress_.reductions());
}

double Trainer::last_schedule_factor() const {
  const std::int64_t last = step_ - 1;
  return schedule_factor_at(settings_, last, steps_per_epoch(),
                            progress_.reductions_during(last / steps_per_epoch()));
}

/// Queues one step, or as many as a recording holds, but no more than `most`. Returns how many.
std::int64_t Trainer::some_steps(std::int64_t most) {
  require_parameters();
  require_estimate();
  const std::int64_t full_batches = rows_ / settings_.batch_size - step_ % steps_per_epoch();
  const std::int64_t without_host = algorithm_->steps_without_host(step_);
  if (recording_ != nullptr && std::min({full_batches, most, without_host}) >= steps_of_recording_) {
    training_rows_->prepare(step_, steps_of_recording_);
    clock_->prepare(step_, steps_of_recording_);
    recording_->replay();
    return steps_of_recording_;
  }
  training_rows_->prepare(step_, 1);
  clock_->prepare(step_);
  queue_step(clock_->rows_of(step_), step_);
  if (!recorded_ && full_batches > 0 && steps_of_recording_ > 0) record_steps();
  return 1;
}

void Trainer::run_steps(std::int64_t steps) {
  for (const std::int64_t end = step_ + steps; step_ < end;) step_ += some_steps(end - step_);
  delta_rule_->check_divergence();
}

void Trainer::run_epoch(const std::function<bool()>& interrupted,
                        const std::function<void(std::int64_t)>& progress) {
  if (finished()) return;
  const std::int64_t end = (epoch() + 1) * steps_per_epoch();
  while (step_ < end) {
    const std::int64_t before = step_;
    step_ += some_steps(end - step_);
    const bool stop = interrupted && interrupted();
    if (step_ == end || stop) {
      delta_rule_->check_divergence();
    } else if (step_ / divergence_interval != before / divergence_interval) {
      delta_rule_->check_divergence_of_before();
    }
    if (progress) progress(steps_per_epoch() - (end - step_));
    if (stop) break;
  }
}

Model Trainer::snapshot() const {
  require_parameters();
  Model model;
  model.tensors = machine_->download();
  model.optimizer = delta_rule_->download_optimizer();
  model.algorithm = algorithm_->download_state();
  model.settings = settings_;
  model.sizes = machine_->sizes();
  model.step = step_;
  model.height = height_;
  model.width = width_;
  model.hash = hash_of(model.tensors);
  if (watches_validation(settings_)) model.run = progress_.save();
  model.run["data"] = data_fingerprint_;
  return model;
}

}  // namespace wakesleep
