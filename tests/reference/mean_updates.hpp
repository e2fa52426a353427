// The change of every parameter in one step of plain SGD over many images, held against its exact
// expectation.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "reference/naive_machine.hpp"
#include "trainings.hpp"

namespace wakesleep::testing {

inline constexpr double no_learning = 1e-30;  ///< a rate too small to change a weight

/// Stochastic rounding to 1/127 adds at most a quarter of a squared quantum to the variance of a delta.
inline constexpr double rounding_variance = 0.25 / (127 * 127);

/// Plain ascent at rate 1: one step changes every parameter by its mean gradient over the batch.
inline TrainingSettings gradient_settings(Algorithm algorithm, const std::vector<std::int64_t>& sizes,
                                          std::uint64_t seed) {
  TrainingSettings settings;
  settings.algorithm = algorithm;
  settings.layers.assign(sizes.begin() + 1, sizes.end());
  settings.optimizer = OptimizerKind::sgd;
  settings.weight_bits = 16;
  settings.schedule = Schedule::constant;
  settings.generative_learning_rate = settings.recognition_learning_rate = 1;
  settings.seed = seed;
  return settings;
}

inline bool is_recognition(const std::string& tensor) { return tensor.rfind("recognition", 0) == 0; }

inline Tensors after_one_step(Ops& ops, const Tensors& before, const std::vector<std::int64_t>& sizes,
                              const TrainingSettings& settings, const DataSet& data) {
  Machine machine(ops, sizes, settings.weight_bits, settings.prior, visible_units_of(settings));
  machine.upload(before);
  one_step(machine, settings, data);
  return machine.download();
}

/// With a batch of all rows.
inline Tensors change_in_one_step(Ops& ops, const Tensors& before, const std::vector<std::int64_t>& sizes,
                                  TrainingSettings settings, const DataSet& data) {
  settings.batch_size = data.rows;
  Tensors change = after_one_step(ops, before, sizes, settings, data);
  for (auto& [name, tensor] : change) {
    for (std::size_t i = 0; i < tensor.values.size(); ++i) tensor.values[i] -= before.at(name).values[i];
  }
  return change;
}

/// |z| < 6 for every parameter of the given kind; `rounding` is what rounding may add to an image's variance,
/// where errors of the visible units count in units of `precision`.
inline void expect_mean(const Tensors& change, const ExpectedUpdates& expected, bool recognition,
                        double rounding, std::int64_t images, double precision = 1) {
  std::size_t parameters = 0;
  for (const auto& [name, update] : expected) {
    if (is_recognition(name) != recognition) continue;
    const std::vector<float>& found = change.at(name).values;
    ASSERT_EQ(found.size(), update.mean.size()) << name;
    const double unit = name.rfind("generative.1.", 0) == 0 ? precision : 1;
    for (std::size_t i = 0; i < found.size(); ++i) {
      const double variance = update.variance[i] + rounding * unit * unit;
      const double deviation = std::sqrt(variance / static_cast<double>(images));
      EXPECT_LT(std::fabs(found[i] - update.mean[i]), 6 * deviation + 1e-6)
          << name << "[" << i << "]: " << found[i] << ", expected " << update.mean[i] << " +- " << deviation;
      ++parameters;
    }
  }
  EXPECT_GT(parameters, 10u);
}

}  // namespace wakesleep::testing
