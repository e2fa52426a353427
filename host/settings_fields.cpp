// The settings one by one: what each is called, how it is written and read, and who uses it.
#include "wakesleep/settings.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <type_traits>
#include <utility>

#include "nearest.hpp"
#include "number_text.hpp"
#include "settings_names.hpp"
#include "settings_uses.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {
namespace {

// ------------------------------------------------------------------------------------------ text

std::string text_of(std::int64_t number) { return number_text(number); }
std::string text_of(std::uint64_t number) { return number_text(number); }
std::string text_of(int number) { return number_text(number); }
std::string text_of(double number) { return number_text(number); }
std::string text_of(const std::string& text) { return text; }
std::string text_of(bool value) { return value ? "true" : "false"; }
std::string text_of(Prior prior) { return name_of(prior); }
std::string text_of(Visible visible) { return name_of(visible); }
std::string text_of(Algorithm algorithm) { return name_of(algorithm); }
std::string text_of(OptimizerKind kind) { return name_of(kind); }
std::string text_of(FisherForm form) { return name_of(form); }
std::string text_of(Schedule schedule) { return name_of(schedule); }
std::string text_of(Binarization binarization) { return name_of(binarization); }
std::string text_of(const std::vector<std::int64_t>& numbers) { return numbers_text(numbers); }

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

/// The names that a setting of this type can have; none of a number or a flag.
template <class Value>
std::vector<std::string> names_of_type() {
  std::vector<std::string> names;
  if constexpr (std::is_enum_v<Value>) {
    for (const auto& [kind, name] : table_of(Value{})) names.emplace_back(name);
  }
  return names;
}

/// One setting: by what it is written and read, and who uses it. The table below is the only list of them.
struct Field {
  const char* name;
  bool (*used)(const TrainingSettings&);
  const char* needed;                        ///< what a setting that is not used would need
  bool (*written)(const TrainingSettings&);  ///< whether it stands in files
  std::string (*text)(const TrainingSettings&);
  void (*read)(TrainingSettings&, const std::string& text, const std::string& name);
  std::vector<std::string> (*choices)();
};

template <auto member>
constexpr Field field(const char* field_name, bool (*used)(const TrainingSettings&), const char* needed,
                      bool (*written)(const TrainingSettings&)) {
  return {field_name,
          used,
          needed,
          written,
          [](const TrainingSettings& settings) { return text_of(settings.*member); },
          [](TrainingSettings& settings, const std::string& text, const std::string& name) {
            read(name, text, settings.*member);
          },
          names_of_type<std::remove_reference_t<decltype(TrainingSettings{}.*member)>>};
}

/// One that stands in files wherever it is used.
template <auto member>
constexpr Field field(const char* field_name, bool (*used)(const TrainingSettings&) = always,
                      const char* needed = "another --algorithm") {
  return field<member>(field_name, used, needed, used);
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
    field<&TrainingSettings::momentum>("momentum", has_momentum, "--optimizer momentum or adam", always),
    field<&TrainingSettings::second_momentum>("second-momentum", is_adam, "--optimizer adam", always),
    field<&TrainingSettings::epsilon>("epsilon", is_adam, "--optimizer adam", always),
    field<&TrainingSettings::schedule>("schedule"),
    field<&TrainingSettings::schedule_every>("schedule-every", has_intervals, "--schedule step", always),
    field<&TrainingSettings::schedule_factor>("schedule-factor", reduces_rates, "--schedule step or plateau",
                                              always),
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
    field<&TrainingSettings::threshold>("threshold", has_threshold, "--binarize threshold", binarizes),
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

}  // namespace

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
