#include "wakesleep/settings.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <set>
#include <type_traits>
#include <utility>

#include "floating_point.hpp"
#include "nearest.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {
namespace {

// ------------------------------------------------------------------------------------------ names

template <class Kind>
using Named = std::pair<Kind, const char*>;

constexpr std::array<Named<Prior>, 2> priors = {
    {{Prior::factorial, "factorial"}, {Prior::autoregressive, "autoregressive"}}};
constexpr std::array<Named<Visible>, 2> visibles = {
    {{Visible::bernoulli, "bernoulli"}, {Visible::gaussian, "gaussian"}}};
constexpr std::array<Named<OptimizerKind>, 3> optimizers = {
    {{OptimizerKind::sgd, "sgd"}, {OptimizerKind::momentum, "momentum"}, {OptimizerKind::adam, "adam"}}};
constexpr std::array<Named<Schedule>, 4> schedules = {{{Schedule::constant, "constant"},
                                                       {Schedule::step, "step"},
                                                       {Schedule::cosine, "cosine"},
                                                       {Schedule::plateau, "plateau"}}};
constexpr std::array<Named<Binarization>, 3> binarizations = {{{Binarization::threshold, "threshold"},
                                                               {Binarization::fixed, "fixed"},
                                                               {Binarization::dynamic, "dynamic"}}};
constexpr std::array<Named<FisherForm>, 3> fisher_forms = {
    {{FisherForm::diagonal, "diagonal"}, {FisherForm::woodbury, "woodbury"}, {FisherForm::dense, "dense"}}};
constexpr std::array<Named<Algorithm>, 7> algorithms = {
    {{Algorithm::wake_sleep, "wake-sleep"},
     {Algorithm::reweighted_wake_sleep, "reweighted-wake-sleep"},
     {Algorithm::joint_stochastic_approximation, "joint-stochastic-approximation"},
     {Algorithm::sparse_wake_sleep, "sparse-wake-sleep"},
     {Algorithm::bidirectional_helmholtz, "bidirectional-helmholtz"},
     {Algorithm::vimco, "vimco"},
     {Algorithm::natural_reweighted_wake_sleep, "natural-reweighted-wake-sleep"}}};

constexpr const auto& table_of(Prior) { return priors; }
constexpr const auto& table_of(Visible) { return visibles; }
constexpr const auto& table_of(OptimizerKind) { return optimizers; }
constexpr const auto& table_of(Schedule) { return schedules; }
constexpr const auto& table_of(Binarization) { return binarizations; }
constexpr const auto& table_of(FisherForm) { return fisher_forms; }
constexpr const auto& table_of(Algorithm) { return algorithms; }

/// The names that a setting of this type can have; none of a number or a flag.
template <class Value>
std::vector<std::string> names_of_type() {
  std::vector<std::string> names;
  if constexpr (std::is_enum_v<Value>) {
    for (const auto& [kind, name] : table_of(Value{})) names.emplace_back(name);
  }
  return names;
}

template <class Kind, std::size_t count>
const char* find_name(const std::array<Named<Kind>, count>& table, Kind kind, const char* what) {
  for (const auto& [candidate, name] : table) {
    if (candidate == kind) return name;
  }
  throw InternalError("the " + std::string(what) + " number " + std::to_string(static_cast<int>(kind)) +
                      " has no name; report this as a defect");
}

template <class Kind, std::size_t count>
Kind find_kind(const std::array<Named<Kind>, count>& table, const std::string& wanted, const char* what) {
  std::string names;
  for (const auto& [kind, name] : table) {
    if (name == wanted) return kind;
    if (!names.empty()) names += ", ";
    names += name;
  }
  throw UsageError(std::string(what) + " is \"" + wanted + "\", which does not exist; choose one of " +
                   names);
}

// ------------------------------------------------------------------------------------------ text

template <class Number>
std::string number_text(Number number) {
  std::array<char, 32> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number).ptr;
  return std::string(buffer.data(), end);
}

