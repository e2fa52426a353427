#include "command/options.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include <toml++/toml.h>
#include <CLI/CLI.hpp>

#include "command/nearest.hpp"
#include "file.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep::command {
namespace {

const Range from_zero_below_one = {0, 1, false, true};
constexpr std::size_t longest_config = 1 << 20;

}  // namespace

// -------------------------------------------------------------------------------- common options

OptionSpec call(std::string name, Kind kind, std::string argument, std::string fallback, std::string group,
                std::string help, Range range) {
  return {std::move(name), kind, std::move(argument), std::move(fallback), std::move(group), std::move(help),
          Role::call,      range};
}

OptionSpec flag(std::string name, std::string group, std::string help) {
  return call(std::move(name), Kind::flag, "", "", std::move(group), std::move(help));
}

Options computing_options(Role role) {
  Options options = {
      call("device", Kind::device, "DEVICE", "auto", "Computing",
           "auto, cpu, cuda or cuda:N; auto takes a GPU where one answers and says why it does not"),
      call("threads", Kind::whole, "N", "0", "Computing",
           "threads of the CPU; 0: all that this process may run on", {0, 4096}),
      call("route", Kind::choice, "ROUTE", "int8", "Computing",
           "how products are multiplied; every route gives the same integers (CPU: int8, float32, "
           "reference; GPU: int8, fp16)"),
      call("instructions", Kind::choice, "SET", "best", "Computing",
           "instruction set of the CPU's elementwise kernels; every one gives the same bits"),
  };
  options[2].choices = {"int8", "float32", "fp16", "reference"};
  options[3].choices = {"best", "avx512", "avx2", "baseline"};
  for (OptionSpec& option : options) option.role = role;
  options.push_back(flag("quiet", "Computing", "no log and no progress; results are still printed"));
  return options;
}

OptionSpec seed_option(const std::string& what) {
  return call("seed", Kind::seed, "S", "1", "Computing", "seed of " + what);
}

Options data_shape_options(Role role) {
  Options options = {
      call("row-length", Kind::whole, "UNITS", "0", "Data",
           "units of a row of a bit-packed NPY file; 0: the file holds one value per unit", at_least_zero),
      call("image-shape", Kind::shape, "HxW", "", "Data",
           "height and width of the images where the file does not say (a square if it can be one)"),
  };
  for (OptionSpec& option : options) option.role = role;
  return options;
}

Options joined(std::vector<Options> parts) {
  Options all;
  for (Options& part : parts) {
    for (OptionSpec& option : part) all.push_back(std::move(option));
  }
  return all;
}

OptionSpec model_positional() {
  return call("model", Kind::text, "MODEL", "", "", "model or checkpoint file");
}
OptionSpec data_positional() {
  OptionSpec data = call("data", Kind::text, "DATA", "", "", "IDX, IDX.gz, NPY or AMAT file");
  data.role = Role::record;
  return data;
}
OptionSpec limit_option(const std::string& fallback, const std::string& help) {
  return call("limit", Kind::whole, "ROWS", fallback, "Data", help, at_least_zero);
}
OptionSpec json_option() { return flag("json", "Output", "print one JSON object"); }

