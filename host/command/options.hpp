// The options of every command, described once: the command line (arguments.hpp), --help, TOML files
// (config_file.hpp), the comparison of --resume and the resolved config.toml all come from these tables.
#pragma once

#include <limits>
#include <string>
#include <vector>

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
/// --data-placement.
OptionSpec placement_option(Role role);
/// --device, --threads, --route, --instructions, --replay and --quiet. `role` is `record` where a run folder
/// keeps them.
Options computing_options(Role role);

inline const Range at_least_zero = {0, std::numeric_limits<double>::infinity(), false, false};
inline const Range at_least_one = {1, std::numeric_limits<double>::infinity(), false, false};
inline const Range above_zero = {0, std::numeric_limits<double>::infinity(), true, false};

std::string help_text(const CommandSpec& spec);
/// "; did you mean NEAREST?" or nothing.
std::string did_you_mean(const std::string& word, const std::vector<std::string>& candidates);
/// "a, b or c".
std::string listed(const std::vector<std::string>& words);
/// "--epochs".
std::string dashed(const OptionSpec& option);

}  // namespace wakesleep::command
