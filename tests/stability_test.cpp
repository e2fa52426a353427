// What keeps a training stable: warm-up, clipped gradients, plateaus and early stopping.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "backends.hpp"
#include "logarithm.hpp"
#include "refusals.hpp"
#include "temporary_folder.hpp"
#include "trainings.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::to_device;
using testing::to_host;

DataSet binary_rows(std::int64_t rows, std::int64_t units) {
  return binarize(testing::grey_rows(rows, units), Binarization::fixed, 128, 3);
}

/// A short last batch: 4 steps an epoch of 30 rows.
TrainingSettings small_settings() {
  TrainingSettings settings;
  settings.layers = {9, 4};
  settings.batch_size = 8;
  settings.epochs = 6;
  settings.schedule = Schedule::constant;
  return settings;
}

class StabilityTest : public testing::BackendTest {
 protected:
  std::string trained_hash(const TrainingSettings& settings) {
    Trainer trainer(ops(), binary_rows(30, 21), settings);
    while (!trainer.finished()) trainer.run_epoch();
    return hash_of(trainer.machine().download());
  }
};
WAKESLEEP_ON_EVERY_BACKEND(StabilityTest);

// ------------------------------------------------------------------------------------------ clipping

struct Gradient {
  std::int64_t receiving, sending;  ///< sending 0: a prior
  std::vector<std::int32_t> weights, biases;
};

/// Integers of at most 999, but for one of 1000 at `place` of the weights and the biases after them.
Gradient gradient_with_largest_at(std::int64_t receiving, std::int64_t sending, std::int64_t place,
                                  int sign) {
  Gradient g{receiving, sending, {}, {}};
  for (std::int64_t i = 0; i < receiving * sending + receiving; ++i) {
    const std::uint32_t word = philox4x32_10({{static_cast<std::uint32_t>(i), 0, 0, 0}}, 5).word[0];
    const std::int32_t value = i == place ? 1000 * sign : static_cast<std::int32_t>(word % 1999) - 999;
    (i < receiving * sending ? g.weights : g.biases).push_back(value);
  }
  return g;
}

Rates clipped_rates(Ops& ops, const Gradient& g, const Rates& rates, float limit) {
  Conditional conditional;
  conditional.receiving = g.receiving;
  conditional.sending = g.sending;
  auto weights = to_device(ops, g.weights);
  auto biases = to_device(ops, g.biases);
  auto given = to_device(ops, std::vector<Rates>{rates});
  auto clipped = to_device(ops, std::vector<Rates>(1));
  ops.clip(conditional, g.sending > 0 ? weights.data() : nullptr, biases.data(), limit, given.data(),
           clipped.data());
  return to_host(clipped)[0];
}

TEST_P(StabilityTest, ClipShortensByTheLargestMagnitudeWhereverItIs) {
  const Rates rates{0.25f, 0.125f, 1.0f / (127 * 20), 1.5f};
  const double largest = 1000.0 / (127 * 20);
  for (const auto& [receiving, sending] : {std::pair<std::int64_t, std::int64_t>{1, 1},
                                           {1, 0},
                                           {5, 3},
                                           {33, 0},
                                           {33, 31},
                                           {19, 37},
                                           {200, 64},
                                           {65, 200},
                                           {1030, 0},
                                           {130, 1030}}) {
    const std::int64_t count = receiving * sending + receiving;
    for (const std::int64_t place : {std::int64_t{0}, count / 2, receiving * sending, count - 1}) {
      for (const int sign : {1, -1}) {
        const Gradient g = gradient_with_largest_at(receiving, sending, place, sign);
        for (const double limit : {0.001, 0.1, 0.39, 0.4, 5.0}) {
          const Rates clipped = clipped_rates(ops(), g, rates, static_cast<float>(limit));
          const double factor = largest > limit ? limit / largest : 1.0;
          EXPECT_NEAR(clipped.mean, factor / (127 * 20), 3e-7 * factor / (127 * 20))
              << receiving << " x " << sending << " at " << place << ", limit " << limit;
          if (factor == 1.0) {
            EXPECT_EQ(clipped.mean, rates.mean);
          }
          EXPECT_EQ(clipped.rate, rates.rate);
          EXPECT_EQ(clipped.decay, rates.decay);
          EXPECT_EQ(clipped.second_correction, rates.second_correction);
        }
      }
    }
  }
}

