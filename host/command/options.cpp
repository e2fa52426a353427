#include "command/options.hpp"

#include <algorithm>

#include "command/values.hpp"
#include "nearest.hpp"
#include "wakesleep/arithmetic.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/settings.hpp"
#include "wakesleep/visible.hpp"

namespace wakesleep::command {

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
      call("route", Kind::choice, "ROUTE", "best", "Computing",
           "how products are multiplied; every route gives the same integers (CPU: avx2, int8, float32, "
           "reference; GPU: int8, fp16); best: avx2 or int8, whichever suits the processor"),
      call("instructions", Kind::choice, "SET", "best", "Computing",
           "instruction set of the CPU's elementwise kernels: avx512, avx2, baseline or best (of those that "
           "the "
           "processor has); every one gives the same bits"),
      call(
          "replay", Kind::choice, "WAY", "fastest", "Computing",
          "how a GPU replays recorded steps: graph (a CUDA graph), persistent (one kernel for several steps) "
          "or fastest (whichever of these takes less time); every way gives the same bits"),
  };
  options[2].choices = {"best", "avx2", "int8", "float32", "fp16", "reference"};
  options[3].choices = {"best", "avx512", "avx2", "baseline"};
  options[4].choices = {"fastest", "graph", "persistent"};
  for (OptionSpec& option : options) option.role = role;
  options.push_back(flag("quiet", "Computing", "no log and no progress; results are still printed"));
  return options;
}

OptionSpec placement_option(Role role) {
  OptionSpec option =
      call("data-placement", Kind::choice, "WHERE", "auto", "Data",
           "where the training rows are kept: resident (on the device), streamed (in host memory, the "
           "next steps' rows copied while others run) or auto (streamed where the device has no room "
           "for them); the bits are the same");
  option.choices = {"auto", "resident", "streamed"};
  option.role = role;
  return option;
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

const Range from_zero_below_one = {0, 1, false, true};

// -------------------------------------------------------------------------------- the options of train

OptionSpec setting(std::string name, Kind kind, std::string argument, std::string group, std::string help,
                   Range range = {}) {
  std::string fallback = setting_text(TrainingSettings{}, name);
  std::vector<std::string> choices = choices_of(name);
  return {std::move(name), kind,  std::move(argument), std::move(fallback), std::move(group), std::move(help),
          Role::setting,   range, std::move(choices)};
}

/// A setting that is a number, but one of few.
OptionSpec one_of(OptionSpec spec, std::vector<std::string> choices) {
  spec.choices = std::move(choices);
  return spec;
}

/// A setting that has no default to show.
OptionSpec off_unless_given(OptionSpec spec) {
  spec.fallback.clear();
  return spec;
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
      setting("prior", Kind::choice, "KIND", "Machine",
              "distribution of the top layer's states: factorial, or autoregressive (each unit given those "
              "before it, which makes dreams sequential in the units)"),
      setting(
          "visible", Kind::choice, "KIND", "Machine",
          "units of the data's layer: bernoulli (0 or 1), or gaussian (grey values as numbers from 0 to 1, "
          "not binarized; estimates are then log densities; not with natural-reweighted-wake-sleep and "
          "bidirectional-helmholtz)"),
      setting("visible-deviation", Kind::number, "SIGMA", "Machine",
              "standard deviation of gaussian visible units",
              {smallest_visible_deviation, largest_visible_deviation}),
      setting("algorithm", Kind::choice, "NAME", "Machine", listed(choices_of("algorithm"))),
      one_of(setting("weight-bits", Kind::choice, "BITS", "Machine",
                     "bits of the integer weights that the products see: 16, 12 or 8; 8 are fastest, "
                     "trainings of several hundred thousand steps end better with 16"),
             {"16", "12", "8"}),
  };
}

