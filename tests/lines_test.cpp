// Wake-sleep, reweighted and natural reweighted wake-sleep on data of which the likelihood is exact after
// every epoch: the 3 x 3 lines, 9-6-1. WAKESLEEP_PRINT_CURVES=1 prints the curves that docs/results.md shows.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "reference/lines.hpp"
#include "wakesleep/trainer.hpp"

namespace wakesleep {
namespace {

constexpr std::int64_t epochs = 100;
constexpr std::int64_t epochs_a_stretch = 20;
constexpr std::uint64_t seeds = 3;

/// By epoch from 0 (untrained) to the last.
using Curve = std::vector<double>;

/// Plain SGD with K = 10 and batches of 32, 36 an epoch, at the best of a few learning rates
/// (docs/results.md).
TrainingSettings settings_of(Algorithm algorithm) {
  const bool natural = algorithm == Algorithm::natural_reweighted_wake_sleep;
  TrainingSettings settings;
  settings.algorithm = algorithm;
  settings.layers = {6, 1};
  settings.samples = 10;
  settings.batch_size = 32;
  settings.epochs = epochs;
  settings.optimizer = OptimizerKind::sgd;
  settings.weight_bits = 16;
  settings.generative_learning_rate = settings.recognition_learning_rate = natural ? 0.2 : 2;
  settings.fisher_damping = 0.1;
  return settings;
}

Curve curve_of(Algorithm algorithm, std::uint64_t seed) {
  TrainingSettings settings = settings_of(algorithm);
  settings.seed = seed;
  CpuOptions options;
  options.threads = 1;
  const std::unique_ptr<Ops> ops = make_cpu_ops(options);
  Trainer trainer(*ops, testing::lines_data(64), settings);
  Curve curve = {testing::kl_from_lines(trainer.machine())};
  while (!trainer.finished()) {
    trainer.run_epoch();
    curve.push_back(testing::kl_from_lines(trainer.machine()));
  }
  return curve;
}

void print(Algorithm algorithm, std::uint64_t seed, const Curve& curve) {
  if (std::getenv("WAKESLEEP_PRINT_CURVES") == nullptr) return;
  std::printf("%s, seed %d:", name_of(algorithm), static_cast<int>(seed));
  for (const double kl : curve) std::printf(" %.3f", kl);
  std::printf("\n");
}

/// The mean over the seeds.
Curve mean_curve(Algorithm algorithm) {
  Curve mean(epochs + 1, 0);
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    const Curve curve = curve_of(algorithm, seed);
    print(algorithm, seed, curve);
    for (std::size_t epoch = 0; epoch < mean.size(); ++epoch) mean[epoch] += curve[epoch] / seeds;
  }
  return mean;
}

// KL(lines || uniform) is the uniform distribution's entropy less that of the lines.
TEST(Lines, KlIsThatOfKnownDistributions) {
  const std::unique_ptr<Ops> ops = make_cpu_ops({});
  const Machine uniform(*ops, {9, 6, 1}, 16);  // all parameters 0
  double entropy = 0;
  for (const double p : {2.0 / 18, 1.0 / 18}) entropy -= 6 * p * std::log(p);
  EXPECT_NEAR(testing::kl_from_lines(uniform), std::log(512.0) - entropy, 1e-12);
  const std::vector<testing::Bits> rows = testing::eighteen_lines();
  ASSERT_EQ(rows.size(), 18u);
  for (const testing::Bits& row : rows) {
    EXPECT_EQ(std::count(rows.begin(), rows.end(), row), &row - rows.data() < 12 ? 2 : 1);
  }
}

TEST(Lines, ReweightedAndNaturalEndBelowWakeSleep) {
  const Curve wake_sleep = mean_curve(Algorithm::wake_sleep);
  const Curve reweighted = mean_curve(Algorithm::reweighted_wake_sleep);
  const Curve natural = mean_curve(Algorithm::natural_reweighted_wake_sleep);
  for (const Curve& curve : {wake_sleep, reweighted, natural}) {
    EXPECT_LT(curve.back(), 0.1 * curve.front());
    double before = curve.front();
    for (std::int64_t first = 1; first <= epochs; first += epochs_a_stretch) {
      double mean = 0;
      for (std::int64_t epoch = first; epoch < first + epochs_a_stretch; ++epoch) {
        mean += curve[static_cast<std::size_t>(epoch)] / epochs_a_stretch;
      }
      EXPECT_LT(mean, before) << "epochs from " << first;
      before = mean;
    }
  }
  EXPECT_LT(reweighted.back(), 0.85 * wake_sleep.back());
  EXPECT_LT(natural.back(), 0.85 * wake_sleep.back());
}

}  // namespace
}  // namespace wakesleep