TEST_P(StabilityTest, ClipTakesTheLargestIntegersThereAre) {
  const Rates rates{1.0f, 0.0f, 1.0f / 127, 1.0f};
  for (const std::int32_t extreme : {2147483647, -2147483647}) {
    const Gradient g{2, 1, {3, extreme}, {0, -4}};
    EXPECT_FLOAT_EQ(clipped_rates(ops(), g, rates, 2.0f).mean, static_cast<float>(2.0 / 2147483647.0));
  }
  const Gradient zero{1, 1, {0}, {0}};
  EXPECT_EQ(clipped_rates(ops(), zero, rates, 1e-30f).mean, rates.mean);
}

TEST_P(StabilityTest, NoComponentOfAStepIsBeyondTheLimit) {
  const DataSet data = binary_rows(30, 21);
  TrainingSettings settings = small_settings();
  settings.optimizer = OptimizerKind::sgd;
  settings.batch_size = 30;
  settings.generative_learning_rate = settings.recognition_learning_rate = 1.0;
  for (const Algorithm algorithm : {Algorithm::wake_sleep, Algorithm::reweighted_wake_sleep, Algorithm::vimco,
                                    Algorithm::sparse_wake_sleep}) {
    settings.algorithm = algorithm;
    // The change of every parameter, by conditional: the mean gradient, since the rate is 1.
    const auto changes = [&](double limit) {
      settings.clip_gradient = limit;
      Trainer trainer(ops(), data, settings);
      const Tensors before = trainer.machine().download();
      trainer.run_steps(1);
      std::map<std::string, std::vector<double>> of_conditional;
      for (const auto& [name, tensor] : trainer.machine().download()) {
        std::vector<double>& all = of_conditional[name.substr(0, name.rfind('.'))];
        for (std::size_t i = 0; i < tensor.values.size(); ++i) {
          all.push_back(double{tensor.values[i]} - double{before.at(name).values[i]});
        }
      }
      return of_conditional;
    };
    const auto unclipped = changes(0);
    // Wake is clipped before sleep dreams by it, so that only what learns from wake alone can be compared.
    const double limit = 0.02;
    int clipped_conditionals = 0;
    for (const auto& [name, clipped] : changes(limit)) {
      double largest = 0;
      for (const double change : clipped) largest = std::max(largest, std::fabs(change));
      EXPECT_LE(largest, limit * (1 + 1e-4)) << name;
      if (name.rfind("recognition", 0) == 0) continue;
      const std::vector<double>& free = unclipped.at(name);
      double free_largest = 0;
      for (const double change : free) free_largest = std::max(free_largest, std::fabs(change));
      const double factor = std::min(1.0, limit / free_largest);
      clipped_conditionals += factor < 0.9 ? 1 : 0;
      for (std::size_t i = 0; i < free.size(); ++i) ASSERT_NEAR(clipped[i], factor * free[i], 2e-6) << name;
    }
    EXPECT_GT(clipped_conditionals, 0) << "no gradient reaches the limit";
  }
}

TEST_P(StabilityTest, ALimitThatIsNeverReachedChangesNoBit) {
  TrainingSettings settings = small_settings();
  const std::string free = trained_hash(settings);
  settings.clip_gradient = 1e30;
  EXPECT_EQ(trained_hash(settings), free);
  settings.clip_gradient = 0.01;
  EXPECT_NE(trained_hash(settings), free);
}

// ------------------------------------------------------------------------------------------ warm-up

TEST(WarmUp, RisesByEqualPartsToTheSchedule) {
  TrainingSettings settings = small_settings();
  settings.warm_up = 8;
  for (std::int64_t step = 0; step < 8; ++step) {
    EXPECT_EQ(schedule_factor_at(settings, step, 4), static_cast<double>(step + 1) / 8);  // exact
  }
  EXPECT_EQ(schedule_factor_at(settings, 8, 4), 1.0);
  settings.warm_up = 3;
  EXPECT_EQ(schedule_factor_at(settings, 0, 4), 1.0 / 3.0);
  EXPECT_EQ(schedule_factor_at(settings, 1, 4), 2.0 / 3.0);
  EXPECT_EQ(schedule_factor_at(settings, 2, 4), 1.0);
  for (const Schedule schedule : {Schedule::step, Schedule::cosine}) {
    settings.schedule = schedule;
    settings.schedule_every = 1;
    settings.warm_up = 0;
    std::vector<double> alone;
    for (std::int64_t step = 0; step < 24; ++step) alone.push_back(schedule_factor_at(settings, step, 4));
    settings.warm_up = 10;
    for (std::int64_t step = 0; step < 24; ++step) {
      const double factor = schedule_factor_at(settings, step, 4);
      const double before = alone[static_cast<std::size_t>(step)];
      EXPECT_EQ(factor, step < 10 ? before * (static_cast<double>(step + 1) / 10) : before) << step;
    }
  }
}

