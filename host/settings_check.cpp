// What the settings of a run must be.
#include "wakesleep/settings.hpp"

#include <limits>

#include "number_text.hpp"
#include "settings_names.hpp"
#include "settings_uses.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {
namespace {

template <class Value>
void require(bool usable, const char* name, const Value& found, const std::string& expected) {
  if (!usable) throw UsageError(std::string(name) + " is " + number_text(found) + "; choose " + expected);
}

/// The kernels compute in float32, so a setting must be usable after rounding to it: 1e-60 would be 0.
bool is_positive_float(double value) {
  const double magnitude_limit = static_cast<double>(std::numeric_limits<float>::max());
  return value > 0 && value <= magnitude_limit && static_cast<float>(value) > 0.0f;
}
bool is_below_one_as_float(double value) {
  return value >= 0 && value < 1 && static_cast<float>(value) < 1.0f;
}

/// A number that is none of a kind's would be taken for another on the way.
template <class Kind>
void require_known(const char* name, Kind found) {
  std::string names;
  for (const auto& [kind, its_name] : table_of(found)) {
    if (kind == found) return;
    names += (names.empty() ? "" : ", ") + std::string(its_name);
  }
  throw UsageError(std::string(name) + " is number " + std::to_string(static_cast<int>(found)) +
                   ", which does not exist; choose one of " + names);
}

void check_kinds(const TrainingSettings& settings) {
  require_known("algorithm", settings.algorithm);
  require_known("prior", settings.prior);
  require_known("visible", settings.visible);
  require_known("optimizer", settings.optimizer);
  require_known("schedule", settings.schedule);
  require_known("binarize", settings.binarization);
  require_known("fisher", settings.fisher);
}

void check_learning_rate(const char* name, double rate, double weight_decay) {
  require(is_positive_float(rate), name, rate, "a finite number above 0 (in float32), such as 0.003");
  require(rate * weight_decay < 1, "weight-decay", weight_decay,
          std::string("a smaller one: times ") + name + " (" + number_text(rate) + ") it must stay below 1");
}

void check_layers(const std::vector<std::int64_t>& layers) {
  if (layers.empty())
    throw UsageError("layers is empty; choose at least one hidden layer, such as 200,200,200");
  if (layers.size() > static_cast<std::size_t>(max_layers)) {
    throw UsageError("layers has " + std::to_string(layers.size()) + " widths; choose at most " +
                     std::to_string(max_layers));
  }
  for (const std::int64_t width : layers) {
    if (width < 1)
      throw UsageError("layers has a width of " + std::to_string(width) + "; choose widths of at least 1");
  }
}

void check_visible(const TrainingSettings& settings) {
  require(settings.visible_deviation >= smallest_visible_deviation &&
              settings.visible_deviation <= largest_visible_deviation,
          "visible-deviation", settings.visible_deviation,
          number_text(smallest_visible_deviation) + " to " + number_text(largest_visible_deviation) +
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

void check_algorithm(const TrainingSettings& settings) {
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
    throw UsageError("samples is " + number_text(settings.samples) + ", but " + name_of(settings.algorithm) +
                     " compares the samples of an image: choose at least 2");
  }
  if (settings.algorithm == Algorithm::vimco && settings.samples > max_vimco_samples) {
    throw UsageError("samples is " + number_text(settings.samples) + "; choose at most " +
                     std::to_string(max_vimco_samples) +
                     " for vimco, whose log weights are summed in 64 bits");
  }
  require(settings.insomnia >= 0 && settings.insomnia <= 1, "insomnia", settings.insomnia,
          "0 (sleep alone) to 1 (wake alone)");
  if (rows_of_a_step(settings) > max_batch_rows) {
    throw UsageError("batch-size " + number_text(settings.batch_size) + " times samples " +
                     number_text(settings.samples) + " is more than the " + std::to_string(max_batch_rows) +
                     " rows that can be summed exactly; choose smaller ones");
  }
}

void check_optimizer(const TrainingSettings& settings) {
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
          "a finite number above 0 (in float32), such as 1e-8");
}

void check_schedule(const TrainingSettings& settings) {
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
          settings.clip_gradient, "a finite number above 0 (in float32), such as 0.1, or leave it out");
}

}  // namespace

void check(const TrainingSettings& settings) {
  check_kinds(settings);
  check_layers(settings.layers);
  check_visible(settings);
  require(settings.epochs >= 1, "epochs", settings.epochs, "at least 1");
  require(settings.batch_size >= 1 && settings.batch_size <= max_batch_rows, "batch-size",
          settings.batch_size, "1 to " + std::to_string(max_batch_rows));
  check_algorithm(settings);
  check_optimizer(settings);
  check_schedule(settings);
  const int bits = settings.weight_bits;
  require(bits == 16 || bits == 12 || bits == 8, "weight-bits", bits, "16, 12 or 8");
  require(settings.threshold >= 1 && settings.threshold <= 255, "threshold", settings.threshold,
          "1 to 255 (grey values of at least the threshold are on)");
}

}  // namespace wakesleep
