// Where a training run begins: anew, with the parameters of a model, or at a checkpoint of its folder.
#pragma once

#include <optional>
#include <string>

#include "command/arguments.hpp"
#include "command/log.hpp"
#include "command/run_data.hpp"
#include "command/run_folder.hpp"
#include "wakesleep/model_file.hpp"
#include "wakesleep/settings.hpp"

namespace wakesleep::command {

// What a checkpoint's run state (Model::run) keeps for the run that goes on from it.
/// Entry: the step after the best epoch, where early stopping goes by it.
inline const std::string best_step_entry = "best-step";
/// Entry: the fingerprint of the rows that are evaluated on.
inline const std::string validation_entry = "validation";
/// Options whose values are entries.
inline constexpr const char* recorded_options[] = {"evaluate-samples", "evaluate-rows"};

struct Start {
  std::optional<Model> checkpoint;
  TrainingSettings settings;
  Arguments arguments;           ///< with what RUN/config.toml adds to a resumed run
  std::optional<Model> initial;  ///< whose parameters a new run begins with
};

/// Where the run in `folder` begins by the options that were given. Throws UsageError where another run is
/// there, or where the options are not those of the run to resume, and DataError where nothing there can be
/// read.
Start start_of(const RunFolder& folder, const Arguments& given, const Log& log);

/// A new run begins in an empty folder. --force replaces a run, never what somebody else keeps there. Throws
/// UsageError where the folder is in use.
void refuse_folder_in_use(const RunFolder& folder, bool forced);

/// The model of a run that has nothing left to do: it is there, and the last checkpoint leads to it.
std::optional<Model> finished_model(const RunFolder& folder, const Start& start);

/// The data of a run, whose paths RUN/config.toml keeps as they were given. Throws what reading data throws.
RunData data_of(const RunFolder& folder, const Start& start, const Arguments& given);

/// Throws DataError where the checkpoint's run was evaluated on other rows than those of this fingerprint.
void refuse_other_validation(const RunFolder& folder, const Model& checkpoint,
                             const std::string& validation_fingerprint);

}  // namespace wakesleep::command
