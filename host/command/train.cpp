// `wakesleep train`: a training run with its folder, log, pictures and signals around the Trainer.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>
#include <utility>

#include "command/commands.hpp"
#include "command/config_file.hpp"
#include "command/log.hpp"
#include "command/progress.hpp"
#include "command/run_data.hpp"
#include "command/run_folder.hpp"
#include "command/run_report.hpp"
#include "command/run_start.hpp"
#include "command/run_texts.hpp"
#include "command/signal_watch.hpp"
#include "number_text.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/trainer.hpp"

namespace wakesleep::command {
namespace {

/// Leaves an evaluation that a signal made superfluous.
struct Interrupted {};

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
  EvaluationSettings evaluation_settings() const;
  Evaluation evaluate_now() const;
  EpochRecord record_now();
  Model checkpoint() const;
  void save_checkpoint();
  std::int64_t images_at(std::int64_t step) const;
  void show(const EpochRecord& record) const;
  void tell_progress(std::int64_t reductions_before) const;

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
  if (start.checkpoint) refuse_other_validation(folder, *start.checkpoint, validation_fingerprint_);
  if (!start.checkpoint && start.initial) trainer_.begin_with(*start.initial);
}

/// Images trained up to `step`.
std::int64_t Run::images_at(std::int64_t step) const {
  const std::int64_t steps = trainer_.steps_per_epoch();
  return step / steps * rows_ + std::min(step % steps * trainer_.settings().batch_size, rows_);
}

// -------------------------------------------------------------------------------- before training

void Run::describe() const {
  const TrainingSettings& settings = trainer_.settings();
  log_.field("device", device_.reason + ": " + device_.ops->description());
  log_.field("contract", std::string(arithmetic_contract) + ": " + promise_of(settings));
  log_.field("data", summary_);
  log_.field("", placement_text(trainer_.placement(), start_.arguments.text("data-placement")));
  log_.field("evaluation", "after each epoch on " + counted(evaluated_.rows, evaluated_on_ + " row") +
                               ", K=" + start_.arguments.text("evaluate-samples"));
  const std::vector<std::string> layers = layer_table(trainer_.machine(), settings);
  for (std::size_t i = 0; i < layers.size(); ++i) log_.field(i == 0 ? "layers" : "", layers[i]);
  log_.field("memory",
             byte_text(static_cast<double>(device_.ops->memory_use().current)) +
                 " held on the device: parameters, integers, optimiser state, data, one step's states");
  std::string text;
  for (const auto& [name, value] : used_settings(settings))
    text += (text.empty() ? "" : ", ") + name + " " + value;
  log_.field("settings", text);
  log_.field("", "learning rates multiply the mean gradient over the batch");
  log_.field("seed", std::to_string(settings.seed));
  log_.field("run", folder_.path() + ": steps " + with_commas(trainer_.step()) + " to " +
                        with_commas(trainer_.total_steps()) + " of " + counted(settings.batch_size, "row"));
}

Model Run::checkpoint() const {
  Model model = trainer_.snapshot();
  model.run[validation_entry] = validation_fingerprint_;
  for (const std::string name : recorded_options)
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
  if (is_pictured(record.epoch) || trainer_.finished()) show(record);
  folder_.append_metrics(record);  // after the pictures: a resumed run takes the line as proof of them
  const bool is_best = keeps_best() && trainer_.progress().best_epoch() == record.epoch;
  if (record.epoch % start_.arguments.whole("checkpoint-every") == 0 || trainer_.finished() || is_best) {
    save_checkpoint();
  }
  progress_->clear();
  // A resumed run that owed the evaluation alone has not trained.
  const std::string rate =
      record.images_per_second > 0 ? with_commas(std::llround(record.images_per_second)) + " images/s  " : "";
  log_.line("epoch " + std::to_string(record.epoch) + "/" + std::to_string(trainer_.settings().epochs) +
            "  step " + with_commas(record.step) + "  " + rate + estimate_text(trainer_.settings(), record));
  tell_progress(reductions_before);
}

void Run::show(const EpochRecord& record) const {
  write_samples_and_report({.folder = folder_,
                            .trainer = trainer_,
                            .records = records_,
                            .evaluated = evaluated_,
                            .evaluated_on = evaluated_on_,
                            .data_summary = summary_,
                            .device = device_},
                           record);
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

// -------------------------------------------------------------------------------- the end of a run

int Run::interrupted() {
  progress_.reset();
  save_checkpoint();
  const int number = SignalWatch::caught();
  Log::warning(std::string("wakesleep: stopped by ") + (number == SIGINT ? "SIGINT" : "SIGTERM") +
               " after step " + with_commas(trainer_.step()) + "; saved " +
               folder_.checkpoint(trainer_.step()) + ", go on with --resume");
  return 128 + number;
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
  show(record);
  return record;
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
  model = finished(std::move(model));
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

// -------------------------------------------------------------------------------- the command

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