std::string text_of(std::int64_t number) { return number_text(number); }
std::string text_of(std::uint64_t number) { return number_text(number); }
std::string text_of(int number) { return number_text(number); }
std::string text_of(double number) { return number_text(number); }  // the shortest that reads back the same
std::string text_of(const std::string& text) { return text; }
std::string text_of(bool value) { return value ? "true" : "false"; }
std::string text_of(Prior prior) { return name_of(prior); }
std::string text_of(Visible visible) { return name_of(visible); }
std::string text_of(Algorithm algorithm) { return name_of(algorithm); }
std::string text_of(OptimizerKind kind) { return name_of(kind); }
std::string text_of(FisherForm form) { return name_of(form); }
std::string text_of(Schedule schedule) { return name_of(schedule); }
std::string text_of(Binarization binarization) { return name_of(binarization); }
std::string text_of(const std::vector<std::int64_t>& numbers) {
  std::string text;
  for (const std::int64_t number : numbers) {
    if (!text.empty()) text += ',';
    text += number_text(number);
  }
  return text;
}

// read() throws UsageError when the text does not stand for a value of that type.

template <class Number>
Number number_from(const std::string& name, const std::string& text, const char* expected) {
  Number number{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || stop != end) {
    throw UsageError(name + " is \"" + text + "\" where " + expected + " is expected");
  }
  return number;
}

void read(const std::string& name, const std::string& text, std::int64_t& value) {
  value = number_from<std::int64_t>(name, text, "an integer");
}
void read(const std::string& name, const std::string& text, std::uint64_t& value) {
  value = number_from<std::uint64_t>(name, text, "an integer from 0 to 18446744073709551615");
}
void read(const std::string& name, const std::string& text, int& value) {
  value = number_from<int>(name, text, "an integer");
}
void read(const std::string& name, const std::string& text, double& value) {
  value = number_from<double>(name, text, "a number");
}
void read(const std::string& name, const std::string& text, bool& value) {
  if (text != "true" && text != "false") {
    throw UsageError(name + " is \"" + text + "\" where true or false is expected");
  }
  value = text == "true";
}
void read(const std::string&, const std::string& text, std::string& value) { value = text; }
void read(const std::string&, const std::string& text, Prior& value) { value = prior_named(text); }
void read(const std::string&, const std::string& text, Visible& value) { value = visible_named(text); }
void read(const std::string&, const std::string& text, Algorithm& value) { value = algorithm_named(text); }
void read(const std::string&, const std::string& text, FisherForm& value) { value = fisher_form_named(text); }
void read(const std::string&, const std::string& text, OptimizerKind& value) {
  value = optimizer_named(text);
}
void read(const std::string&, const std::string& text, Schedule& value) { value = schedule_named(text); }
void read(const std::string&, const std::string& text, Binarization& value) {
  value = binarization_named(text);
}
void read(const std::string& name, const std::string& text, std::vector<std::int64_t>& value) {
  value.clear();
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    value.push_back(number_from<std::int64_t>(name, text.substr(begin, end - begin), "an integer"));
    begin = end + 1;
  }
}

// ------------------------------------------------------------------------------------------ fields

bool always(const TrainingSettings&) { return true; }
bool is_sparse(const TrainingSettings& settings) {
  return settings.algorithm == Algorithm::sparse_wake_sleep;
}
bool draws_samples(const TrainingSettings& settings) {
  return settings.algorithm != Algorithm::wake_sleep && !is_sparse(settings);
}
bool is_natural(const TrainingSettings& settings) {
  return settings.algorithm == Algorithm::natural_reweighted_wake_sleep;
}
bool is_reweighted(const TrainingSettings& settings) {
  return settings.algorithm == Algorithm::reweighted_wake_sleep || is_natural(settings);
}

bool has_chains(const TrainingSettings& settings) {
  return settings.algorithm == Algorithm::joint_stochastic_approximation;
}

bool has_plateaus(const TrainingSettings& settings) { return settings.schedule == Schedule::plateau; }
// What is off at 0 is no setting of a run that does without it, so that files written before there was such a
// setting read as they always did. A number that is not usable counts as given, so that `check` refuses it.
bool warms_up(const TrainingSettings& settings) { return settings.warm_up != 0; }
bool clips(const TrainingSettings& settings) { return settings.clip_gradient != 0; }
bool stops_early(const TrainingSettings& settings) { return settings.early_stopping != 0; }
bool begins_with_a_model(const TrainingSettings& settings) { return !settings.initial_hash.empty(); }
bool is_autoregressive(const TrainingSettings& settings) { return settings.prior == Prior::autoregressive; }
bool is_gaussian(const TrainingSettings& settings) { return settings.visible == Visible::gaussian; }
bool binarizes(const TrainingSettings& settings) { return !is_gaussian(settings); }

