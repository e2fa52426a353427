#include "command/arguments.hpp"

#include <algorithm>

#include <CLI/CLI.hpp>

#include "command/values.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep::command {
namespace {

std::string quoted_command(const CommandSpec& spec) { return "`wakesleep " + spec.name + "`"; }

/// --learning-rate stands for both rates; a specific one of the same layer overrides it.
void spread_learning_rate(GivenValues& values) {
  const auto both = values.find("learning-rate");
  if (both == values.end()) return;
  const Given given = both->second;
  values.erase(both);
  values.emplace("generative-learning-rate", given);
  values.emplace("recognition-learning-rate", given);
}

void check_value(const OptionSpec& spec, const Given& value) {
  if (acceptable(spec, value.text)) return;
  throw UsageError(value.place + " has the value '" + value.text + "'; expected " + expected_text(spec) +
                   (spec.kind == Kind::choice ? did_you_mean(value.text, spec.choices) : ""));
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
                       did_you_mean(name, option_names(spec)) + "; see `wakesleep " + spec.name + " --help`");
    }
  }
  if (!leftovers.empty()) {
    throw UsageError(quoted_command(spec) + " takes no further argument '" + leftovers.front() +
                     "'; see `wakesleep " + spec.name + " --help`");
  }
}

/// A CLI11 parser for `spec` that leaves what was typed in `texts`; a flag alone leaves "true" there.
void describe(const CommandSpec& spec, CLI::App& app, std::map<std::string, std::string>& texts) {
  app.set_help_flag("");
  app.allow_extras();
  for (const OptionSpec& positional : spec.positionals)
    app.add_option(positional.name, texts[positional.name]);
  for (const OptionSpec& option : spec.options) {
    CLI::Option* added = option.kind == Kind::flag ? app.add_flag(dashed(option), texts[option.name])
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

// -------------------------------------------------------------------------------- devices

CpuRoute cpu_route(const std::string& name) {
  if (name == "best") return CpuRoute::best;
  if (name == "avx2") return CpuRoute::avx2;
  if (name == "int8") return CpuRoute::int8;
  if (name == "float32") return CpuRoute::float32;
  if (name == "reference") return CpuRoute::reference;
  throw UsageError("the CPU has no route '" + name +
                   "'; expected --route best, avx2, int8, float32 or reference");
}

CudaRoute cuda_route(const std::string& name) {
  if (name == "best" || name == "int8") return CudaRoute::int8;
  if (name == "fp16") return CudaRoute::fp16;
  throw UsageError("a GPU has no route '" + name + "'; expected --route best, int8 or fp16");
}

CudaReplay replay_named(const std::string& name) {
  if (name == "graph") return CudaReplay::graph;
  return name == "persistent" ? CudaReplay::persistent : CudaReplay::fastest;
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
  options.replay = replay_named(arguments.text("replay"));
  return make_cuda_ops(options);
}

}  // namespace

// -------------------------------------------------------------------------------- arguments

void Arguments::add_layer(GivenValues values) {
  spread_learning_rate(values);
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
  parse_whole(text(name), value);
  return value;
}

double Arguments::number(const std::string& name) const {
  double value = 0;
  parse_number(text(name), value);
  return value;
}

std::uint64_t Arguments::seed(const std::string& name) const {
  std::uint64_t value = 0;
  parse_seed(text(name), value);
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
  describe(spec, app, texts);
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
    values[option.name] = option_given(spec, option, parsed, texts[option.name]);
  }
  refuse_leftovers(spec, app.remaining());  // last: an option that lacks its value leaves a word over, too
  return values;
}

// -------------------------------------------------------------------------------- what they describe

void refuse_unused(const Arguments& given, const std::string& option, const TrainingSettings& settings) {
  if (!given.given(option) || is_used(settings, option)) return;
  const std::string needed = needed_for(option);
  const bool by_algorithm = needed.find("--algorithm") != std::string::npos;
  throw UsageError(given.place(option) + " is of no use " +
                   (by_algorithm ? "to the algorithm " + std::string(name_of(settings.algorithm))
                                 : std::string("as the other options are")) +
                   "; leave it out or choose " + needed);
}

void check_given(const TrainingSettings& settings, const Arguments& given) {
  try {
    check(settings);
  } catch (const UsageError& error) {
    const std::string message = error.what();
    const std::string name = message.substr(0, message.find(' '));
    if (!given.given(name)) throw;
    throw UsageError(given.place(name) + message.substr(name.size()));
  }
}

TrainingSettings settings_over(const TrainingSettings& base, const Arguments& given) {
  TrainingSettings settings = base;
  const auto each_given = [&](const auto& visit) {
    for (const OptionSpec& option : given.spec().options) {
      if (option.role == Role::setting && given.given(option.name)) visit(option);
    }
  };
  each_given([&](const OptionSpec& option) {
    const bool widths = option.kind == Kind::layers;
    set_setting(settings, option.name,
                widths ? joined_widths(given.widths(option.name)) : given.text(option.name));
  });
  each_given([&](const OptionSpec& option) { refuse_unused(given, option.name, settings); });
  check_given(settings, given);
  return settings;
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

PlacementSettings placement_settings(const Arguments& arguments) {
  PlacementSettings settings;
  const std::string where = arguments.text("data-placement");
  if (where == "resident") settings.placement = DataPlacement::resident;
  if (where == "streamed") settings.placement = DataPlacement::streamed;
  return settings;
}

ReadOptions read_options(const Arguments& arguments) {
  ReadOptions options;
  options.row_length = arguments.whole("row-length");
  if (arguments.given("image-shape"))
    parse_shape(arguments.text("image-shape"), options.height, options.width);
  return options;
}

}  // namespace wakesleep::command