namespace {

// -------------------------------------------------------------------------------- the options of train

/// The default of a training setting, as to_pairs() writes it.
std::string default_setting(const std::string& name) {
  for (const auto& [key, value] : to_pairs(TrainingSettings{})) {
    if (key == name) return value;
  }
  throw InternalError("the option --" + name + " stands for no training setting");
}

OptionSpec setting(std::string name, Kind kind, std::string argument, std::string group, std::string help,
                   Range range = {}, std::vector<std::string> choices = {}) {
  std::string fallback = default_setting(name);
  return {std::move(name), kind,  std::move(argument), std::move(fallback), std::move(group), std::move(help),
          Role::setting,   range, std::move(choices)};
}

OptionSpec record(std::string name, Kind kind, std::string argument, std::string fallback, std::string group,
                  std::string help, Range range = {}) {
  return {std::move(name), kind, std::move(argument), std::move(fallback), std::move(group), std::move(help),
          Role::record,    range};
}

Options machine_options() {
  return {
      setting("layers", Kind::layers, "WIDTHS", "Machine",
              "widths of the hidden layers from the data upward, separated by commas"),
      setting("algorithm", Kind::choice, "NAME", "Machine", "learning algorithm", {}, {"wake-sleep"}),
      setting("weight-bits", Kind::choice, "BITS", "Machine",
              "bits of the integer weights that the products see: 16, 12 or 8", {}, {"16", "12", "8"}),
  };
}

Options schedule_options() {
  OptionSpec both =
      setting("generative-learning-rate", Kind::number, "X", "Training",
              "generative and recognition learning rate together; multiplies the mean gradient over "
              "the batch",
              above_zero);
  both.name = "learning-rate";
  return {
      setting("epochs", Kind::whole, "N", "Training", "passes over the data", at_least_one),
      setting("batch-size", Kind::whole, "N", "Training",
              "rows of a step; a shorter last batch is trained as the mean over its own rows", at_least_one),
      both,
      setting("generative-learning-rate", Kind::number, "X", "Training",
              "learning rate of the generative weights; multiplies the mean gradient over the batch",
              above_zero),
      setting("recognition-learning-rate", Kind::number, "X", "Training",
              "learning rate of the recognition weights; multiplies the mean gradient over the batch",
              above_zero),
      setting("schedule", Kind::choice, "NAME", "Training",
              "how the learning rates, which multiply the mean gradient over the batch, change: constant, "
              "step (see "
              "--schedule-every) or cosine (to zero at the end)",
              {}, {"constant", "step", "cosine"}),
      setting("schedule-every", Kind::whole, "EPOCHS", "Training",
              "step schedule: epochs between two reductions", at_least_one),
      setting("schedule-factor", Kind::number, "F", "Training",
              "step schedule: what a reduction multiplies the learning rates by", {0, 1, true, false}),
      setting("weight-decay", Kind::number, "D", "Training",
              "decoupled: each step w becomes (1 - learning rate * D) w", at_least_zero),
      setting("seed", Kind::seed, "S", "Training", "seed of every random draw of the run"),
  };
}

Options optimizer_options() {
  return {
      setting("optimizer", Kind::choice, "NAME", "Optimizer", "sgd, momentum or adam", {},
              {"sgd", "momentum", "adam"}),
      setting("momentum", Kind::number, "M", "Optimizer", "mu of momentum, beta1 of Adam",
              from_zero_below_one),
      setting("second-momentum", Kind::number, "M", "Optimizer", "beta2 of Adam", from_zero_below_one),
      setting("epsilon", Kind::number, "E", "Optimizer", "epsilon of Adam", above_zero),
  };
}

Options train_data_options() {
  Options options = {
      setting(
          "binarize", Kind::choice, "HOW", "Data",
          "how grey values become 0 or 1: threshold (see --threshold), fixed (sampled once from the seed) or "
          "dynamic (sampled anew each epoch)",
          {}, {"threshold", "fixed", "dynamic"}),
      setting("threshold", Kind::whole, "VALUE", "Data", "grey values of at least this are on", {1, 255}),
      record("validation", Kind::text, "FILE|FRACTION", "", "Data",
             "rows to evaluate on after each epoch: a file, or a fraction of DATA above 0 and below 1 that "
             "is held "
             "out (a file named like a number: ./0.1)"),
  };
  for (OptionSpec& option : data_shape_options(Role::record)) options.push_back(std::move(option));
  return options;
}

Options run_options() {
  return {
      call("out", Kind::text, "RUN", "", "Run folder", "folder of the run; created when missing (required)"),
      flag("resume", "Run folder",
           "go on from the newest readable checkpoint, to the same bits as a run that never stopped"),
      flag("force", "Run folder", "replace the run that the folder holds"),
      call("config", Kind::text, "FILE.toml", "", "Run folder",
           "options from a TOML file; the command line goes over the file, the file over the defaults"),
      record("checkpoint-every", Kind::whole, "EPOCHS", "1", "Run folder", "epochs between two checkpoints",
             at_least_one),
      record("evaluate-samples", Kind::whole, "K", "10", "Evaluation",
             "samples per row of the estimate after each epoch", {1, 1048576}),
      record("evaluate-rows", Kind::whole, "N", "1000", "Evaluation",
             "rows evaluated after each epoch, the first of the validation data; 0: all", at_least_zero),
  };
}

}  // namespace

const CommandSpec& train_spec() {
  static const CommandSpec spec = {
      "train",
      "Trains a Helmholtz machine on DATA and leaves it in a run folder.",
      {data_positional()},
      joined({machine_options(), schedule_options(), optimizer_options(), train_data_options(), run_options(),
              computing_options(Role::record)})};
  return spec;
}