/// One setting: by what it is written and read, and who uses it. The table below is the only list of them.
struct Field {
  const char* name;
  bool (*used)(const TrainingSettings&);
  const char* needed;                        ///< what a setting that is not used would need
  bool (*written)(const TrainingSettings&);  ///< whether it stands in files, for which it must be used
  std::string (*text)(const TrainingSettings&);
  void (*read)(TrainingSettings&, const std::string& text, const std::string& name);
  std::vector<std::string> (*choices)();
};

template <auto member>
constexpr Field field(const char* field_name, bool (*used)(const TrainingSettings&) = always,
                      const char* needed = "another --algorithm",
                      bool (*written)(const TrainingSettings&) = nullptr) {
  return {field_name,
          used,
          needed,
          written != nullptr ? written : used,
          [](const TrainingSettings& settings) { return text_of(settings.*member); },
          [](TrainingSettings& settings, const std::string& text, const std::string& name) {
            read(name, text, settings.*member);
          },
          names_of_type<std::remove_reference_t<decltype(TrainingSettings{}.*member)>>};
}

constexpr std::array fields = {
    field<&TrainingSettings::layers>("layers"),
    field<&TrainingSettings::prior>("prior", always, "", is_autoregressive),
    field<&TrainingSettings::visible>("visible", always, "", is_gaussian),
    field<&TrainingSettings::visible_deviation>("visible-deviation", is_gaussian, "--visible gaussian"),
    field<&TrainingSettings::algorithm>("algorithm"),
    field<&TrainingSettings::samples>("samples", draws_samples),
    field<&TrainingSettings::insomnia>("insomnia", is_reweighted),
    field<&TrainingSettings::control_variate>("control-variate", is_reweighted),
    field<&TrainingSettings::fisher>("fisher", is_natural),
    field<&TrainingSettings::fisher_damping>("fisher-damping", is_natural),
    field<&TrainingSettings::fisher_refresh>("fisher-refresh", is_natural),
    field<&TrainingSettings::fresh_epochs>("fresh-epochs", has_chains),
    field<&TrainingSettings::sparsity>("sparsity", is_sparse),
    field<&TrainingSettings::target_activation>("target-activation", is_sparse),
    field<&TrainingSettings::activation_memory>("activation-memory", is_sparse),
    field<&TrainingSettings::epochs>("epochs"),
    field<&TrainingSettings::batch_size>("batch-size"),
    field<&TrainingSettings::generative_learning_rate>("generative-learning-rate"),
    field<&TrainingSettings::recognition_learning_rate>("recognition-learning-rate"),
    field<&TrainingSettings::optimizer>("optimizer"),
    field<&TrainingSettings::momentum>("momentum"),
    field<&TrainingSettings::second_momentum>("second-momentum"),
    field<&TrainingSettings::epsilon>("epsilon"),
    field<&TrainingSettings::schedule>("schedule"),
    field<&TrainingSettings::schedule_every>("schedule-every"),
    field<&TrainingSettings::schedule_factor>("schedule-factor"),
    field<&TrainingSettings::patience>("patience", has_plateaus, "--schedule plateau"),
    field<&TrainingSettings::early_stopping>("early-stopping", stops_early, "a number above 0"),
    field<&TrainingSettings::min_improvement>("min-improvement", watches_validation,
                                              "--schedule plateau or --early-stopping"),
    field<&TrainingSettings::warm_up>("warm-up", warms_up, "a number above 0"),
    field<&TrainingSettings::clip_gradient>("clip-gradient", clips, "a number above 0"),
    field<&TrainingSettings::weight_decay>("weight-decay"),
    field<&TrainingSettings::weight_bits>("weight-bits"),
    field<&TrainingSettings::seed>("seed"),
    field<&TrainingSettings::initial_hash>("initial-hash", begins_with_a_model, "--initial-model"),
    field<&TrainingSettings::binarization>("binarize", binarizes, "--visible bernoulli"),
    field<&TrainingSettings::threshold>("threshold", binarizes, "--visible bernoulli"),
};

