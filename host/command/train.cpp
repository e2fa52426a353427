// `wakesleep train`: a training run with its folder, log, pictures and signals around the Trainer.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <optional>
#include <set>

#include "command/commands.hpp"
#include "command/config_file.hpp"
#include "command/pictures.hpp"
#include "command/progress.hpp"
#include "command/report.hpp"
#include "command/run_data.hpp"
#include "command/run_folder.hpp"
#include "command/signal_watch.hpp"
#include "command/values.hpp"
#include "file.hpp"
#include "wakesleep/generate.hpp"
#include "wakesleep/trainer.hpp"

namespace wakesleep::command {
namespace {

constexpr std::int64_t pictured_samples = 100;
constexpr std::int64_t pictured_reconstructions = 10;
constexpr std::int64_t pictured_fields = 100;
/// Of a picture of a run. Larger ones hold fewer images: encoding them would take longer than the training.
constexpr std::int64_t most_pixels = std::int64_t{1} << 26;

/// Entry of a checkpoint's run state: the step after the best epoch, where early stopping goes by it.
const std::string best_step_entry = "best-step";

/// Leaves an evaluation that a signal made superfluous.
struct Interrupted {};

// -------------------------------------------------------------------------------- texts

class Log {
 public:
  explicit Log(bool quiet) : quiet_(quiet) {}
  void line(const std::string& text) const {
    if (!quiet_) warning(text);
  }
  /// Shown even when quiet.
  static void warning(const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); }
  void field(const std::string& name, const std::string& text) const {
    line(name + std::string(name.size() < 12 ? 12 - name.size() : 1, ' ') + text);
  }