std::string did_you_mean(const std::string& word, const std::vector<std::string>& candidates) {
  const std::string found = nearest(word, candidates);
  return found.empty() ? "" : "; did you mean " + found + "?";
}

std::string listed(const std::vector<std::string>& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? " or " : ", ";
    text += words[i];
  }
  return text;
}

namespace {

std::string dashed(const OptionSpec& option) { return "--" + option.name; }
std::string quoted_command(const CommandSpec& spec) { return "`wakesleep " + spec.name + "`"; }

// -------------------------------------------------------------------------------- values

template <class T>
bool parse_all(const std::string& text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

bool within(const Range& range, double value) {
  if (!std::isfinite(value)) return false;
  const bool above = range.open_minimum ? value > range.minimum : value >= range.minimum;
  const bool below = range.open_maximum ? value < range.maximum : value <= range.maximum;
  return above && below;
}

bool parse_widths(const std::string& text, std::vector<std::int64_t>& widths) {
  std::string compact = text;
  compact.erase(std::remove(compact.begin(), compact.end(), ' '), compact.end());
  for (std::size_t begin = 0; begin <= compact.size();) {
    const std::size_t end = std::min(compact.find(',', begin), compact.size());
    std::int64_t width = 0;
    if (!parse_all(compact.substr(begin, end - begin), width) || width < 1) return false;
    widths.push_back(width);
    begin = end + 1;
  }
  return true;
}

std::string joined_widths(const std::vector<std::int64_t>& widths) {
  std::string text;
  for (const std::int64_t width : widths) text += (text.empty() ? "" : ",") + std::to_string(width);
  return text;
}

bool parse_shape(const std::string& text, std::int64_t& height, std::int64_t& width) {
  const std::size_t cross = text.find('x');
  return cross != std::string::npos && parse_all(text.substr(0, cross), height) &&
         parse_all(text.substr(cross + 1), width) && height >= 1 && width >= 1;
}

/// -1: no CUDA device is asked for.
bool parse_device(const std::string& text, int& ordinal) {
  ordinal = -1;
  if (text == "auto" || text == "cpu") return true;
  if (text == "cuda")
    ordinal = 0;
  else if (text.rfind("cuda:", 0) != 0 || !parse_all(text.substr(5), ordinal))
    return false;
  return ordinal >= 0;
}

bool acceptable(const OptionSpec& spec, const std::string& text) {
  std::int64_t whole = 0;
  std::int64_t second = 0;
  std::uint64_t seed = 0;
  double number = 0;
  int ordinal = 0;
  std::vector<std::int64_t> widths;
  switch (spec.kind) {
    case Kind::flag:
      return text == "true" || text == "false";
    case Kind::whole:
      return parse_all(text, whole) && within(spec.range, static_cast<double>(whole));
    case Kind::number:
      return parse_all(text, number) && within(spec.range, number);
    case Kind::seed:
      return parse_all(text, seed);
    case Kind::text:
      return !text.empty();
    case Kind::choice:
      return std::find(spec.choices.begin(), spec.choices.end(), text) != spec.choices.end();
    case Kind::layers:
      return parse_widths(text, widths);
    case Kind::shape:
      return parse_shape(text, whole, second);
    case Kind::device:
      return parse_device(text, ordinal);
  }
  return false;
}

void check_value(const OptionSpec& spec, const Given& value) {
  if (acceptable(spec, value.text)) return;
  throw UsageError(value.place + " has the value '" + value.text + "'; expected " + expected_text(spec) +
                   (spec.kind == Kind::choice ? did_you_mean(value.text, spec.choices) : ""));
}

std::string range_text(const OptionSpec& spec) {
  const auto bound = [&](double value) {
    return spec.kind == Kind::whole ? std::to_string(static_cast<std::int64_t>(value)) : number_text(value);
  };
  const Range& range = spec.range;
  const bool above = std::isfinite(range.minimum);
  const bool below = std::isfinite(range.maximum);
  if (above && below && !range.open_minimum && !range.open_maximum) {
    return " from " + bound(range.minimum) + " to " + bound(range.maximum);
  }
  std::string text;
  if (above) text += (range.open_minimum ? " above " : " of at least ") + bound(range.minimum);
  if (below) {
    text += std::string(above ? " and" : "") + (range.open_maximum ? " below " : " of at most ") +
            bound(range.maximum);
  }
  return text;
}

// -------------------------------------------------------------------------------- help

constexpr std::size_t help_width = 100;
constexpr std::size_t help_column = 36;

/// Appends `text` behind what stands on the current line, wrapped, all its lines beginning at help_column.
void append_wrapped(std::string& page, std::size_t column, const std::string& text) {
  if (column + 2 > help_column) {
    page += '\n';
    column = 0;
  }
  page.append(help_column - column, ' ');
  column = help_column;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    if (column > help_column && column + 1 + (end - begin) > help_width) {
      page += '\n' + std::string(help_column, ' ');
      column = help_column;
    } else if (column > help_column) {
      page += ' ';
      ++column;
    }
    page.append(text, begin, end - begin);
    column += end - begin;
    begin = end + 1;
  }
  page += '\n';
}

void append_help_line(std::string& page, const std::string& left, const std::string& right) {
  page += "  " + left;
  append_wrapped(page, left.size() + 2, right);
}

void append_option_help(std::string& page, const OptionSpec& option) {
  const std::string left = dashed(option) + (option.argument.empty() ? "" : " " + option.argument);
  append_help_line(page, left,
                   option.help + (option.fallback.empty() ? "" : " (default " + option.fallback + ")"));
}

// -------------------------------------------------------------------------------- the command line

std::vector<std::string> option_names(const CommandSpec& spec) {
  std::vector<std::string> names = {"--help"};
  for (const OptionSpec& option : spec.options) names.push_back(dashed(option));
  return names;
}

void refuse_leftovers(const CommandSpec& spec, const std::vector<std::string>& leftovers) {
  for (const std::string& word : leftovers) {
    if (word.size() > 1 && word[0] == '-') {
      const std::string name = word.substr(0, word.find('='));
      throw UsageError("unknown option " + name + " of " + quoted_command(spec) +
                       did_you_mean(name, option_names(spec)));
    }
  }
  if (!leftovers.empty()) {
    throw UsageError(quoted_command(spec) + " takes no further argument '" + leftovers.front() +
                     "'; see `wakesleep " + spec.name + " --help`");
  }
}

/// A CLI11 parser for `spec` that leaves texts and flags in the maps.
void describe(const CommandSpec& spec, CLI::App& app, std::map<std::string, std::string>& texts,
              std::map<std::string, bool>& flags) {
  app.set_help_flag("");
  app.allow_extras();
  for (const OptionSpec& positional : spec.positionals)
    app.add_option(positional.name, texts[positional.name]);
  for (const OptionSpec& option : spec.options) {
    CLI::Option* added = option.kind == Kind::flag ? app.add_flag(dashed(option), flags[option.name])
                                                   : app.add_option(dashed(option), texts[option.name]);
    added->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }
}

Given option_given(const CommandSpec& spec, const OptionSpec& option, const CLI::Option& parsed,
                   const std::string& text) {
  if (parsed.count() > 1) {
    throw UsageError("option " + dashed(option) + " of " + quoted_command(spec) + " is given " +
                     std::to_string(parsed.count()) + " times; give it once");
  }
  if (text.rfind("--", 0) == 0) {
    throw UsageError("option " + dashed(option) + " of " + quoted_command(spec) + " needs a value before " +
                     text);
  }
  return {text, "option " + dashed(option)};
}

/// --learning-rate stands for both rates; a specific one of the same layer goes over it.
void spread_learning_rate(GivenValues& values) {
  const auto both = values.find("learning-rate");
  if (both == values.end()) return;
  const Given given = both->second;
  values.erase(both);
  values.emplace("generative-learning-rate", given);
  values.emplace("recognition-learning-rate", given);
}

// -------------------------------------------------------------------------------- TOML

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
    throw UsageError(place_of(path, error.source().begin) +
                     ": not valid TOML: " + std::string(error.description()));
  }
}

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