/// Null where there is none of that name.
const Field* find_field(const std::string& name) {
  const auto found =
      std::find_if(fields.begin(), fields.end(), [&](const Field& f) { return f.name == name; });
  return found == fields.end() ? nullptr : &*found;
}

/// The setting that a caller names.
const Field& field_named(const std::string& name) {
  if (const Field* found = find_field(name)) return *found;
  if (name == "learning-rate") {
    throw UsageError(
        "learning-rate stands for two settings; name generative-learning-rate or recognition-learning-rate");
  }
  std::vector<std::string> names;
  for (const Field& f : fields) names.emplace_back(f.name);
  const std::string similar = nearest(name, names);
  throw UsageError("the setting \"" + name + "\" is unknown; " +
                   (similar.empty() ? "give the name of an option of `wakesleep train`"
                                    : "did you mean " + similar + "?"));
}

// ------------------------------------------------------------------------------------------ checks

template <class Value>
void require(bool usable, const char* name, const Value& found, const std::string& expected) {
  if (!usable) throw UsageError(std::string(name) + " is " + text_of(found) + "; choose " + expected);
}

/// The kernels compute in float32, so a setting must be usable after rounding to it: 1e-60 would be 0.
bool is_positive_float(double value) {
  const double magnitude_limit = static_cast<double>(std::numeric_limits<float>::max());
  return value > 0 && value <= magnitude_limit && static_cast<float>(value) > 0.0f;
}
bool is_below_one_as_float(double value) {
  return value >= 0 && value < 1 && static_cast<float>(value) < 1.0f;
}

void check_learning_rate(const char* name, double rate, double weight_decay) {
  require(is_positive_float(rate), name, rate, "a finite number above 0, such as 0.003");
  require(rate * weight_decay < 1, "weight-decay", weight_decay,
          std::string("a smaller one: times ") + name + " (" + text_of(rate) + ") it must stay below 1");
}

void check_layers(const std::vector<std::int64_t>& layers) {
  if (layers.empty())
    throw UsageError("layers is empty; choose at least one hidden layer, such as 200,200,200");
  if (layers.size() > static_cast<std::size_t>(max_layers)) {
    throw UsageError("layers has " + std::to_string(layers.size()) + " widths; choose at most " +
                     std::to_string(max_layers));
  }
  for (const std::int64_t width : layers) require(width >= 1, "a width in layers", width, "at least 1");
}

void check_visible(const TrainingSettings& settings) {
  require(settings.visible_deviation >= smallest_visible_deviation &&
              settings.visible_deviation <= largest_visible_deviation,
          "visible-deviation", settings.visible_deviation,
          text_of(smallest_visible_deviation) + " to " + text_of(largest_visible_deviation) +
              ", in units of the values, which go from 0 to 1");
  if (!is_gaussian(settings)) return;
  if (is_natural(settings)) {
    throw UsageError(
        "visible is gaussian, but the Fisher blocks of natural-reweighted-wake-sleep are those of Bernoulli "
        "units that receive 0/1 states; choose another algorithm, such as reweighted-wake-sleep");
  }
  if (settings.algorithm == Algorithm::bidirectional_helmholtz) {
    throw UsageError(
        "visible is gaussian, but bidirectional-helmholtz takes the geometric mean of two distributions of "
        "0/1 states; choose another algorithm, such as reweighted-wake-sleep");
  }
}

// ------------------------------------------------------------------------------------------ mathematics

/// cos(pi x) for x in [0, 1], from + - * / alone and with an error below 1e-15: reduced to an angle of at
/// most pi / 4, then Taylor's series of the cosine or the sine. Both reductions are exact.
double cosine_of_pi_times(double x) {
  if (x > 0.5) return -cosine_of_pi_times(1.0 - x);
  const bool by_sine = x > 0.25;
  const double angle = 3.141592653589793 * (by_sine ? 0.5 - x : x);
  const double square = angle * angle;
  double term = by_sine ? angle : 1.0;
  double sum = term;
  const int first = by_sine ? 2 : 1;
  for (int n = first; n < first + 18; n += 2) {
    term *= -square / static_cast<double>(n * (n + 1));
    sum += term;
  }
  return sum;
}

