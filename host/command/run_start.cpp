#include "command/run_start.hpp"

#include <cstdint>
#include <filesystem>
#include <set>

#include "command/config_file.hpp"
#include "command/values.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep::command {
namespace {

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
  for (const std::string name : recorded_options) {
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
    for (const std::string name : recorded_options) {
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

}  // namespace

Start start_of(const RunFolder& folder, const Arguments& given, const Log& log) {
  if (given.flag("resume")) return resumed_start(folder, given, log);
  refuse_folder_in_use(folder, given.flag("force"));
  Start start = {std::nullopt, settings_over(TrainingSettings{}, given), given, {}};
  start.initial = read_initial_model(start.settings, given);
  return start;
}

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

void refuse_other_validation(const RunFolder& folder, const Model& checkpoint,
                             const std::string& validation_fingerprint) {
  const auto found = checkpoint.run.find(validation_entry);
  if (found == checkpoint.run.end() || found->second == validation_fingerprint) return;
  throw DataError(
      "cannot resume " + folder.path() +
      " with other rows to evaluate on than the run has; give the --validation that it began with");
}

}  // namespace wakesleep::command
