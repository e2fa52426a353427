// Sparse wake-sleep: wake-sleep where the penalty has no strength, and the stated bias gradients where it
// has.
#include "wakesleep/sparse_wake_sleep.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "backends.hpp"
#include "reference/mean_updates.hpp"
#include "trainings.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {
namespace {

using Layers = std::vector<std::int64_t>;

class SparseWakeSleepTest : public testing::BackendTest {
 protected:
  Model trained(const DataSet& data, const TrainingSettings& settings) {
    Trainer trainer(ops(), data, settings);
    while (!trainer.finished()) trainer.run_epoch();
    return trainer.snapshot();
  }
};

TEST_P(SparseWakeSleepTest, WithoutStrengthItIsWakeSleepToTheLastBit) {
  for (const Layers& layers : {Layers{31}, Layers{19, 5}, Layers{33, 7, 3}}) {
    for (const OptimizerKind kind : {OptimizerKind::sgd, OptimizerKind::adam}) {
      TrainingSettings settings;
      settings.layers = layers;
      settings.batch_size = 16;
      settings.epochs = 2;
      settings.optimizer = kind;
      const DataSet data = binarize(testing::grey_rows(37, 33), Binarization::fixed, 128, 1);
      const Model expected = trained(data, settings);
      settings.algorithm = Algorithm::sparse_wake_sleep;
      settings.sparsity = 0;
      const Model found = trained(data, settings);
      EXPECT_EQ(hash_of(found.tensors), hash_of(expected.tensors));
      EXPECT_EQ(hash_of(found.optimizer), hash_of(expected.optimizer));
      settings.sparsity = 0.1;
      EXPECT_NE(hash_of(trained(data, settings).tensors), hash_of(expected.tensors));
    }
  }
}

double mean_distance_to_target(const Model& model, int layers, double target) {
  double distance = 0, units = 0;
  for (int l = 1; l <= layers; ++l) {
    for (const float mean : model.algorithm.at("activation." + std::to_string(l)).values) {
      distance += std::fabs(mean - target);
      units += 1;
    }
  }
  return distance / units;
}

TEST_P(SparseWakeSleepTest, DrawsActivationsToTheTarget) {
  const DataSet data = binarize(testing::grey_rows(200, 33), Binarization::fixed, 128, 1);
  for (const double target : {0.1, 0.4}) {
    TrainingSettings settings;
    settings.algorithm = Algorithm::sparse_wake_sleep;
    settings.layers = {20, 7};
    settings.batch_size = 50;
    settings.epochs = 150;
    settings.schedule = Schedule::constant;
    settings.generative_learning_rate = settings.recognition_learning_rate = 0.01;
    settings.target_activation = target;
    settings.activation_memory = 0.95;
    settings.sparsity = 0;
    const double without = mean_distance_to_target(trained(data, settings), 2, target);
    settings.sparsity = 1;
    const double with = mean_distance_to_target(trained(data, settings), 2, target);
    EXPECT_LT(with, 0.05) << "target " << target;
    EXPECT_GT(without, 2 * with) << "target " << target;
  }
}

// One step of plain SGD with rate 1 on all rows: beside wake-sleep's own step, the biases of hidden units,
// and these alone, take lambda (rho - m), rounded to 1 / (127 rows). The two directions are looked at in
// turn, as sleep dreams with what wake has learnt.
TEST_P(SparseWakeSleepTest, BiasesTakeTheStatedGradient) {
  const std::int64_t rows = 37;
  const double memory = 0.75, target = 0.3, strength = 0.6;
  const DataSet data = binarize(testing::grey_rows(rows, 33), Binarization::fixed, 128, 1);
  for (const Layers& layers : {Layers{31}, Layers{19, 5}, Layers{9, 7, 3}}) {
    for (const bool recognition : {false, true}) {
      TrainingSettings settings;
      settings.layers = layers;
      settings.batch_size = rows;
      settings.epochs = 1;
      settings.optimizer = OptimizerKind::sgd;
      settings.schedule = Schedule::constant;
      settings.generative_learning_rate = recognition ? testing::no_learning : 1;
      settings.recognition_learning_rate = recognition ? 1 : testing::no_learning;
      settings.sparsity = strength;
      settings.target_activation = target;
      settings.activation_memory = memory;
      const Model plain = trained(data, settings);
      settings.algorithm = Algorithm::sparse_wake_sleep;
      const Model sparse = trained(data, settings);
      std::size_t penalised = 0;
      for (const auto& [name, tensor] : plain.tensors) {
        const std::vector<float>& found = sparse.tensors.at(name).values;
        const bool learns = testing::is_recognition(name) == recognition;
        if (!learns || name.ends_with("weight") || name == "generative.1.bias") {
          EXPECT_EQ(found, tensor.values) << name;
          continue;
        }
        // recognition.{l} and generative.{l + 1} have the biases of layer l, the prior those of the top.
        const std::string layer = name == "prior.bias" ? std::to_string(layers.size())
                                  : recognition        ? name.substr(12, 1)
                                                       : std::to_string(std::stoi(name.substr(11, 1)) - 1);
        const std::vector<float>& means = sparse.algorithm.at("activation." + layer).values;
        ASSERT_EQ(means.size(), found.size()) << name;
        for (std::size_t j = 0; j < found.size(); ++j) {
          // The mean is beta rho + (1 - beta) times a whole number of rows.
          const double on = (means[j] - memory * target) / (1 - memory) * static_cast<double>(rows);
          EXPECT_NEAR(on, std::nearbyint(on), 1e-3);
          EXPECT_NEAR(found[j] - tensor.values[j], strength * (target - means[j]),
                      0.5 / (127.0 * static_cast<double>(rows)) + 1e-6)
              << name << "[" << j << "]";
          penalised += std::fabs(target - means[j]) > 0.01 ? 1u : 0u;
        }
      }
      EXPECT_GT(penalised, 3u);
    }
  }
}

TEST_P(SparseWakeSleepTest, ResumesFromItsRunningMeans) {
  TrainingSettings settings;
  settings.algorithm = Algorithm::sparse_wake_sleep;
  settings.layers = {17, 5};
  settings.batch_size = 16;
  settings.epochs = 3;
  const DataSet data = binarize(testing::grey_rows(37, 33), Binarization::fixed, 128, 1);
  const Model expected = trained(data, settings);
  for (const std::int64_t stop : {1, 3, 8}) {
    Trainer first(ops(), data, settings);
    first.run_steps(stop);
    Trainer second(ops(), data, first.snapshot());
    while (!second.finished()) second.run_epoch();
    const Model found = second.snapshot();
    EXPECT_EQ(hash_of(found.tensors), hash_of(expected.tensors)) << "resumed at step " << stop;
    EXPECT_EQ(hash_of(found.algorithm), hash_of(expected.algorithm)) << "resumed at step " << stop;
  }
  Model without = expected;
  without.algorithm.erase("activation.1");
  EXPECT_THROW(Trainer(ops(), data, without), DataError);
  without.algorithm.clear();
  EXPECT_THROW(Trainer(ops(), data, without), DataError);
}

WAKESLEEP_ON_EVERY_BACKEND(SparseWakeSleepTest);

}  // namespace
}  // namespace wakesleep