/// base^exponent by repeated squaring.
double power(double base, std::int64_t exponent) {
  double result = 1.0;
  for (; exponent > 0; exponent /= 2) {
    if (exponent % 2 == 1) result *= base;
    base *= base;
  }
  return result;
}

/// The schedule's own factor.
double unwarmed_factor(const TrainingSettings& settings, std::int64_t step, std::int64_t steps_per_epoch,
                       std::int64_t reductions) {
  switch (settings.schedule) {
    case Schedule::constant:
      return 1.0;
    case Schedule::step:
      return power(settings.schedule_factor, step / steps_per_epoch / settings.schedule_every);
    case Schedule::plateau:
      return power(settings.schedule_factor, reductions);
    case Schedule::cosine:
      break;
  }
  const double total_steps = static_cast<double>(settings.epochs) * static_cast<double>(steps_per_epoch);
  const double progress = std::min(static_cast<double>(step) / total_steps, 1.0);
  return 0.5 * (1.0 + cosine_of_pi_times(progress));
}

}  // namespace

const char* name_of(Prior prior) { return find_name(priors, prior, "prior"); }
const char* name_of(Visible visible) { return find_name(visibles, visible, "kind of visible units"); }
const char* name_of(Algorithm algorithm) { return find_name(algorithms, algorithm, "algorithm"); }
const char* name_of(OptimizerKind kind) { return find_name(optimizers, kind, "optimizer"); }
const char* name_of(FisherForm form) { return find_name(fisher_forms, form, "form of Fisher blocks"); }
const char* name_of(Schedule schedule) { return find_name(schedules, schedule, "schedule"); }
const char* name_of(Binarization binarization) {
  return find_name(binarizations, binarization, "binarization");
}

Prior prior_named(const std::string& name) { return find_kind(priors, name, "prior"); }
Visible visible_named(const std::string& name) { return find_kind(visibles, name, "visible"); }
Algorithm algorithm_named(const std::string& name) { return find_kind(algorithms, name, "algorithm"); }
OptimizerKind optimizer_named(const std::string& name) { return find_kind(optimizers, name, "optimizer"); }
FisherForm fisher_form_named(const std::string& name) { return find_kind(fisher_forms, name, "fisher"); }
Schedule schedule_named(const std::string& name) { return find_kind(schedules, name, "schedule"); }
Binarization binarization_named(const std::string& name) {
  return find_kind(binarizations, name, "binarize");
}