std::string toml_value(const OptionSpec& spec, const std::string& text) {
  std::int64_t whole = 0;
  double number = 0;
  switch (spec.kind) {
    case Kind::flag:
    case Kind::whole:
    case Kind::number:
      return text;
    case Kind::layers:
      return "[" + text + "]";
    case Kind::seed:
    case Kind::choice:
      return parse_all(text, whole) ? text : toml_string(text);
    case Kind::text:
      return spec.name == "validation" && parse_all(text, number) ? text : toml_string(text);
    case Kind::shape:
    case Kind::device:
      break;
  }
  return toml_string(text);
}

std::string toml_line(const OptionSpec& spec, const std::string& text) {
  if (!is_utf8(text)) return "# " + spec.name + ": a name that is not UTF-8; give it on the command line\n";
  return spec.name + " = " + toml_value(spec, text) + "\n";
}

// -------------------------------------------------------------------------------- devices

CpuRoute cpu_route(const std::string& name) {
  if (name == "int8") return CpuRoute::int8;
  if (name == "float32") return CpuRoute::float32;
  if (name == "reference") return CpuRoute::reference;
  throw UsageError("the CPU has no route '" + name + "'; expected --route int8, float32 or reference");
}

CudaRoute cuda_route(const std::string& name) {
  if (name == "int8") return CudaRoute::int8;
  if (name == "fp16") return CudaRoute::fp16;
  throw UsageError("a GPU has no route '" + name + "'; expected --route int8 or fp16");
}

