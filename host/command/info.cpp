// `wakesleep info`: what a model file is.
#include <cstdio>

#include <nlohmann/json.hpp>

#include "command/commands.hpp"
#include "command/progress.hpp"
#include "command/run_texts.hpp"
#include "wakesleep/arithmetic.hpp"
#include "wakesleep/model_file.hpp"

namespace wakesleep::command {
namespace {

std::int64_t parameters_of(const Tensors& tensors) {
  std::int64_t count = 0;
  for (const auto& [name, tensor] : tensors) count += static_cast<std::int64_t>(tensor.values.size());
  return count;
}

/// A checkpoint says more of its run than the data that a finished model was trained on, and may have state.
/// Not every one has: sgd keeps none.
bool is_checkpoint(const Model& model) {
  return !model.optimizer.empty() || !model.algorithm.empty() || model.run.size() > model.run.count("data");
}

void print_json(const Model& model) {
  nlohmann::ordered_json settings = nlohmann::ordered_json::object();
  for (const auto& [name, value] : used_settings(model.settings)) settings[name] = value;
  const nlohmann::ordered_json json = {
      {"hash", model.hash},
      {"step", model.step},
      {"seed", model.settings.seed},
      {"algorithm", name_of(model.settings.algorithm)},
      {"layers", model.sizes},
      {"prior", name_of(model.settings.prior)},
      {"visible", name_of(model.settings.visible)},
      {"parameters", parameters_of(model.tensors)},
      {"image_height", model.height},
      {"image_width", model.width},
      {"contract", arithmetic_contract},
      {"promise", promise_of(model.settings)},
      {"checkpoint", is_checkpoint(model)},
      {"has_optimizer_state", !model.optimizer.empty()},
      {"settings", settings},
  };
  std::printf("%s\n", json.dump().c_str());
}

void print_line(const std::string& name, const std::string& value) {
  std::printf("%-28s %s\n", name.c_str(), value.c_str());
}

std::string visible_text(const TrainingSettings& settings) {
  const std::string name = name_of(settings.visible);
  if (settings.visible == Visible::bernoulli) return name;
  return name + ", deviation " + setting_text(settings, "visible-deviation");
}

void print_text(const Model& model) {
  std::string sizes;
  for (const std::int64_t size : model.sizes) sizes += (sizes.empty() ? "" : "-") + std::to_string(size);
  print_line("hash", model.hash);
  print_line("layers", sizes + " (visible units first)");
  print_line("prior", name_of(model.settings.prior));
  print_line("visible units", visible_text(model.settings));
  print_line("parameters", with_commas(parameters_of(model.tensors)));
  if (model.height > 0) {
    print_line("images", std::to_string(model.height) + " x " + std::to_string(model.width));
  }
  print_line("step", with_commas(model.step));
  print_line("file", is_checkpoint(model) ? "a checkpoint" : "a finished model");
  print_line("optimiser state", model.optimizer.empty() ? "none" : "present");
  print_line("arithmetic contract", std::string(arithmetic_contract) + ": " + promise_of(model.settings));
  std::printf("settings (learning rates multiply the mean gradient over the batch)\n");
  for (const auto& [name, value] : used_settings(model.settings)) print_line("  " + name, value);
}

}  // namespace

const CommandSpec& info_spec() {
  static const CommandSpec spec = {
      "info", "Says what MODEL is and how it was trained.", {model_positional()}, {json_option()}};
  return spec;
}

int info(const Arguments& arguments) {
  const Model model = load_model(arguments.required("model"));
  if (arguments.flag("json")) {
    print_json(model);
  } else {
    print_text(model);
  }
  return 0;
}

}  // namespace wakesleep::command
