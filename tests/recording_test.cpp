// Recorded steps against steps that are queued one by one: the same bits for every shape, optimiser and
// number of weight bits, however the backend replays them. What is right is shown elsewhere (trainings by
// hand in fault_gaps_test, recorded hashes in golden_test); here are the shapes at which a replay could go
// wrong.
#include <gtest/gtest.h>

#include "backends.hpp"
#include "trainings.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/evaluate.hpp"
#include "wakesleep/generate.hpp"

namespace wakesleep {
namespace {

using testing::Training;

struct Shape {
  const char* name;
  std::int64_t rows;
  std::int64_t units;
  std::vector<std::int64_t> layers;
  std::int64_t batch_size;
};

class RecordingTest : public testing::BackendTest {
 protected:
  static Training training(const Shape& shape, OptimizerKind optimizer, int bits) {
    Training training;
    training.rows = shape.rows;
    training.units = shape.units;
    training.settings.layers = shape.layers;
    training.settings.batch_size = shape.batch_size;
    training.settings.epochs = 3;
    training.settings.seed = 5;
    training.settings.optimizer = optimizer;
    training.settings.weight_bits = bits;
    training.settings.weight_decay = 0.01;
    training.settings.binarization = Binarization::dynamic;
    training.settings.generative_learning_rate = optimizer == OptimizerKind::adam ? 0.01 : 0.2;
    training.settings.recognition_learning_rate = optimizer == OptimizerKind::adam ? 0.02 : 0.1;
    return training;
  }

  std::string hash_step_by_step(const Training& training) {
    Trainer trainer(ops(), testing::training_data(training), training.settings);
    while (!trainer.finished()) trainer.run_steps(1);
    return hash_of(trainer.machine().download());
  }

  void expect_same_bits(const Shape& shape, OptimizerKind optimizer, int bits) {
    const Training one = training(shape, optimizer, bits);
    EXPECT_EQ(testing::trained_hash(ops(), one), hash_step_by_step(one))
        << shape.name << ", optimizer " << name_of(optimizer) << ", " << bits << " bits";
  }

  bool persistent() const { return GetParam().cuda && GetParam().gpu.replay == CudaReplay::persistent; }
};

const Shape shapes[] = {
    {"a single unit everywhere", 20, 1, {1}, 1},
    {"37-19-5", 83, 37, {19, 5}, 5},
    {"more sending units than receiving ones", 45, 521, {9, 6}, 5},
    {"more sending units than threads move at once", 20, 521, {80, 6}, 5},
    {"rows beyond one tile", 140, 66, {35, 17}, 33},
    {"rows and units at the edges of tiles", 130, 64, {32, 16, 8}, 32},
    {"a deep machine", 60, 20, {18, 17, 16, 15, 14, 13, 12, 11, 10}, 7},
};

TEST_P(RecordingTest, ReplaysHaveTheBitsOfStepsOneByOne) {
  for (const Shape& shape : shapes) expect_same_bits(shape, OptimizerKind::momentum, 16);
  if (persistent()) {
    EXPECT_NE(ops().description().find("recordings as one persistent kernel"), std::string::npos)
        << ops().description();
  }
}

TEST_P(RecordingTest, ReplaysHaveTheBitsOfStepsOneByOneForEveryOptimizerAndWeight) {
  for (const int bits : {8, 12, 16}) {
    for (const OptimizerKind optimizer : {OptimizerKind::sgd, OptimizerKind::momentum, OptimizerKind::adam}) {
      expect_same_bits(shapes[1], optimizer, bits);
    }
  }
}

TEST_P(RecordingTest, ATrainingThatStopsWithinARecordingGoesOn) {
  const Training one = training(shapes[1], OptimizerKind::adam, 16);
  Trainer trainer(ops(), testing::training_data(one), one.settings);
  // 17 steps an epoch: whole recordings of 8, the rest one by one, ends of epochs in between.
  for (const std::int64_t steps : {10, 9, 1, 3, 8, 16}) trainer.run_steps(steps);
  while (!trainer.finished()) trainer.run_steps(1);
  EXPECT_EQ(hash_of(trainer.machine().download()), hash_step_by_step(one));
}

// The estimate and the dreams need more working memory than a step, and the recordings go on behind them.
TEST_P(RecordingTest, AnEstimateBetweenReplaysChangesNothing) {
  for (const Algorithm algorithm :
       {Algorithm::wake_sleep, Algorithm::reweighted_wake_sleep, Algorithm::sparse_wake_sleep,
        Algorithm::joint_stochastic_approximation}) {
    Training one = training(shapes[1], OptimizerKind::momentum, 16);
    one.settings.algorithm = algorithm;
    one.settings.samples = 3;
    one.settings.clip_gradient = 0.3;
    const DataSet data = testing::training_data(one);
    Trainer trainer(ops(), data, one.settings);
    const DataSet binary = binarize(data, Binarization::threshold, 128, 1);
    EvaluationSettings estimate;
    estimate.samples = 3;
    estimate.limit = 20;
    while (!trainer.finished()) {
      trainer.run_epoch();
      estimate.samples *= 2;
      evaluate(trainer.machine(), binary, estimate);
      dream(trainer.machine(), 40, 4);
    }
    EXPECT_EQ(hash_of(trainer.machine().download()), testing::trained_hash(ops(), one)) << name_of(algorithm);
  }
}

TEST_P(RecordingTest, DivergenceInAReplayIsNamedAsInASingleStep) {
  // A mean gradient is at most 1, and integers hold weights up to 2^45: the first step cannot leave the
  // range. Those behind it go on in its direction.
  Training one = training(shapes[1], OptimizerKind::momentum, 16);
  one.settings.generative_learning_rate = 1.5e13;
  one.settings.momentum = 0.99;
  one.settings.weight_decay = 0;
  const auto message = [&](std::int64_t steps_at_a_time) -> std::string {
    Trainer trainer(ops(), testing::training_data(one), one.settings);
    try {
      while (!trainer.finished()) trainer.run_steps(steps_at_a_time);
    } catch (const DivergenceError& error) {
      return error.what();
    }
    return "no divergence";
  };
  const std::string step_by_step = message(1);
  EXPECT_EQ(message(17), step_by_step);
  EXPECT_NE(step_by_step, "no divergence");
  EXPECT_EQ(step_by_step.find("after step 0 "), std::string::npos) << step_by_step;
}

WAKESLEEP_ON_EVERY_BACKEND(RecordingTest);

}  // namespace
}  // namespace wakesleep