 private:
  bool quiet_;
};

std::string estimate_name(const TrainingSettings& settings, const EpochRecord& record) {
  return likelihood_name(settings) + " estimate (K=" + with_commas(record.evaluation.samples) + ", " +
         record.evaluated_on + ", " + counted(record.evaluation.rows, "row") + ")";
}

std::string estimate_text(const TrainingSettings& settings, const EpochRecord& record) {
  const Evaluation& e = record.evaluation;
  std::string diagnostics;
  for (const auto& [name, value] : record.diagnostics) {
    std::string words = name;
    std::replace(words.begin(), words.end(), '_', ' ');
    diagnostics += ", " + words + " " + decimals(value, 3);
  }
  return estimate_name(settings, record) + " " + decimals(e.log_likelihood, 2) + " +- " +
         decimals(e.standard_error, 2) + " nats, bound (K=1) " + decimals(e.bound, 2) +
         " nats, effective sample size " + decimals(e.effective_sample_size, 1) + diagnostics;
}

std::string padded_left(const std::string& text, std::size_t width) {
  return std::string(text.size() < width ? width - text.size() : 0, ' ') + text;
}
std::string padded_right(const std::string& text, std::size_t width) {
  return text + std::string(text.size() < width ? width - text.size() : 0, ' ');
}

std::string shape_text(const Conditional& conditional) {
  const std::string receiving = std::to_string(conditional.receiving);
  return conditional.has_input() ? receiving + " x " + std::to_string(conditional.sending) : receiving;
}

std::int64_t parameters_of(const Conditional& conditional) {
  return conditional.receiving * conditional.sending + conditional.receiving;
}

/// Where the rows are kept, and why.
std::string placement_text(const PlacementDecision& placement, const std::string& asked_for) {
  const auto bytes = [](auto count) { return byte_text(static_cast<double>(count)); };
  const std::string rows = bytes(placement.data_bytes) + " of rows ";
  const std::string where = placement.streamed ? rows + "stay in host memory, streamed through " +
                                                     bytes(placement.ring_bytes) + " on the device"
                                               : rows + "resident on the device";
  if (asked_for != "auto") return where + ": --data-placement " + asked_for;
  if (placement.streamed) {
    return where + ": auto, because they and " + bytes(placement.kept_free) +
           " for the rest of the run do not fit the " + bytes(placement.available) + " that are free there";
  }
  const bool known = placement.available != std::numeric_limits<std::size_t>::max();
  return where + ": auto" + (known ? ", " + bytes(placement.available) + " were free there" : "");
}

/// As many images as fit most_pixels, at least one and at most `count`: `lines` above each other for each of
/// them, side by side, or in a grid where it is 0.
std::int64_t images_that_fit(std::int64_t count, std::int64_t height, std::int64_t width,
                             std::int64_t lines = 0) {
  const auto pixels = [&] {
    const Extent extent =
        lines > 0 ? grid_extent(lines * count, height, width, count) : grid_extent(count, height, width);
    return extent.width * extent.height;
  };
  while (count > 1 && pixels() > most_pixels) --count;
  return count;
}

/// Epochs 1, 2, 5, 10, 20, 50, ...
bool is_pictured(std::int64_t epoch) {
  while (epoch % 10 == 0) epoch /= 10;
  return epoch == 1 || epoch == 2 || epoch == 5;
}

/// float32 numbers that the optimiser keeps for a parameter.
std::int64_t optimizer_numbers(const TrainingSettings& settings) {
  return settings.optimizer == OptimizerKind::adam       ? 2
         : settings.optimizer == OptimizerKind::momentum ? 1
                                                         : 0;
}

// -------------------------------------------------------------------------------- fresh or resumed

/// Where a run begins: anew, or at a checkpoint.
struct Start {
  std::optional<Model> checkpoint;
  TrainingSettings settings;
  Arguments arguments;           ///< with what RUN/config.toml adds to a resumed run
  std::optional<Model> initial;  ///< whose parameters a new run begins with
};

/// The model that --initial-model names, whose hash becomes one of the settings.
std::optional<Model> read_initial_model(TrainingSettings& settings, const Arguments& arguments) {
  const std::string path = arguments.text("initial-model");
  if (path.empty()) return std::nullopt;
  Model initial = load_model(path);
  settings.initial_hash = initial.hash;
  return initial;
}

/// The newest checkpoint that can be read. Every one that cannot is named.
std::optional<Model> newest_checkpoint(const RunFolder& folder) {
  const std::vector<CheckpointFile> files = folder.checkpoints();
  for (const CheckpointFile& file : files) {
    try {
      return load_model(file.path);
    } catch (const DataError& error) {
      Log::warning(std::string("WARNING: a checkpoint cannot be used, falling back to the one before it: ") +
                   error.what());
    }
  }
  if (files.empty()) return std::nullopt;
  throw DataError("no checkpoint in " + folder.path() +
                  "/checkpoints can be read; start anew with --force, or give another --out");
}

/// The option by which a setting is given.
std::string option_of(const std::string& setting) {
  return setting == "initial-hash" ? "initial-model" : setting;
}

void note_difference(std::string& differences, const Arguments& given, const std::string& name,
                     const std::string& recorded, const std::string& wanted) {
  if (recorded == wanted) return;
  differences += (differences.empty() ? "" : ", ") + name + " " + wanted + " (" +
                 given.place(option_of(name)) + ") where the run has " + recorded;
}

/// Refuses settings that are not those of the run. `base` are the run's own.
void refuse_differences(const RunFolder& folder, const Arguments& given, const TrainingSettings& base,
                        const Start& start) {
  std::string differences;
  // Settings that only one of the two algorithms uses differ with the algorithm, which is named.
  std::set<std::string> compared;
  for (const auto& [name, own] : to_pairs(base)) {
    note_difference(differences, given, name, own, setting_text(start.settings, name));
    compared.insert(name);
  }
  for (const auto& [name, wanted] : to_pairs(start.settings)) {
    if (compared.contains(name) || !given.given(option_of(name))) continue;
    note_difference(differences, given, name, is_used(base, name) ? setting_text(base, name) : "none",
                    wanted);
  }
  const Metadata recorded = start.checkpoint ? start.checkpoint->run : Metadata{};
  for (const std::string name : {"evaluate-samples", "evaluate-rows"}) {
    const auto found = recorded.find(name);
    if (found != recorded.end() && given.given(name)) {
      note_difference(differences, given, name, found->second, std::to_string(given.whole(name)));
    }
  }
  if (differences.empty()) return;
  throw UsageError("cannot resume " + folder.path() + " with other settings: " + differences +
                   "; leave them out to go on with the run's own, or train into another --out");
}

/// What the checkpoint and RUN/config.toml know and the caller did not say.
void add_recorded_layers(Arguments& arguments, const RunFolder& folder, const Start& start) {
  if (start.checkpoint) {
    GivenValues recorded;
    for (const std::string name : {"evaluate-samples", "evaluate-rows"}) {
      const auto found = start.checkpoint->run.find(name);
      if (found != start.checkpoint->run.end()) recorded[name] = {found->second, "the checkpoint's " + name};
    }
    arguments.add_layer(recorded);
  }
  if (folder.has_config()) arguments.add_layer(read_toml(arguments.spec(), folder.config()));
}

Start resumed_start(const RunFolder& folder, const Arguments& given, const Log& log) {
  Start start = {newest_checkpoint(folder), {}, given, {}};
  if (!start.checkpoint && !folder.has_config() && !folder.empty()) {
    throw UsageError("the folder " + folder.path() + " holds files but no run to resume; give another --out");
  }
  add_recorded_layers(start.arguments, folder, start);
  TrainingSettings base = start.checkpoint ? start.checkpoint->settings : TrainingSettings{};
  if (!start.checkpoint && folder.has_config()) {
    Arguments recorded(given.spec());
    recorded.add_layer(read_toml(given.spec(), folder.config()));
    base = settings_over(base, recorded);
    start.initial = read_initial_model(base, recorded);
  }
  start.settings = settings_over(base, given);
  if (given.given("initial-model")) start.initial = read_initial_model(start.settings, given);
  if (start.checkpoint || folder.has_config()) refuse_differences(folder, given, base, start);
  if (!start.checkpoint) {
    log.line("no checkpoint in " + folder.path() + " yet: the run starts from its beginning");
  }
  return start;
}

/// A new run begins in an empty folder. --force replaces a run, never what somebody else keeps there.
void refuse_folder_in_use(const RunFolder& folder, bool forced) {
  if (folder.empty()) return;
  if (!forced) {
    throw UsageError(
        "the run folder " + folder.path() +
        " is not empty; go on with its run by --resume, replace it by --force, or give another --out");
  }
  if (folder.has_config() || !folder.checkpoints().empty()) return;
  throw UsageError("the folder " + folder.path() +
                   " is not empty and holds no run, so --force does not replace it; give another --out");
}

Start start_of(const RunFolder& folder, const Arguments& given, const Log& log) {
  if (given.flag("resume")) return resumed_start(folder, given, log);
  refuse_folder_in_use(folder, given.flag("force"));
  Start start = {std::nullopt, settings_over(TrainingSettings{}, given), given, {}};
  start.initial = read_initial_model(start.settings, given);
  return start;
}

/// The checkpoint that is to be the run's model if the run ends with `last`: itself, or the best one.
Model model_checkpoint(const RunFolder& folder, const Model& last) {
  const auto best = last.run.find(best_step_entry);
  std::int64_t step = last.step;
  if (best != last.run.end() && !parse_whole(best->second, step)) {
    throw DataError("the checkpoint says run." + best_step_entry + "=" + best->second +
                    " where a step is expected; use the one before it");
  }
  return step == last.step ? last : load_model(folder.checkpoint(step));
}

/// The model of a run that has nothing left to do: it is there, and the last checkpoint leads to it.
std::optional<Model> finished_model(const RunFolder& folder, const Start& start) {
  if (!start.checkpoint || !folder.has_model()) return std::nullopt;
  try {
    Model model = load_model(folder.model());
    const Model expected = model_checkpoint(folder, *start.checkpoint);
    if (model.step == expected.step && model.hash == expected.hash) return model;
  } catch (const DataError& error) {
    Log::warning(std::string("wakesleep: ") + error.what() +
                 "; the model is written again from the checkpoint");
  }
  return std::nullopt;
}

// -------------------------------------------------------------------------------- the run

class Run {
 public:
  Run(RunFolder& folder, const Start& start, RunData data, const Device& device, const Log& log);

