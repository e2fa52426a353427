#include "command/config_file.hpp"

#include <algorithm>
#include <optional>

#include <toml++/toml.h>

#include "command/run_texts.hpp"
#include "command/values.hpp"
#include "file.hpp"
#include "number_text.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep::command {
namespace {

constexpr std::size_t longest_config = 1 << 20;

// -------------------------------------------------------------------------------- reading

std::string place_of(const std::string& path, const toml::source_position& position) {
  return path + ":" + std::to_string(position.line) + ":" + std::to_string(position.column);
}

bool takes_text(Kind kind) {
  return kind == Kind::text || kind == Kind::choice || kind == Kind::layers || kind == Kind::shape ||
         kind == Kind::device || kind == Kind::seed;
}
bool takes_integer(const OptionSpec& spec) {
  return spec.kind == Kind::whole || spec.kind == Kind::number || spec.kind == Kind::seed ||
         spec.kind == Kind::choice || spec.name == "validation";
}

std::optional<std::string> array_as_text(const toml::array& array) {
  std::vector<std::int64_t> widths;
  for (const toml::node& element : array) {
    const std::optional<std::int64_t> width = element.value_exact<std::int64_t>();
    if (!width) return std::nullopt;
    widths.push_back(*width);
  }
  return joined_widths(widths);
}

/// The value as it would be typed on the command line, if its type suits the option.
std::optional<std::string> as_typed(const OptionSpec& spec, const toml::node& node) {
  if (const auto* text = node.as_string(); text != nullptr && takes_text(spec.kind)) return text->get();
  if (const auto* whole = node.as_integer(); whole != nullptr && takes_integer(spec)) {
    return std::to_string(whole->get());
  }
  if (const auto* number = node.as_floating_point();
      number != nullptr && (spec.kind == Kind::number || spec.name == "validation")) {
    return number_text(number->get());
  }
  if (const auto* truth = node.as_boolean(); truth != nullptr && spec.kind == Kind::flag) {
    return truth->get() ? "true" : "false";
  }
  if (const auto* array = node.as_array(); array != nullptr && spec.kind == Kind::layers) {
    return array_as_text(*array);
  }
  return std::nullopt;
}

std::string type_name(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a floating-point number";
    case toml::node_type::boolean:
      return "a boolean";
    default:
      return "a date or time";
  }
}

std::vector<std::string> toml_keys(const CommandSpec& spec) {
  std::vector<std::string> keys;
  for (const OptionSpec& positional : spec.positionals) keys.push_back(positional.name);
  for (const OptionSpec& option : spec.options) {
    if (option.name != "config") keys.push_back(option.name);
  }
  return keys;
}

toml::table parse_toml(const std::string& path) {
  const std::vector<std::uint8_t> bytes = read_file(path, longest_config);
  try {
    return toml::parse(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()), path);
  } catch (const toml::parse_error& error) {
    throw DataError(place_of(path, error.source().begin) +
                    ": not valid TOML: " + std::string(error.description()));
  }
}

// -------------------------------------------------------------------------------- writing

bool is_utf8(const std::string& text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const std::size_t length = byte < 0x80 ? 1 : byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : 2;
    if ((byte >= 0x80 && byte < 0xC2) || byte > 0xF4 || i + length > text.size()) return false;
    for (std::size_t k = 1; k < length; ++k) {
      if ((static_cast<unsigned char>(text[i + k]) & 0xC0) != 0x80) return false;
    }
    // Overlong forms, surrogates, and what lies above U+10FFFF.
    const auto second = length > 2 ? static_cast<unsigned char>(text[i + 1]) : 0x80;
    if ((byte == 0xE0 && second < 0xA0) || (byte == 0xED && second > 0x9F) ||
        (byte == 0xF0 && second < 0x90) || (byte == 0xF4 && second > 0x8F)) {
      return false;
    }
    i += length;
  }
  return true;
}

std::string toml_string(const std::string& text) {
  static const char* digits = "0123456789abcdef";
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (byte < 0x20 || byte == 0x7F) {
      quoted += std::string("\\u00") + digits[byte >> 4] + digits[byte & 15];
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

/// Numbers are written anew: TOML does not know ".2" and "010", which may be typed.
std::string toml_value(const OptionSpec& spec, const std::string& text) {
  std::int64_t whole = 0;
  double number = 0;
  switch (spec.kind) {
    case Kind::flag:
      return text;
    case Kind::whole:
      parse_whole(text, whole);
      return std::to_string(whole);
    case Kind::number:
      parse_number(text, number);
      return number_text(number);
    case Kind::layers:
      return "[" + text + "]";
    case Kind::seed:
    case Kind::choice:
      return parse_whole(text, whole) ? text : toml_string(text);
    case Kind::text:
      return spec.name == "validation" && parse_number(text, number) ? number_text(number)
                                                                     : toml_string(text);
    case Kind::shape:
    case Kind::device:
      break;
  }
  return toml_string(text);
}

std::string toml_line(const OptionSpec& spec, const std::string& text) {
  if (!is_utf8(text))
    return "# " + spec.name +
           ": a name that is not UTF-8, which TOML cannot hold; give it on the command line\n";
  return spec.name + " = " + toml_value(spec, text) + "\n";
}

}  // namespace

GivenValues read_toml(const CommandSpec& spec, const std::string& path) {
  const toml::table table = parse_toml(path);
  const std::vector<std::string> keys = toml_keys(spec);
  GivenValues values;
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    if (std::find(keys.begin(), keys.end(), name) == keys.end()) {
      throw UsageError(place_of(path, key.source().begin) + ": unknown key " + name +
                       did_you_mean(name, keys));
    }
    const OptionSpec& option = *spec.find(name);
    const std::string place = place_of(path, node.source().begin) + ": key " + name;
    const std::optional<std::string> text = as_typed(option, node);
    if (!text) throw UsageError(place + " is " + type_name(node) + "; expected " + expected_text(option));
    values[name] = {*text, place};
  }
  return values;
}

std::string resolved_toml(const Arguments& arguments, const TrainingSettings& settings) {
  const CommandSpec& spec = arguments.spec();
  std::string text = "# The resolved options of this run; `wakesleep train --config` reads them again.\n\n";
  for (const OptionSpec& positional : spec.positionals) {
    text += toml_line(positional, arguments.text(positional.name));
  }
  text +=
      "\n# These decide which model the run ends with; learning rates multiply the mean gradient over the "
      "batch.\n";
  for (const auto& [name, value] : used_settings(settings)) {
    const OptionSpec* const option = spec.find(name);  // none for the hash of the initial model, a file below
    if (option != nullptr) text += toml_line(*option, value);
  }
  text += "\n# These do not enter the settings that --resume compares.\n";
  for (const OptionSpec& option : spec.options) {
    const std::string value = arguments.text(option.name);
    if (option.role == Role::record && !value.empty()) text += toml_line(option, value);
  }
  return text;
}

}  // namespace wakesleep::command
