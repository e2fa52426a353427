// Texts about a training run, for its log, its results and its report.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "command/run_folder.hpp"
#include "wakesleep/machine.hpp"
#include "wakesleep/settings.hpp"
#include "wakesleep/training_rows.hpp"

namespace wakesleep::command {

/// "log-likelihood estimate (K=1,000, validation, 1,000 rows)".
std::string estimate_name(const TrainingSettings& settings, const EpochRecord& record);
/// The estimate with its value, the bound and what else was measured after the epoch.
std::string estimate_text(const TrainingSettings& settings, const EpochRecord& record);

/// Those of to_pairs(settings) that a training of these settings has a use for.
std::vector<std::pair<std::string, std::string>> used_settings(const TrainingSettings& settings);

/// Where the rows are kept, and why. `asked_for` is the value of --data-placement.
std::string placement_text(const PlacementDecision& placement, const std::string& asked_for);

/// "200 x 784"; "200" of a prior that is biases alone.
std::string shape_of(const Conditional& conditional);
std::int64_t parameters_of(const Conditional& conditional);
/// The conditionals with their shapes, parameters and bytes, below a heading and above their total: lines.
std::vector<std::string> layer_table(const Machine& machine, const TrainingSettings& settings);

}  // namespace wakesleep::command
