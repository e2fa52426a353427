// How fast a run learns at each step: the schedule and the rates of one step.
#include "wakesleep/settings.hpp"

#include <algorithm>

#include "floating_point.hpp"

namespace wakesleep {
namespace {

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

}  // namespace wakesleep