void check(const TrainingSettings& settings) {
  check_layers(settings.layers);
  check_visible(settings);
  require(settings.epochs >= 1, "epochs", settings.epochs, "at least 1");
  require(settings.batch_size >= 1 && settings.batch_size <= max_batch_rows, "batch-size",
          settings.batch_size, "1 to " + std::to_string(max_batch_rows));
  require(settings.samples >= 1 && settings.samples <= max_batch_rows, "samples", settings.samples,
          "1 to " + std::to_string(max_batch_rows));
  require(settings.fresh_epochs >= 1 && settings.fresh_epochs <= 4294967295, "fresh-epochs",
          settings.fresh_epochs, "1 to 4294967295, since no chain can go on before its image was visited");
  require(settings.sparsity >= 0 && settings.sparsity <= 1, "sparsity", settings.sparsity, "0 to 1");
  require(settings.target_activation > 0 && settings.target_activation < 1, "target-activation",
          settings.target_activation, "a number above 0 and below 1");
  require(is_below_one_as_float(settings.activation_memory), "activation-memory", settings.activation_memory,
          "a number from 0 to below 1 (in float32)");
  // A smaller one lets the square of a natural gradient, up to 1 / alpha^2, leave the range of Adam's second
  // moments, which would stand still without a word.
  require(is_positive_float(settings.fisher_damping) && settings.fisher_damping >= 1e-15, "fisher-damping",
          settings.fisher_damping, "a finite number of at least 1e-15, such as 0.2");
  require(settings.fisher_refresh >= 1, "fisher-refresh", settings.fisher_refresh, "at least 1 step");
  const bool compares = has_chains(settings) || settings.algorithm == Algorithm::bidirectional_helmholtz ||
                        settings.algorithm == Algorithm::vimco;
  if (compares && settings.samples < 2) {
    throw UsageError("samples is " + text_of(settings.samples) + ", but " + name_of(settings.algorithm) +
                     " compares the samples of an image: choose at least 2");
  }
  if (settings.algorithm == Algorithm::vimco && settings.samples > max_vimco_samples) {
    throw UsageError("samples is " + text_of(settings.samples) + "; choose at most " +
                     std::to_string(max_vimco_samples) +
                     " for vimco, whose log weights are summed in 64 bits");
  }
  require(settings.insomnia >= 0 && settings.insomnia <= 1, "insomnia", settings.insomnia,
          "0 (sleep alone) to 1 (wake alone)");
  if (rows_of_a_step(settings) > max_batch_rows) {
    throw UsageError("batch-size " + text_of(settings.batch_size) + " times samples " +
                     text_of(settings.samples) + " is more than the " + std::to_string(max_batch_rows) +
                     " rows that can be summed exactly; choose smaller ones");
  }
  const double decay = settings.weight_decay;
  require(decay >= 0 && decay <= std::numeric_limits<double>::max(), "weight-decay", decay,
          "a finite number of at least 0");
  check_learning_rate("generative-learning-rate", settings.generative_learning_rate, decay);
  check_learning_rate("recognition-learning-rate", settings.recognition_learning_rate, decay);
  const std::string below_one = "a number from 0 to below 1 (in float32)";
  require(is_below_one_as_float(settings.momentum), "momentum", settings.momentum, below_one);
  require(is_below_one_as_float(settings.second_momentum), "second-momentum", settings.second_momentum,
          below_one);
  require(is_positive_float(settings.epsilon), "epsilon", settings.epsilon,
          "a finite number above 0, such as 1e-8");
  require(settings.schedule_every >= 1, "schedule-every", settings.schedule_every, "at least 1 epoch");
  require(settings.schedule_factor > 0 && settings.schedule_factor <= 1, "schedule-factor",
          settings.schedule_factor, "a number above 0 and at most 1");
  require(settings.patience >= 1, "patience", settings.patience, "at least 1 epoch");
  require(settings.early_stopping >= 0, "early-stopping", settings.early_stopping,
          "at least 1 epoch, or leave it out");
  require(settings.min_improvement >= 0 && settings.min_improvement <= std::numeric_limits<double>::max(),
          "min-improvement", settings.min_improvement, "a finite number of nats of at least 0");
  require(settings.warm_up >= 0 && settings.warm_up <= 4294967295, "warm-up", settings.warm_up,
          "1 to 4294967295 steps, or leave it out");
  require(settings.clip_gradient == 0 || is_positive_float(settings.clip_gradient), "clip-gradient",
          settings.clip_gradient, "a finite number above 0, such as 0.1, or leave it out");
  const int bits = settings.weight_bits;
  require(bits == 16 || bits == 12 || bits == 8, "weight-bits", bits, "16, 12 or 8");
  require(settings.threshold >= 1 && settings.threshold <= 255, "threshold", settings.threshold,
          "1 to 255 (grey values of at least the threshold are on)");
}

std::int64_t rows_of_a_step(const TrainingSettings& settings) {
  return settings.batch_size * (draws_samples(settings) ? settings.samples : 1);
}

std::string promise_of(const TrainingSettings& settings) {
  if (is_natural(settings)) {
    return "natural gradients are outside it: the same seed gives the same model, bit for bit, from the same "
           "build on the same machine";
  }
  return "the same seed gives the same model, bit for bit, on every device";
}

bool mixes_phases(const TrainingSettings& settings) {
  return is_reweighted(settings) && settings.insomnia > 0 && settings.insomnia < 1;
}

bool watches_validation(const TrainingSettings& settings) {
  return has_plateaus(settings) || stops_early(settings);
}

double schedule_factor_at(const TrainingSettings& settings, std::int64_t step, std::int64_t steps_per_epoch,
                          std::int64_t reductions) {
  const FloatingPointScope scope;
  const double factor = unwarmed_factor(settings, step, steps_per_epoch, reductions);
  if (step >= settings.warm_up) return factor;
  return factor * (static_cast<double>(step + 1) / static_cast<double>(settings.warm_up));
}

