// The arguments of one call: what was given where, in layers, and what the commands make of it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "command/options.hpp"
#include "wakesleep/data.hpp"
#include "wakesleep/ops.hpp"
#include "wakesleep/settings.hpp"
#include "wakesleep/training_rows.hpp"

namespace wakesleep::command {

/// A value as it was typed, and where: "option --epochs", "run.toml:3:1: key epochs".
struct Given {
  std::string text;
  std::string place;
};
using GivenValues = std::map<std::string, Given>;

/// The values of one call. Getters of an option that was not given return its default.
class Arguments {
 public:
  explicit Arguments(const CommandSpec& spec) : spec_(&spec) {}

  /// Adds values below those that are there already: earlier layers win. Throws UsageError naming place,
  /// value and what was expected.
  void add_layer(GivenValues values);

  const CommandSpec& spec() const { return *spec_; }
  bool given(const std::string& name) const { return values_.count(name) != 0; }
  /// Where a given option was given.
  const std::string& place(const std::string& name) const { return values_.at(name).place; }
  std::string text(const std::string& name) const;
  /// Throws UsageError when the option was not given.
  std::string required(const std::string& name) const;
  bool flag(const std::string& name) const { return text(name) == "true"; }
  std::int64_t whole(const std::string& name) const;
  double number(const std::string& name) const;
  std::uint64_t seed(const std::string& name) const;
  /// "784,200,200" as numbers.
  std::vector<std::int64_t> widths(const std::string& name) const;

 private:
  const CommandSpec* spec_;
  GivenValues values_;
};

/// Throws UsageError for an unknown option (naming the nearest), one given twice, or one without its value.
GivenValues read_command_line(const CommandSpec& spec, const std::vector<std::string>& words);

/// Throws UsageError where the option was given and has no part in trainings of these settings.
void refuse_unused(const Arguments& given, const std::string& option, const TrainingSettings& settings);

/// Throws UsageError for settings that cannot be used (wakesleep::check), naming where the first of them was
/// given.
void check_given(const TrainingSettings& settings, const Arguments& given);

/// `base` with the settings that were given put over it. Throws UsageError.
TrainingSettings settings_over(const TrainingSettings& base, const Arguments& given);

/// The backend that --device, --threads, --route, --instructions and --replay ask for, and why it is this
/// one.
struct Device {
  std::unique_ptr<Ops> ops;
  std::string reason;
};
Device choose_device(const Arguments& arguments);

/// --data-placement.
PlacementSettings placement_settings(const Arguments& arguments);

/// --row-length and --image-shape.
ReadOptions read_options(const Arguments& arguments);

}  // namespace wakesleep::command