CpuInstructions instructions_named(const std::string& name) {
  if (name == "avx512") return CpuInstructions::avx512;
  if (name == "avx2") return CpuInstructions::avx2;
  return name == "baseline" ? CpuInstructions::baseline : CpuInstructions::best;
}

std::unique_ptr<Ops> cpu_ops(const Arguments& arguments) {
  CpuOptions options;
  options.threads = static_cast<int>(arguments.whole("threads"));
  options.route = cpu_route(arguments.text("route"));
  options.instructions = instructions_named(arguments.text("instructions"));
  return make_cpu_ops(options);
}

std::unique_ptr<Ops> cuda_ops(const Arguments& arguments, int ordinal) {
  CudaOptions options;
  options.ordinal = ordinal;
  options.route = cuda_route(arguments.text("route"));
  return make_cuda_ops(options);
}

}  // namespace

// -------------------------------------------------------------------------------- specs

const OptionSpec* CommandSpec::find(const std::string& option) const {
  for (const std::vector<OptionSpec>* list : {&positionals, &options}) {
    for (const OptionSpec& spec : *list) {
      if (spec.name == option) return &spec;
    }
  }
  return nullptr;
}

std::string help_text(const CommandSpec& spec) {
  std::string page = "Usage: wakesleep " + spec.name;
  for (const OptionSpec& positional : spec.positionals) page += " " + positional.argument;
  page += " [options]\n\n" + spec.summary + "\n";
  if (!spec.positionals.empty()) page += "\n";
  for (const OptionSpec& positional : spec.positionals)
    append_help_line(page, positional.argument, positional.help);

  std::vector<std::string> groups;
  for (const OptionSpec& option : spec.options) {
    if (std::find(groups.begin(), groups.end(), option.group) == groups.end()) groups.push_back(option.group);
  }
  for (const std::string& group : groups) {
    page += "\n" + group + "\n";
    for (const OptionSpec& option : spec.options) {
      if (option.group == group) append_option_help(page, option);
    }
  }
  return page;
}

std::string expected_text(const OptionSpec& spec) {
  switch (spec.kind) {
    case Kind::flag:
      return "true or false";
    case Kind::whole:
      return "a whole number" + range_text(spec);
    case Kind::number:
      return "a number" + range_text(spec);
    case Kind::seed:
      return "a whole number from 0 to 18446744073709551615";
    case Kind::text:
      return "a text that is not empty";
    case Kind::choice:
      return listed(spec.choices);
    case Kind::layers:
      return "widths of at least 1 separated by commas, such as 200,200,200";
    case Kind::shape:
      return "height and width, such as 28x28";
    case Kind::device:
      return "auto, cpu, cuda or cuda:N";
  }
  return "";
}

// -------------------------------------------------------------------------------- arguments

void Arguments::add_layer(const GivenValues& values) {
  for (const auto& [name, value] : values) {
    check_value(*spec_->find(name), value);
    values_.emplace(name, value);
  }
}

std::string Arguments::text(const std::string& name) const {
  const auto found = values_.find(name);
  return found != values_.end() ? found->second.text : spec_->find(name)->fallback;
}

std::string Arguments::required(const std::string& name) const {
  if (given(name)) return text(name);
  const OptionSpec& option = *spec_->find(name);
  const bool positional = option.group.empty();
  throw UsageError(quoted_command(*spec_) + " needs " +
                   (positional ? option.argument : dashed(option) + " " + option.argument) + ": " +
                   option.help + "; see `wakesleep " + spec_->name + " --help`");
}

