// The options of every command, described once: the command line, --help, TOML files, the comparison of
// --resume and the resolved config.toml all come from the tables in options.cpp.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "wakesleep/data.hpp"
#include "wakesleep/ops.hpp"
#include "wakesleep/settings.hpp"

namespace wakesleep::command {

enum class Kind { flag, whole, number, seed, text, choice, layers, shape, device };

/// What an option means to a run folder.
enum class Role {
  setting,  ///< decides which model a run ends with: kept in the model, compared by --resume
  record,   ///< kept in config.toml, free to change when a run is resumed
  call,     ///< concerns this call only
};

/// Values that a number may take. Bounds belong to it unless they are open.
struct Range {
  double minimum = -std::numeric_limits<double>::infinity();
  double maximum = std::numeric_limits<double>::infinity();
  bool open_minimum = false;
  bool open_maximum = false;
};

struct OptionSpec {
  std::string name;  ///< without dashes; of a positional: the TOML key
  Kind kind = Kind::text;
  std::string argument;  ///< how --help names the value: "N", "FILE"
  std::string fallback;  ///< the default as it would be typed; empty: none
  std::string group;     ///< heading in --help
  std::string help;
  Role role = Role::call;
  Range range = {};
  std::vector<std::string> choices = {};
};

struct CommandSpec {
  std::string name;
  std::string summary;
  std::vector<OptionSpec> positionals;
  std::vector<OptionSpec> options;

  /// The option or positional of this name, or null.
  const OptionSpec* find(const std::string& option) const;
};

/// What `wakesleep train` takes: the one description of the training settings outside the library.
const CommandSpec& train_spec();

// Parts that the commands build their own tables of.
using Options = std::vector<OptionSpec>;
OptionSpec call(std::string name, Kind kind, std::string argument, std::string fallback, std::string group,
                std::string help, Range range = {});
OptionSpec flag(std::string name, std::string group, std::string help);
Options joined(std::vector<Options> parts);
OptionSpec model_positional();
OptionSpec data_positional();
OptionSpec limit_option(const std::string& fallback, const std::string& help);
OptionSpec json_option();
OptionSpec seed_option(const std::string& what);
/// --row-length and --image-shape.
Options data_shape_options(Role role);
/// --device, --threads, --route, --instructions and --quiet. `role` is `record` where a run folder keeps
/// them.
Options computing_options(Role role);

inline const Range at_least_zero = {0, std::numeric_limits<double>::infinity(), false, false};
inline const Range at_least_one = {1, std::numeric_limits<double>::infinity(), false, false};
inline const Range above_zero = {0, std::numeric_limits<double>::infinity(), true, false};

std::string help_text(const CommandSpec& spec);
/// "; did you mean NEAREST?" or nothing.
std::string did_you_mean(const std::string& word, const std::vector<std::string>& candidates);
/// "a, b or c".
std::string listed(const std::vector<std::string>& words);
/// "a whole number of at least 1", "sgd, momentum or adam", ...
std::string expected_text(const OptionSpec& spec);

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
  void add_layer(const GivenValues& values);

  const CommandSpec& spec() const { return *spec_; }
  bool given(const std::string& name) const { return values_.count(name) != 0; }
  /// Where a given option was given.
  const std::string& place(const std::string& name) const { return values_.at(name).place; }
  std::string text(const std::string& name) const;
  /// Throws UsageError when the option was not given.
  std::string required(const std::string& name) const;
  bool flag(const std::string& name) const { return text(name) == "true"; }
  std::int64_t whole(const std::string& name) const;
  std::uint64_t seed(const std::string& name) const;
  /// "784,200,200" as numbers.
  std::vector<std::int64_t> widths(const std::string& name) const;

 private:
  const CommandSpec* spec_;
  GivenValues values_;
};

/// Throws UsageError for an unknown option (naming the nearest), one given twice, or one without its value.
GivenValues read_command_line(const CommandSpec& spec, const std::vector<std::string>& words);
/// Throws UsageError with file, line and column for bad TOML, an unknown key (naming the nearest) or a wrong
/// type.
GivenValues read_toml(const CommandSpec& spec, const std::string& path);

/// `base` with the settings that were given put over it. Throws UsageError.
TrainingSettings settings_over(const TrainingSettings& base, const Arguments& given);
/// The resolved settings and recorded options as TOML, to be used with --config again.
std::string resolved_toml(const Arguments& arguments, const TrainingSettings& settings);

/// The backend that --device, --threads, --route and --instructions ask for, and why it is this one.
struct Device {
  std::unique_ptr<Ops> ops;
  std::string reason;
};
Device choose_device(const Arguments& arguments);

/// --row-length and --image-shape.
ReadOptions read_options(const Arguments& arguments);

/// Number texts that are read whole or not at all, independent of the locale.
bool parse_whole(const std::string& text, std::int64_t& value);
bool parse_number(const std::string& text, double& value);

/// "1,234,567": every digit, where grouped() shortens.
std::string full_number(std::int64_t number);

/// Shortest text that reads back as the same double.
std::string number_text(double value);

}  // namespace wakesleep::command