TEST_P(StabilityTest, ATrainingThatWarmsUpResumesInTheSameBits) {
  TrainingSettings settings = small_settings();
  settings.epochs = 3;
  const std::string cold = trained_hash(settings);
  settings.warm_up = 7;
  settings.clip_gradient = 0.05;
  const DataSet data = binary_rows(30, 21);
  const std::string expected = trained_hash(settings);
  EXPECT_NE(expected, cold);
  for (std::int64_t stop = 1; stop < 12; ++stop) {
    Trainer first(ops(), data, settings);
    first.run_steps(stop);
    Trainer second(ops(), data, first.snapshot());
    while (!second.finished()) second.run_epoch();
    EXPECT_EQ(hash_of(second.machine().download()), expected) << "resumed at step " << stop;
  }
}

// ------------------------------------------------------------------------------------------ progress

TrainingSettings watching(std::int64_t patience, std::int64_t early_stopping, double min_improvement) {
  TrainingSettings settings = small_settings();
  settings.schedule = Schedule::plateau;
  settings.patience = patience;
  settings.early_stopping = early_stopping;
  settings.min_improvement = min_improvement;
  return settings;
}

TEST(ValidationProgressTest, ReducesAfterPatienceAndStopsAfterTheLimit) {
  ValidationProgress progress(watching(2, 5, 0.5));
  const double estimates[] = {-100, -90, -89.6, -89.5, -89.4, -95, -89.7, -1};
  const std::int64_t best[] = {1, 2, 2, 2, 5, 5, 5, 8};
  const std::int64_t reductions[] = {0, 0, 0, 1, 1, 1, 2, 2};
  for (std::int64_t epoch = 1; epoch <= 8; ++epoch) {
    const auto i = static_cast<std::size_t>(epoch - 1);
    progress.observe(epoch, estimates[i]);
    EXPECT_EQ(progress.best_epoch(), best[i]) << epoch;
    EXPECT_EQ(progress.best(), estimates[best[i] - 1]);
    EXPECT_EQ(progress.reductions(), reductions[i]) << epoch;
    EXPECT_FALSE(progress.stopped());
  }
  for (std::int64_t epoch = 9; epoch <= 13; ++epoch) {
    EXPECT_FALSE(progress.stopped());
    progress.observe(epoch, -1);
  }
  EXPECT_TRUE(progress.stopped());
  EXPECT_EQ(progress.reductions(), 4);  // after epochs 10 and 12
}

TEST(ValidationProgressTest, AnImprovementExceedsTheBestByMoreThanTheLeast) {
  ValidationProgress progress(watching(1, 0, 0.25));
  progress.observe(1, -2.0);
  progress.observe(2, -1.75);  // exactly the least
  EXPECT_EQ(progress.best_epoch(), 1);
  progress.observe(3, std::nextafter(-1.75, 0.0));
  EXPECT_EQ(progress.best_epoch(), 3);
  progress.observe(4, std::numeric_limits<double>::quiet_NaN());
  EXPECT_EQ(progress.best_epoch(), 3);
}

TEST(ValidationProgressTest, ANumberExceedsAFirstEstimateThatIsNone) {
  ValidationProgress progress(watching(1, 3, 0));
  progress.observe(1, std::numeric_limits<double>::quiet_NaN());
  progress.observe(2, -200);
  EXPECT_EQ(progress.best_epoch(), 2);
  EXPECT_EQ(progress.best(), -200);
  progress.observe(3, -100);
  EXPECT_EQ(progress.best_epoch(), 3);
}

TEST(ValidationProgressTest, KnowsWhichReductionsHeldInAnEpoch) {
  ValidationProgress progress(watching(1, 0, 0));
  progress.observe(1, -5);
  progress.observe(2, -6);
  EXPECT_EQ(progress.reductions(), 1);
  EXPECT_EQ(progress.reductions_during(1), 0);  // the epoch that ended with the reduction
  EXPECT_EQ(progress.reductions_during(2), 1);  // the one after it
  progress.observe(2, -1);                      // told again: nothing changes
  EXPECT_EQ(progress.best_epoch(), 1);
  EXPECT_EQ(progress.reductions(), 1);
}

