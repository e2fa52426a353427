#include "command/run_texts.hpp"

#include <algorithm>
#include <limits>

#include "command/progress.hpp"
#include "command/values.hpp"

namespace wakesleep::command {
namespace {

std::string padded_left(const std::string& text, std::size_t width) {
  return std::string(text.size() < width ? width - text.size() : 0, ' ') + text;
}
std::string padded_right(const std::string& text, std::size_t width) {
  return text + std::string(text.size() < width ? width - text.size() : 0, ' ');
}

/// float32 numbers that the optimiser keeps for a parameter.
std::int64_t optimizer_numbers(const TrainingSettings& settings) {
  return settings.optimizer == OptimizerKind::adam       ? 2
         : settings.optimizer == OptimizerKind::momentum ? 1
                                                         : 0;
}

/// A row of the table of layers.
std::string columns(const std::string& conditional, const std::string& shape, const std::string& parameters,
                    const std::string& float32, const std::string& optimizer_state) {
  return padded_right(conditional, 20) + padded_left(shape, 14) + padded_left(parameters, 14) +
         padded_left(float32, 12) + padded_left(optimizer_state, 17);
}

}  // namespace

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

std::vector<std::pair<std::string, std::string>> used_settings(const TrainingSettings& settings) {
  std::vector<std::pair<std::string, std::string>> used;
  for (auto& setting : to_pairs(settings)) {
    if (is_used(settings, setting.first)) used.push_back(std::move(setting));
  }
  return used;
}

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

std::string shape_of(const Conditional& conditional) {
  const std::string receiving = std::to_string(conditional.receiving);
  return conditional.has_input() ? receiving + " x " + std::to_string(conditional.sending) : receiving;
}

std::int64_t parameters_of(const Conditional& conditional) {
  return conditional.receiving * conditional.sending + conditional.receiving;
}

std::vector<std::string> layer_table(const Machine& machine, const TrainingSettings& settings) {
  const auto numbers = static_cast<double>(optimizer_numbers(settings));
  const auto row = [&](const std::string& name, const std::string& shape, std::int64_t parameters) {
    const auto bytes = static_cast<double>(4 * parameters);
    return columns(name, shape, with_commas(parameters), byte_text(bytes), byte_text(bytes * numbers));
  };
  std::vector<std::string> rows = {
      columns("conditional", "shape", "parameters", "float32", "optimiser state")};
  for (int i = 0; i < machine.conditionals(); ++i) {
    const Conditional& conditional = machine.conditional(i);
    rows.push_back(row(machine.conditional_name(i), shape_of(conditional), parameters_of(conditional)));
  }
  rows.push_back(row("total", "", machine.parameters()));
  return rows;
}

}  // namespace wakesleep::command