std::int64_t Arguments::whole(const std::string& name) const {
  std::int64_t value = 0;
  parse_all(text(name), value);
  return value;
}

std::uint64_t Arguments::seed(const std::string& name) const {
  std::uint64_t value = 0;
  parse_all(text(name), value);
  return value;
}

std::vector<std::int64_t> Arguments::widths(const std::string& name) const {
  std::vector<std::int64_t> widths;
  parse_widths(text(name), widths);
  return widths;
}

GivenValues read_command_line(const CommandSpec& spec, const std::vector<std::string>& words) {
  CLI::App app("", "wakesleep " + spec.name);
  std::map<std::string, std::string> texts;
  std::map<std::string, bool> flags;
  describe(spec, app, texts, flags);
  try {
    app.parse(std::vector<std::string>(words.rbegin(), words.rend()));
  } catch (const CLI::ArgumentMismatch&) {
    throw UsageError("option " + words.back() + " of " + quoted_command(spec) + " needs a value");
  } catch (const CLI::ParseError& error) {
    throw UsageError(quoted_command(spec) + " cannot read its options: " + error.what());
  }
  GivenValues values;
  for (const OptionSpec& positional : spec.positionals) {
    if (app.get_option(positional.name)->count() > 0) {
      values[positional.name] = {texts[positional.name], positional.argument};
    }
  }
  for (const OptionSpec& option : spec.options) {
    const CLI::Option& parsed = *app.get_option(dashed(option));
    if (parsed.count() == 0) continue;
    const bool is_flag = option.kind == Kind::flag;
    values[option.name] = option_given(spec, option, parsed,
                                       !is_flag             ? texts[option.name]
                                       : flags[option.name] ? "true"
                                                            : "false");
  }
  refuse_leftovers(spec, app.remaining());  // last: an option that lacks its value leaves a word over, too
  spread_learning_rate(values);
  return values;
}

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
  spread_learning_rate(values);
  return values;
}

// -------------------------------------------------------------------------------- what they describe

TrainingSettings settings_over(const TrainingSettings& base, const Arguments& given) {
  std::vector<std::pair<std::string, std::string>> pairs = to_pairs(base);
  for (auto& [name, value] : pairs) {
    if (!given.given(name)) continue;
    value =
        given.spec().find(name)->kind == Kind::layers ? joined_widths(given.widths(name)) : given.text(name);
  }
  try {
    return settings_from_pairs(pairs);
  } catch (const DataError& error) {  // here the pairs came from options, not from a file's metadata
    throw UsageError(error.what());
  }
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
  for (const auto& [name, value] : to_pairs(settings)) text += toml_line(*spec.find(name), value);
  text += "\n# These do not enter the settings that --resume compares.\n";
  for (const OptionSpec& option : spec.options) {
    const std::string value = arguments.text(option.name);
    if (option.role == Role::record && !value.empty()) text += toml_line(option, value);
  }
  return text;
}

Device choose_device(const Arguments& arguments) {
  const std::string asked = arguments.text("device");
  int ordinal = -1;
  parse_device(asked, ordinal);
  if (ordinal >= 0) return {cuda_ops(arguments, ordinal), "GPU, as asked for"};
  if (asked == "cpu") return {cpu_ops(arguments), "CPU, as asked for"};
  std::string why_not;
  if (cuda_available(&why_not)) return {cuda_ops(arguments, 0), "GPU, because one answers"};
  return {cpu_ops(arguments), "CPU, because " + why_not};
}

ReadOptions read_options(const Arguments& arguments) {
  ReadOptions options;
  options.row_length = arguments.whole("row-length");
  if (arguments.given("image-shape"))
    parse_shape(arguments.text("image-shape"), options.height, options.width);
  return options;
}

bool parse_whole(const std::string& text, std::int64_t& value) { return parse_all(text, value); }
bool parse_number(const std::string& text, double& value) { return parse_all(text, value); }

std::string full_number(std::int64_t number) {
  std::string text = std::to_string(number);
  for (std::size_t digits = 3; digits + (number < 0 ? 1 : 0) < text.size(); digits += 4) {
    text.insert(text.size() - digits, 1, ',');
  }
  return text;
}

std::string number_text(double value) {
  char buffer[32];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  return std::string(buffer, error == std::errc() ? end : buffer);
}

}  // namespace wakesleep::command