TEST(ValidationProgressTest, ComesBackFromItsTexts) {
  ValidationProgress progress(watching(2, 9, 0.125));
  for (const double estimate : {-1.0 / 3.0, -0.5, -0.6, -1e-17}) {
    progress.observe(progress.epoch() + 1, estimate);
    ValidationProgress again(watching(2, 9, 0.125));
    again.restore(progress.save());
    EXPECT_EQ(again.save(), progress.save());
    EXPECT_EQ(again.best(), progress.best());
  }
  const auto message = [&](const std::string& name, const char* value) {
    Metadata run = progress.save();
    if (value != nullptr) {
      run[name] = value;
    } else {
      run.erase(name);
    }
    return message_of<DataError>([&] { ValidationProgress(watching(2, 9, 0)).restore(run); });
  };
  for (const auto& [name, value] : progress.save()) {
    EXPECT_THAT(message(name, nullptr), HasSubstr(name));
    EXPECT_THAT(message(name, "many"), HasSubstr(name));
  }
  EXPECT_THAT(message("progress-best-epoch", "7"), HasSubstr("contradict"));
  EXPECT_THAT(message("progress-reductions", "-1"), HasSubstr("contradict"));
}

// The estimates are made up: what counts is that the same ones lead to the same bits.
TEST_P(StabilityTest, APlateauResumesAtAnyStepInTheSameBits) {
  const DataSet data = binary_rows(30, 21);
  const TrainingSettings settings = watching(1, 3, 0);
  const auto go_on = [](Trainer& trainer) {
    const double estimates[] = {-9, -8, -8.5, -8.4, -8.2, -1};
    while (true) {
      if (trainer.epoch() > 0 && trainer.step() % trainer.steps_per_epoch() == 0) {
        trainer.observe(estimates[trainer.epoch() - 1]);
      }
      if (trainer.finished()) return;
      trainer.run_epoch();
    }
  };
  Trainer untouched(ops(), data, settings);
  go_on(untouched);
  EXPECT_EQ(untouched.step(), 20);  // stopped after epoch 5, three after the best
  EXPECT_EQ(untouched.progress().reductions(), 3);
  EXPECT_EQ(untouched.last_schedule_factor(), 0.25);
  const std::string expected = hash_of(untouched.machine().download());
  const testing::TemporaryFolder folder;
  const std::string path = (folder.path() / "checkpoint.safetensors").string();
  for (std::int64_t stop = 1; stop < 20; ++stop) {
    Trainer first(ops(), data, settings);
    const double estimates[] = {-9, -8, -8.5, -8.4};
    while (first.step() < stop) {  // interrupted behind an epoch's end, before its estimate, where it fits
      if (first.epoch() > 0 && first.step() % 4 == 0) first.observe(estimates[first.epoch() - 1]);
      first.run_steps(std::min<std::int64_t>(4 - first.step() % 4, stop - first.step()));
    }
    save_model(path, first.snapshot());
    Trainer second(ops(), data, load_model(path));
    go_on(second);
    EXPECT_EQ(second.step(), 20);
    EXPECT_EQ(hash_of(second.machine().download()), expected) << "resumed at step " << stop;
  }
  TrainingSettings constant = settings;
  constant.schedule_factor = 1;
  Trainer unreduced(ops(), data, constant);
  go_on(unreduced);
  EXPECT_NE(hash_of(unreduced.machine().download()), expected);
}

TEST_P(StabilityTest, AMissingEstimateIsRefused) {
  Trainer trainer(ops(), binary_rows(30, 21), watching(1, 0, 0));
  trainer.run_epoch();
  EXPECT_THAT(message_of<UsageError>([&] { trainer.run_epoch(); }), HasSubstr("epoch 1 is missing"));
  trainer.observe(-3);
  EXPECT_NO_THROW(trainer.run_epoch());
}

// ------------------------------------------------------------------------------------------ logarithm

TEST(NaturalLogarithm, IsWithinAFewUnitsOfTheLastPlace) {
  EXPECT_EQ(natural_logarithm(1.0), 0.0);
  double worst = 0;
  const auto look = [&](double x) {
    const auto expected = std::log(static_cast<long double>(x));
    const double unit = std::ldexp(1.0, std::max(std::ilogb(static_cast<double>(expected)), -40) - 52);
    worst = std::max(worst, static_cast<double>(std::fabs(natural_logarithm(x) - expected)) / unit);
  };
  for (std::uint32_t i = 1; i < 200000; ++i) {
    look(1.0 + static_cast<double>(philox4x32_10({{i, 0, 0, 0}}, 2).word[0]) / 256.0);  // 1 to 2^24
    look(static_cast<double>(i));
    look(1.0 + static_cast<double>(i) / 200000.0);
    look(static_cast<double>(i) / 200000.0);
  }
  EXPECT_LT(worst, 2.0);
}

}  // namespace
}  // namespace wakesleep
