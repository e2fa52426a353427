// What follows from the settings of a run: what it promises, and its settings as operations take them.
#include "wakesleep/settings.hpp"

#include "floating_point.hpp"
#include "settings_uses.hpp"

namespace wakesleep {

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

}  // namespace wakesleep