  void describe() const;
  /// From a locked folder to a finished model, or to a checkpoint when a signal came. Returns the exit code.
  int go();

 private:
  void begin();
  void train_to_the_end();
  void train_epoch();
  void finish_epoch();
  void finish();
  int interrupted();

  bool owes_evaluation() const;
  bool keeps_best() const { return trainer_.settings().early_stopping > 0; }
  std::int64_t best_step() const { return trainer_.progress().best_epoch() * trainer_.steps_per_epoch(); }
  Model load_best() const;
  EpochRecord restore_best(const Model& best);
  void tell_progress(std::int64_t reductions_before) const;
  EvaluationSettings evaluation_settings() const;
  Evaluation evaluate_now() const;
  EpochRecord record_now();
  Model checkpoint() const;
  void save_checkpoint();
  void refuse_other_validation(const Model& checkpoint) const;
  std::int64_t images_at(std::int64_t step) const;
  void describe_layers() const;

  void write_pictures(const EpochRecord& record) const;
  Report report(const Model& model, const EpochRecord& record, const Picture& samples) const;
  std::vector<ReportPicture> report_pictures(const Model& model, const Picture& samples) const;
  std::vector<ReportLayer> report_layers(const Evaluation& evaluation) const;

  RunFolder& folder_;
  const Start& start_;
  const Device& device_;
  const Log& log_;
  DataSet evaluated_;
  std::string evaluated_on_;
  std::string summary_;
  std::string validation_fingerprint_;
  std::int64_t rows_;
  Trainer trainer_;
  std::vector<EpochRecord> records_;
  std::unique_ptr<Progress> progress_;
  std::int64_t saved_step_;       ///< of the checkpoint that this run read or wrote last
  double seconds_ = 0;            ///< of training up to now
  double images_per_second_ = 0;  ///< in the latest stretch of training
};

Run::Run(RunFolder& folder, const Start& start, RunData data, const Device& device, const Log& log)
    : folder_(folder),
      start_(start),
      device_(device),
      log_(log),
      evaluated_(std::move(data.evaluated)),
      evaluated_on_(std::move(data.evaluated_on)),
      summary_(std::move(data.summary)),
      validation_fingerprint_(fingerprint(evaluated_)),
      rows_(data.training.rows),
      trainer_(start.checkpoint ? Trainer(*device.ops, std::move(data.training), *start.checkpoint,
                                          placement_settings(start.arguments))
                                : Trainer(*device.ops, std::move(data.training), start.settings,
                                          placement_settings(start.arguments))),
      saved_step_(trainer_.step()) {
  if (start.checkpoint) refuse_other_validation(*start.checkpoint);
  if (!start.checkpoint && start.initial) trainer_.begin_with(*start.initial);
}

void Run::refuse_other_validation(const Model& checkpoint) const {
  const auto found = checkpoint.run.find("validation");
  if (found == checkpoint.run.end() || found->second == validation_fingerprint_) return;
  throw DataError(
      "cannot resume " + folder_.path() +
      " with other rows to evaluate on than the run has; give the --validation that it began with");
}

/// Images trained up to `step`.
std::int64_t Run::images_at(std::int64_t step) const {
  const std::int64_t steps = trainer_.steps_per_epoch();
  return step / steps * rows_ + std::min(step % steps * trainer_.settings().batch_size, rows_);
}

// -------------------------------------------------------------------------------- before training

void Run::describe_layers() const {
  const Machine& machine = trainer_.machine();
  const std::int64_t numbers = optimizer_numbers(trainer_.settings());
  const auto row = [&](const std::string& name, const std::string& shape, std::int64_t parameters) {
    const auto bytes = static_cast<double>(4 * parameters);
    log_.field("", padded_right(name, 20) + padded_left(shape, 14) +
                       padded_left(with_commas(parameters), 14) + padded_left(byte_text(bytes), 12) +
                       padded_left(byte_text(bytes * static_cast<double>(numbers)), 17));
  };
  log_.field("layers", padded_right("conditional", 20) + padded_left("shape", 14) +
                           padded_left("parameters", 14) + padded_left("float32", 12) +
                           padded_left("optimiser state", 17));
  for (int i = 0; i < machine.conditionals(); ++i) {
    const Conditional& conditional = machine.conditional(i);
    row(machine.conditional_name(i), shape_text(conditional), parameters_of(conditional));
  }
  row("total", "", machine.parameters());
  log_.field("memory",
             byte_text(static_cast<double>(device_.ops->memory_use().current)) +
                 " held on the device: parameters, integers, optimiser state, data, one step's states");
}

void Run::describe() const {
  const TrainingSettings& settings = trainer_.settings();
  log_.field("device", device_.reason + ": " + device_.ops->description());
  log_.field("contract", std::string(arithmetic_contract) + ": " + promise_of(settings));
  log_.field("data", summary_);
  log_.field("", placement_text(trainer_.placement(), start_.arguments.text("data-placement")));
  log_.field("evaluation", "after each epoch on " + counted(evaluated_.rows, evaluated_on_ + " row") +
                               ", K=" + start_.arguments.text("evaluate-samples"));
  describe_layers();
  std::string text;
  for (const auto& [name, value] : to_pairs(settings))
    text += (text.empty() ? "" : ", ") + name + " " + value;
  log_.field("settings", text);
  log_.field("", "learning rates multiply the mean gradient over the batch");
  log_.field("seed", std::to_string(settings.seed));
  log_.field("run", folder_.path() + ": steps " + with_commas(trainer_.step()) + " to " +
                        with_commas(trainer_.total_steps()) + " of " + counted(settings.batch_size, "row"));
}

Model Run::checkpoint() const {
  Model model = trainer_.snapshot();
  model.run["validation"] = validation_fingerprint_;
  for (const std::string name : {"evaluate-samples", "evaluate-rows"})
    model.run[name] = std::to_string(start_.arguments.whole(name));
  if (keeps_best()) model.run[best_step_entry] = std::to_string(best_step());
  return model;
}

void Run::save_checkpoint() {
  folder_.save_checkpoint(checkpoint(), keeps_best() ? std::optional(best_step()) : std::nullopt);
  saved_step_ = trainer_.step();
}

void Run::begin() {
  const bool resumed = start_.arguments.flag("resume");
  const bool forced = start_.arguments.flag("force");
  if (resumed) folder_.keep();  // whatever happens: the next call goes on from what is there
  folder_.create();
  if (!resumed) refuse_folder_in_use(folder_, forced);  // again, now that nobody else can fill it
  // The first checkpoint is the untrained machine, so that there always is one to go back to. It comes before
  // anything of an old run goes, and otherwise after the config that resuming needs.
  const bool replaced = forced && !folder_.empty();
  if (replaced) folder_.replace_run(checkpoint());

  std::int64_t dropped = 0;
  records_ = folder_.cut_metrics(trainer_.step(), trainer_.machine().layers(), dropped);
  if (dropped > 0) {
    log_.line(folder_.metrics() + ": dropped " + counted(dropped, "line") +
              " of other steps than those up to " + with_commas(trainer_.step()));
  }
  if (!records_.empty()) seconds_ = records_.back().seconds;
  // A run that was killed between an epoch's line and its checkpoint has not counted the line's estimate, and
  // still has the diagnostics that stand in the line.
  if (!records_.empty() && records_.back().step == trainer_.step()) {
    trainer_.observe(records_.back().evaluation.log_likelihood);
    trainer_.diagnostics();
  }
  folder_.save_config(resolved_toml(start_.arguments, trainer_.settings()));
  if (!start_.checkpoint && !replaced) save_checkpoint();
}

// -------------------------------------------------------------------------------- training

int Run::go() {
  const SignalWatch watch;
  begin();
  const std::int64_t images = images_at(trainer_.total_steps()) - images_at(trainer_.step());
  progress_ = std::make_unique<Progress>(stderr, verbosity_for(stderr, start_.arguments.flag("quiet")),
                                         "training", "images", images);
  try {
    train_to_the_end();
  } catch (const Interrupted&) {
    return interrupted();
  }
  progress_.reset();
  finish();
  return 0;
}

void Run::train_to_the_end() {
  while (true) {
    // A run that was stopped between an epoch's last step and its evaluation still owes the latter.
    if (owes_evaluation()) finish_epoch();
    if (trainer_.finished()) return;
    train_epoch();
  }
}

bool Run::owes_evaluation() const {
  const std::int64_t step = trainer_.step();
  const bool evaluated = !records_.empty() && records_.back().step == step;
  return step > 0 && step % trainer_.steps_per_epoch() == 0 && !evaluated;
}

void Run::train_epoch() {
  const std::int64_t images_before = images_at(trainer_.step());
  const std::int64_t images_at_start = start_.checkpoint ? images_at(start_.checkpoint->step) : 0;
  const auto begin = std::chrono::steady_clock::now();
  try {
    trainer_.run_epoch(
        [] { return SignalWatch::caught() != 0; },
        [&](std::int64_t) { progress_->update(images_at(trainer_.step()) - images_at_start); });
  } catch (const DivergenceError& error) {
    throw DivergenceError(std::string(error.what()) + "; the last good checkpoint is " +
                          folder_.checkpoint(saved_step_));
  }
  const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  seconds_ += elapsed;
  images_per_second_ =
      static_cast<double>(images_at(trainer_.step()) - images_before) / std::max(elapsed, 1e-9);
  if (SignalWatch::caught() != 0) throw Interrupted();
}

EvaluationSettings Run::evaluation_settings() const {
  EvaluationSettings settings;
  settings.samples = start_.arguments.whole("evaluate-samples");
  settings.seed = trainer_.settings().seed;
  return settings;
}

Evaluation Run::evaluate_now() const {
  EvaluationSettings settings = evaluation_settings();
  settings.progress = [](std::int64_t, std::int64_t) {
    if (SignalWatch::caught() != 0) throw Interrupted();
  };
  return wakesleep::evaluate(trainer_.machine(), evaluated_, settings);
}

EpochRecord Run::record_now() {
  const TrainingSettings& settings = trainer_.settings();
  const double factor = trainer_.last_schedule_factor();
  EpochRecord record;
  record.epoch = trainer_.epoch();
  record.step = trainer_.step();
  record.seconds = seconds_;
  record.images_per_second = images_per_second_;
  record.generative_learning_rate = settings.generative_learning_rate * factor;
  record.recognition_learning_rate = settings.recognition_learning_rate * factor;
  record.evaluated_on = evaluated_on_;
  record.evaluation = evaluate_now();
  for (const auto& [name, value] : trainer_.diagnostics()) record.diagnostics[name] = value;
  return record;
}

/// The checkpoint comes last: whatever a kill leaves out before it is done again by the resumed run.
void Run::finish_epoch() {
  records_.push_back(record_now());
  const EpochRecord& record = records_.back();
  const std::int64_t reductions_before = trainer_.progress().reductions();
  trainer_.observe(record.evaluation.log_likelihood);
  if (is_pictured(record.epoch) || trainer_.finished()) write_pictures(record);
  folder_.append_metrics(record);  // after the pictures: a resumed run takes the line as proof of them
  const bool is_best = keeps_best() && trainer_.progress().best_epoch() == record.epoch;
  if (record.epoch % start_.arguments.whole("checkpoint-every") == 0 || trainer_.finished() || is_best) {
    save_checkpoint();
  }
  progress_->clear();
  log_.line("epoch " + std::to_string(record.epoch) + "/" + std::to_string(trainer_.settings().epochs) +
            "  step " + with_commas(record.step) + "  " +
            with_commas(std::llround(record.images_per_second)) + " images/s  " +
            estimate_text(trainer_.settings(), record));
  tell_progress(reductions_before);
}

/// What the estimate just observed has changed.
void Run::tell_progress(std::int64_t reductions_before) const {
  const ValidationProgress& progress = trainer_.progress();
  const TrainingSettings& settings = trainer_.settings();
  const std::string best = "the best estimate is still " + decimals(progress.best(), 2) + " nats, of epoch " +
                           std::to_string(progress.best_epoch());
  if (progress.stopped() && trainer_.step() < trainer_.total_steps()) {
    log_.line("stopping early after epoch " + std::to_string(progress.epoch()) + ": " + best);
  } else if (progress.reductions() != reductions_before && !trainer_.finished()) {
    const double factor =
        schedule_factor_at(settings, trainer_.step(), trainer_.steps_per_epoch(), progress.reductions());
    log_.line("plateau: " + best + "; from now on the learning rates are " +
              number_text(settings.generative_learning_rate * factor) + " (generative) and " +
              number_text(settings.recognition_learning_rate * factor) + " (recognition)");
  }
}

int Run::interrupted() {
  progress_.reset();
  save_checkpoint();
  const int number = SignalWatch::caught();
  Log::warning(std::string("wakesleep: stopped by ") + (number == SIGINT ? "SIGINT" : "SIGTERM") +
               " after step " + with_commas(trainer_.step()) + "; saved " +
               folder_.checkpoint(trainer_.step()) + ", go on with --resume");
  return 128 + number;
}

/// Puts the parameters of the best epoch into the trainer's machine, which trains no more, and draws them.
/// Returns the epoch's record.
EpochRecord Run::restore_best(const Model& best) {
  const std::int64_t best_epoch = trainer_.progress().best_epoch();
  trainer_.machine().upload(best.tensors);
  const auto found = std::find_if(records_.begin(), records_.end(),
                                  [&](const EpochRecord& r) { return r.epoch == best_epoch; });
  EpochRecord record = found != records_.end() ? *found : records_.back();
  if (found == records_.end()) {  // its line of metrics is lost
    record.epoch = best_epoch;
    record.step = best_step();
    record.evaluation = wakesleep::evaluate(trainer_.machine(), evaluated_, evaluation_settings());
  }
  write_pictures(record);
  return record;
}

Model Run::load_best() const {
  try {
    return load_model(folder_.checkpoint(best_step()));
  } catch (const DataError& error) {
    throw DataError(std::string(error.what()) +
                    "; it holds the best epoch's model, which no other checkpoint leads to: train again with "
                    "--force, which gives the same model");
  }
}

/// The model is written last: where it is, the run is finished.
void Run::finish() {
  const EpochRecord& last = records_.back();
  Model model = trainer_.snapshot();
  EpochRecord record = last;
  if (keeps_best() && best_step() != trainer_.step()) {
    model = load_best();
    record = restore_best(model);
  }
  model.optimizer.clear();
  model.algorithm.clear();
  model.run = {{"data", model.run.at("data")}};
  save_model(folder_.model(), model);
  std::printf("%s\n", estimate_text(model.settings, record).c_str());
  if (keeps_best()) {
    std::printf("model of epoch %lld, the best of the %lld that were trained\n",
                static_cast<long long>(record.epoch), static_cast<long long>(last.epoch));
  }
  std::printf("training time %s, %s steps\n", duration_text(last.seconds).c_str(),
              with_commas(trainer_.step()).c_str());
  std::printf("model   %s\n", folder_.model().c_str());
  std::printf("hash    %s\n", model.hash.c_str());
  std::printf("samples %s\n", folder_.sample(record.epoch).c_str());
  std::printf("report  %s\n", folder_.report().c_str());
}

// -------------------------------------------------------------------------------- pictures and report

void Run::write_pictures(const EpochRecord& record) const {
  const Model model = trainer_.snapshot();
  std::int64_t height = model.height;
  std::int64_t width = model.width;
  picture_shape(model.sizes.front(), height, width);
  const std::int64_t count = images_that_fit(pictured_samples, height, width);
  const std::vector<float> dreams = dream(trainer_.machine(), count, model.settings.seed);
  const Picture samples = image_grid(dreams.data(), count, height, width);
  const std::vector<std::uint8_t> png = png_bytes(samples);
  write_file_atomically(folder_.sample(record.epoch), png.data(), png.size());
  const std::string page = render(report(model, record, samples));
  write_file_atomically(folder_.report(), page.data(), page.size());
}

Report Run::report(const Model& model, const EpochRecord& shown, const Picture& samples) const {
  const EpochRecord& last = records_.back();
  const Evaluation& e = shown.evaluation;
  std::string epoch = std::to_string(shown.epoch) + " of " + std::to_string(model.settings.epochs);
  if (shown.epoch != last.epoch) epoch += " (the best of the " + std::to_string(last.epoch) + " trained)";
  Report report;
  report.title = folder_.path().substr(folder_.path().rfind('/') + 1);
  report.facts = {
      {"Data", summary_},
      {estimate_name(model.settings, shown),
       decimals(e.log_likelihood, 2) + " +- " + decimals(e.standard_error, 2) + " nats"},
      {"Bound (K=1)", decimals(e.bound, 2) + " nats"},
      {"Epoch", epoch},
      {"Training time", duration_text(last.seconds)},
      {"Parameters", with_commas(trainer_.machine().parameters())},
      {"Device", device_.ops->description()},
      {"Arithmetic contract", std::string(arithmetic_contract) + ": " + promise_of(model.settings)},
      {"Model hash", model.hash},
  };
  report.settings = to_pairs(model.settings);
  report.likelihood = likelihood_name(model.settings);
  report.samples = e.samples;
  report.evaluated_on = shown.evaluated_on + ", " + counted(e.rows, "row");
  for (const EpochRecord& record : records_) {
    const Evaluation& of_epoch = record.evaluation;
    report.curve.push_back({.epoch = static_cast<double>(record.epoch),
                            .seconds = record.seconds,
                            .log_likelihood = of_epoch.log_likelihood,
                            .bound = of_epoch.bound,
                            .effective_sample_size = of_epoch.effective_sample_size,
                            .images_per_second = record.images_per_second,
                            .layer_kl = of_epoch.layer_kl,
                            .layer_mismatch = of_epoch.layer_mismatch,
                            .active_units = of_epoch.active_units,
                            .diagnostics = record.diagnostics});
  }
  report.layers = report_layers(e);
  report.pictures = report_pictures(model, samples);
  return report;
}

std::vector<ReportLayer> Run::report_layers(const Evaluation& e) const {
  const Machine& machine = trainer_.machine();
  const double none = std::numeric_limits<double>::quiet_NaN();
  std::vector<ReportLayer> layers;
  for (int i = 0; i < machine.conditionals(); ++i) {
    const Conditional& conditional = machine.conditional(i);
    layers.push_back({.name = machine.conditional_name(i),
                      .shape = shape_text(conditional),
                      .parameters = parameters_of(conditional),
                      .kl = none,
                      .active = -1,
                      .mismatch = none});
  }
  for (int l = 1; l <= machine.layers(); ++l) {
    ReportLayer& layer = layers[static_cast<std::size_t>(Machine::recognition_index(l))];
    layer.kl = e.layer_kl[static_cast<std::size_t>(l - 1)];
    layer.active = e.active_units[static_cast<std::size_t>(l - 1)];
    // A line of metrics that an older version wrote has none.
    if (!e.layer_mismatch.empty()) layer.mismatch = e.layer_mismatch[static_cast<std::size_t>(l - 1)];
  }
  return layers;
}

std::vector<ReportPicture> Run::report_pictures(const Model& model, const Picture& samples) const {
  std::int64_t height = model.height;
  std::int64_t width = model.width;
  picture_shape(model.sizes.front(), height, width);
  const DataSet rows = first_rows(
      evaluated_, images_that_fit(std::min(pictured_reconstructions, evaluated_.rows), height, width, 2));
  std::vector<float> pairs = values_of(rows);
  const std::vector<float> again = reconstruct(trainer_.machine(), rows, model.settings.seed);
  pairs.insert(pairs.end(), again.begin(), again.end());
  const std::int64_t fields = images_that_fit(std::min(pictured_fields, model.sizes[1]), height, width);
  return {
      {"Samples",
       (model.settings.visible == Visible::gaussian ? "Visible means of " : "Visible probabilities of ") +
           counted(images_that_fit(pictured_samples, height, width), "dream") +
           ": states from the prior downward by the generative weights.",
       samples},
      {"Reconstructions",
       "Above: rows of the " + evaluated_on_ +
           " data. Below: their reconstructions, up by the recognition weights and down again.",
       image_grid(pairs.data(), 2 * rows.rows, height, width, rows.rows)},
      {"Receptive fields of the first layer",
       "Rows of recognition.1.weight, each scaled by its largest magnitude; zero is middle grey.",
       receptive_fields(model.tensors.at("recognition.1.weight").values.data(), fields, height, width)},
  };
}

/// The data of a run, whose paths RUN/config.toml keeps as they were given.
RunData data_of(const RunFolder& folder, const Start& start, const Arguments& given) {
  const bool resumed = given.flag("resume") && folder.has_config();
  if (resumed && !start.arguments.given("data")) {
    throw UsageError(folder.config() +
                     " does not hold DATA (a name that is not UTF-8 cannot stand in TOML); give DATA on the "
                     "command line");
  }
  try {
    return read_run_data(start.arguments, start.settings);
  } catch (const DataError& error) {
    const std::string path = start.arguments.text("data");
    const bool relative = !path.empty() && path.front() != '/';
    if (!resumed || given.given("data") || !relative || std::filesystem::exists(path)) throw;
    throw DataError(std::string(error.what()) + "; paths in " + folder.config() +
                    " are relative to the folder in which the run was started: resume there, or give DATA");
  }
}

/// The options of the command line, with those of --config below them.
Arguments with_config(const Arguments& command_line) {
  Arguments given = command_line;
  if (given.given("config")) given.add_layer(read_toml(given.spec(), given.text("config")));
  if (given.flag("resume") && given.flag("force")) {
    throw UsageError("--resume goes on with a run and --force replaces it; give one of them");
  }
  return given;
}

}  // namespace

int train(const Arguments& command_line) {
  const Arguments given = with_config(command_line);
  const Log log(given.flag("quiet"));
  RunFolder folder(given.required("out"));
  const Start start = start_of(folder, given, log);
  if (const std::optional<Model> model = finished_model(folder, start)) {
    std::printf("the run in %s is finished: step %s, model %s, hash %s\n", folder.path().c_str(),
                with_commas(model->step).c_str(), folder.model().c_str(), model->hash.c_str());
    return 0;
  }
  if (watches_validation(start.settings) && start.arguments.text("validation").empty()) {
    throw UsageError(
        "--schedule plateau and --early-stopping go by the estimate on rows that are not trained on; give "
        "--validation FILE or a fraction of the data, such as --validation 0.1");
  }
  RunData data = data_of(folder, start, given);
  if (!data.warning.empty()) Log::warning(data.warning);
  const Device device = choose_device(start.arguments);
  Run run(folder, start, std::move(data), device, log);
  run.describe();
  return run.go();
}

}  // namespace wakesleep::command
