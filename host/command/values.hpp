// The texts of values, as they are typed on the command line and kept in files: what they say, and whether an
// option takes them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "command/options.hpp"
#include "wakesleep/settings.hpp"

namespace wakesleep::command {

/// Whether the option takes this value.
bool acceptable(const OptionSpec& spec, const std::string& text);
/// "a whole number of at least 1", "sgd, momentum or adam", ...
std::string expected_text(const OptionSpec& spec);

// Texts that are read whole or not at all, independent of the locale.
bool parse_whole(const std::string& text, std::int64_t& value);
bool parse_number(const std::string& text, double& value);
bool parse_seed(const std::string& text, std::uint64_t& value);
/// "784,200,200", blanks allowed.
bool parse_widths(const std::string& text, std::vector<std::int64_t>& widths);
/// "28x28".
bool parse_shape(const std::string& text, std::int64_t& height, std::int64_t& width);
/// "auto", "cpu", "cuda" or "cuda:N"; the ordinal is -1 where no CUDA device is asked for.
bool parse_device(const std::string& text, int& ordinal);

/// What the likelihood of data is called: of Gaussian visible units it is a density.
std::string likelihood_name(const TrainingSettings& settings);
/// What the visible units' probabilities, which are means where they are Gaussian, are called.
std::string visible_values_name(const TrainingSettings& settings);
/// What parse_widths() reads.
std::string joined_widths(const std::vector<std::int64_t>& widths);

}  // namespace wakesleep::command
