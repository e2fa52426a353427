// Options in TOML files: those of --config, and the config.toml of a run folder.
#pragma once

#include <string>

#include "command/arguments.hpp"

namespace wakesleep::command {

/// Throws UsageError with file, line and column for bad TOML, an unknown key (naming the nearest) or a wrong
/// type.
GivenValues read_toml(const CommandSpec& spec, const std::string& path);

/// The resolved settings and recorded options as TOML, to be used with --config again.
std::string resolved_toml(const Arguments& arguments, const TrainingSettings& settings);

}  // namespace wakesleep::command