Rates rates_at(const TrainingSettings& settings, double learning_rate, std::int64_t step,
               std::int64_t steps_per_epoch, std::int64_t rows, std::int64_t reductions) {
  const FloatingPointScope scope;
  double rate = learning_rate * schedule_factor_at(settings, step, steps_per_epoch, reductions);
  const double decay = rate * settings.weight_decay;
  double second_correction = 1.0;
  if (settings.optimizer == OptimizerKind::adam) {
    rate /= 1.0 - power(settings.momentum, step + 1);
    second_correction = 1.0 / (1.0 - power(settings.second_momentum, step + 1));
  }
  Rates rates;
  rates.rate = static_cast<float>(rate);
  rates.decay = static_cast<float>(decay);
  rates.mean = static_cast<float>(1.0 / (127.0 * static_cast<double>(rows)));
  rates.second_correction = static_cast<float>(second_correction);
  return rates;
}

Optimizer optimizer_of(const TrainingSettings& settings) {
  const FloatingPointScope scope;
  Optimizer optimizer;
  optimizer.kind = settings.optimizer;
  optimizer.momentum = static_cast<float>(settings.momentum);
  optimizer.beta1 = static_cast<float>(settings.momentum);
  optimizer.beta2 = static_cast<float>(settings.second_momentum);
  optimizer.epsilon = static_cast<float>(settings.epsilon);
  return optimizer;
}

VisibleUnits visible_units_of(const TrainingSettings& settings) {
  const FloatingPointScope scope;
  VisibleUnits visible;
  visible.kind = settings.visible;
  visible.deviation = static_cast<float>(settings.visible_deviation);
  return visible;
}

Sparsity sparsity_of(const TrainingSettings& settings) {
  const FloatingPointScope scope;
  Sparsity sparsity;
  sparsity.target = static_cast<float>(settings.target_activation);
  sparsity.strength = static_cast<float>(settings.sparsity);
  sparsity.memory = static_cast<float>(settings.activation_memory);
  return sparsity;
}

float clip_limit_of(const TrainingSettings& settings) {
  const FloatingPointScope scope;
  return static_cast<float>(settings.clip_gradient);
}

std::string setting_text(const TrainingSettings& settings, const std::string& name) {
  return field_named(name).text(settings);
}

void set_setting(TrainingSettings& settings, const std::string& name, const std::string& text) {
  field_named(name).read(settings, text, name);
}

bool is_used(const TrainingSettings& settings, const std::string& name) {
  return field_named(name).used(settings);
}

std::vector<std::string> choices_of(const std::string& name) { return field_named(name).choices(); }

std::string needed_for(const std::string& name) { return field_named(name).needed; }

std::vector<std::pair<std::string, std::string>> to_pairs(const TrainingSettings& settings) {
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const Field& f : fields) {
    if (f.written(settings)) pairs.emplace_back(f.name, f.text(settings));
  }
  return pairs;
}

TrainingSettings settings_from_pairs(const std::vector<std::pair<std::string, std::string>>& pairs) {
  TrainingSettings settings;
  std::set<std::string> seen;
  try {
    for (const auto& [name, text] : pairs) {
      const Field* known = find_field(name);
      if (known == nullptr) {
        throw DataError("the setting \"" + name +
                        "\" is unknown; use the version of the program that wrote it");
      }
      if (!seen.insert(name).second)
        throw DataError("the setting " + name + " stands there twice; remove one");
      known->read(settings, text, name);
    }
    for (const Field& f : fields) {
      const bool stands_there = seen.count(f.name) != 0;
      if (stands_there && !f.written(settings)) {
        throw DataError("the setting " + std::string(f.name) + " is of no use to " +
                        name_of(settings.algorithm) + " as it is set; remove it");
      }
      if (!stands_there && f.written(settings)) {
        throw DataError("the setting " + std::string(f.name) +
                        " is missing; use the version of the program that wrote the others");
      }
    }
    check(settings);
  } catch (const UsageError& error) {
    throw DataError(std::string("an unusable setting: ") + error.what());
  }
  return settings;
}

}  // namespace wakesleep