Options algorithm_options() {
  return {
      setting("samples", Kind::whole, "K", "Algorithm",
              "hidden states drawn for each image; not of wake-sleep and sparse-wake-sleep",
              {1, max_batch_rows}),
      setting(
          "insomnia", Kind::number, "X", "Algorithm",
          "reweighted-wake-sleep, natural-reweighted-wake-sleep: share of the wake phase in the recognition "
          "gradient, from 0 (sleep alone) to 1 (wake alone)",
          {0, 1}),
      setting(
          "fisher", Kind::choice, "FORM", "Algorithm",
          "natural-reweighted-wake-sleep: what is inverted of each unit's Fisher block: its diagonal, the "
          "block through a system of the batch's rows (woodbury), or the dense block"),
      setting("fisher-damping", Kind::number, "ALPHA", "Algorithm",
              "natural-reweighted-wake-sleep: added to the diagonal of the Fisher blocks", above_zero),
      setting("fisher-refresh", Kind::whole, "STEPS", "Algorithm",
              "natural-reweighted-wake-sleep: steps from one Fisher matrix to the next", at_least_one),
      setting("fresh-epochs", Kind::whole, "N", "Algorithm",
              "joint-stochastic-approximation: epochs whose chains begin anew, before they go on where they "
              "stopped",
              {1, 4294967295}),
      setting("sparsity", Kind::number, "LAMBDA", "Algorithm",
              "sparse-wake-sleep: strength of the penalty on the activation of hidden units", {0, 1}),
      setting("target-activation", Kind::number, "RHO", "Algorithm",
              "sparse-wake-sleep: share of the rows in which a hidden unit should be on", {0, 1, true, true}),
      setting("activation-memory", Kind::number, "BETA", "Algorithm",
              "sparse-wake-sleep: how much of the running mean of the activation a step keeps",
              from_zero_below_one),
      setting(
          "control-variate", Kind::flag, "", "Algorithm",
          "reweighted-wake-sleep, natural-reweighted-wake-sleep: the wake phase weighs samples by w - 1/K "
          "in the recognition gradient"),
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
              "step (see --schedule-every), cosine (to zero at the end) or plateau (see --patience)"),
      setting("schedule-every", Kind::whole, "EPOCHS", "Training",
              "step schedule: epochs between two reductions", at_least_one),
      setting("schedule-factor", Kind::number, "F", "Training",
              "step and plateau schedule: what a reduction multiplies the learning rates by",
              {0, 1, true, false}),
      setting(
          "patience", Kind::whole, "EPOCHS", "Training",
          "plateau schedule: epochs without improvement of the estimate on --validation before a reduction",
          at_least_one),
      off_unless_given(setting(
          "early-stopping", Kind::whole, "EPOCHS", "Training",
          "ends the run after so many epochs without improvement of the estimate on --validation; the "
          "model is then the best of them",
          at_least_one)),
      setting(
          "min-improvement", Kind::number, "NATS", "Training",
          "plateau schedule and early stopping: an estimate is an improvement when it exceeds the best by "
          "more than this",
          at_least_zero),
      off_unless_given(
          setting("warm-up", Kind::whole, "STEPS", "Training",
                  "steps over which the learning rates, which multiply the mean gradient over the "
                  "batch, rise linearly to their schedule",
                  {1, 4294967295})),
      off_unless_given(
          setting("clip-gradient", Kind::number, "C", "Training",
                  "shortens the mean gradient over the batch of a layer's weights and biases whose "
                  "largest magnitude is above C to that magnitude",
                  above_zero)),
      setting("weight-decay", Kind::number, "D", "Training",
              "decoupled: each step w becomes (1 - learning rate * D) w", at_least_zero),
      setting("seed", Kind::seed, "S", "Training", "seed of every random draw of the run"),
  };
}

Options optimizer_options() {
  return {
      setting("optimizer", Kind::choice, "NAME", "Optimizer", listed(choices_of("optimizer"))),
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
          "dynamic (sampled anew each epoch)"),
      setting("threshold", Kind::whole, "VALUE", "Data", "grey values of at least this are on", {1, 255}),
      record("validation", Kind::text, "FILE|FRACTION", "", "Data",
             "rows to evaluate on after each epoch: a file, or a fraction of DATA above 0 and below 1 that "
             "is held "
             "out (a file named like a number: ./0.1)"),
  };
  for (OptionSpec& option : data_shape_options(Role::record)) options.push_back(std::move(option));
  options.push_back(placement_option(Role::record));
  return options;
}

Options run_options() {
  return {
      call("out", Kind::text, "RUN", "", "Run folder", "folder of the run; created when missing (required)"),
      flag("resume", "Run folder",
           "go on from the newest readable checkpoint, to the same bits as a run that never stopped"),
      flag("force", "Run folder", "replace the run that the folder holds"),
      call("config", Kind::text, "FILE.toml", "", "Run folder",
           "options from a TOML file; the command line overrides the file, the file the defaults"),
      record("initial-model", Kind::text, "FILE", "", "Run folder",
             "model whose parameters a new run begins with, of the same layers, prior and visible units, "
             "whatever trained it; optimiser and learning rates begin anew"),
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
      joined({machine_options(), algorithm_options(), schedule_options(), optimizer_options(),
              train_data_options(), run_options(), computing_options(Role::record)})};
  return spec;
}

// -------------------------------------------------------------------------------- texts

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

std::string dashed(const OptionSpec& option) { return "--" + option.name; }

const OptionSpec* CommandSpec::find(const std::string& option) const {
  for (const std::vector<OptionSpec>* list : {&positionals, &options}) {
    for (const OptionSpec& spec : *list) {
      if (spec.name == option) return &spec;
    }
  }
  return nullptr;
}

// -------------------------------------------------------------------------------- help

namespace {

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

}  // namespace

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

}  // namespace wakesleep::command
