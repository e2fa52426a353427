// The wake and sleep updates against their exact expectations, by enumeration of all states in double
// precision.
#include "wakesleep/wake_sleep.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "backends.hpp"
#include "reference/naive_machine.hpp"
#include "reference/small_machines.hpp"
#include "trainings.hpp"

namespace wakesleep {
namespace {

constexpr double no_learning = 1e-30;  // too small to change a weight

class WakeSleepTest : public testing::BackendTest {
 protected:
  /// The change of every parameter in one step of plain SGD: the mean gradient over the batch, times the
  /// rate 1.
  Tensors change_in_one_step(const Tensors& before, const std::vector<std::int64_t>& sizes,
                             const DataSet& data, double generative_rate, double recognition_rate) {
    TrainingSettings settings;
    settings.layers.assign(sizes.begin() + 1, sizes.end());
    settings.batch_size = data.rows;
    settings.optimizer = OptimizerKind::sgd;
    settings.weight_bits = 16;
    settings.schedule = Schedule::constant;
    settings.generative_learning_rate = generative_rate;
    settings.recognition_learning_rate = recognition_rate;
    settings.seed = 2026;
    Machine machine(ops(), sizes, settings.weight_bits);
    machine.upload(before);
    testing::one_step(machine, settings, data);
    Tensors change = machine.download();
    for (auto& [name, tensor] : change) {
      for (std::size_t i = 0; i < tensor.values.size(); ++i) tensor.values[i] -= before.at(name).values[i];
    }
    return change;
  }

  static void expect_mean(const Tensors& change, const testing::ExpectedUpdates& expected, double rows) {
    std::size_t parameters = 0;
    for (const auto& [name, update] : expected) {
      const std::vector<float>& found = change.at(name).values;
      ASSERT_EQ(found.size(), update.mean.size()) << name;
      for (std::size_t i = 0; i < found.size(); ++i) {
        // Stochastic rounding to 1/127 adds at most a quarter of a squared quantum to the variance of a row.
        const double deviation = std::sqrt((update.variance[i] + 0.25 / (127 * 127)) / rows);
        EXPECT_LT(std::fabs(found[i] - update.mean[i]), 6 * deviation + 1e-6)
            << name << "[" << i << "]: " << found[i] << ", expected " << update.mean[i] << " +- "
            << deviation;
        ++parameters;
      }
    }
    EXPECT_GT(parameters, 10u);
  }
};

const std::vector<std::int64_t> small_sizes = {5, 4, 3, 2};
constexpr std::int64_t batch = 120000;

// |z| < 6 for each of 52 (wake) and 47 (sleep) parameters: a false alarm in 2e-9 x 99 = 2e-7 of all seeds;
// the seed is fixed, so a failure is a fault.
TEST_P(WakeSleepTest, MeanWakeUpdateIsItsExpectation) {
  const Tensors before = testing::random_tensors(small_sizes, 1.5f, 7);
  const std::vector<testing::Bits> kinds = testing::random_rows(6, small_sizes[0], 3);
  std::vector<testing::Bits> rows;
  for (std::int64_t r = 0; r < batch; ++r) rows.push_back(kinds[static_cast<std::size_t>(r % 6)]);
  const Tensors change =
      change_in_one_step(before, small_sizes, testing::data_set_of(rows), 1.0, no_learning);
  expect_mean(change, testing::NaiveMachine(before, 16).expected_wake(kinds), static_cast<double>(batch));
  for (const auto& [name, tensor] : change) {
    if (name.rfind("recognition", 0) == 0) {
      for (const float value : tensor.values) EXPECT_EQ(value, 0.0f) << "the wake phase changed " << name;
    }
  }
}

TEST_P(WakeSleepTest, MeanSleepUpdateIsItsExpectation) {
  const Tensors before = testing::random_tensors(small_sizes, 1.5f, 8);
  const std::vector<testing::Bits> rows(batch, testing::random_rows(1, small_sizes[0], 4)[0]);
  const Tensors change =
      change_in_one_step(before, small_sizes, testing::data_set_of(rows), no_learning, 1.0);
  expect_mean(change, testing::NaiveMachine(before, 16).expected_sleep(), static_cast<double>(batch));
  for (const auto& [name, tensor] : change) {
    if (name.rfind("recognition", 0) != 0) {
      for (const float value : tensor.values) EXPECT_EQ(value, 0.0f) << "the sleep phase changed " << name;
    }
  }
}

// Sleep dreams with the generative weights that the same step's wake phase has learnt.
TEST_P(WakeSleepTest, SleepFollowsWakeWithinAStep) {
  const std::vector<std::int64_t> sizes = {4, 3, 2};
  const Tensors before = testing::random_tensors(sizes, 1.0f, 9);
  const std::vector<testing::Bits> rows(batch, testing::Bits{1, 0, 1, 1});
  Tensors change = change_in_one_step(before, sizes, testing::data_set_of(rows), 4.0, 1.0);
  Tensors after = before;
  for (auto& [name, tensor] : after) {
    if (name.rfind("recognition", 0) == 0) continue;
    for (std::size_t i = 0; i < tensor.values.size(); ++i) tensor.values[i] += change.at(name).values[i];
  }
  expect_mean(change, testing::NaiveMachine(after, 16).expected_sleep(), static_cast<double>(batch));
}

TEST_P(WakeSleepTest, AShortBatchIsTheMeanOverItsOwnRows) {
  const std::vector<std::int64_t> sizes = {33, 7};
  const Tensors before = testing::random_tensors(sizes, 0.5f, 1);
  TrainingSettings settings;
  settings.layers = {7};
  settings.batch_size = 64;
  settings.optimizer = OptimizerKind::sgd;
  settings.schedule = Schedule::constant;
  settings.generative_learning_rate = settings.recognition_learning_rate = 1.0;
  const DataSet data = testing::data_set_of(testing::random_rows(5, 33, 2));
  std::vector<std::string> hashes;
  for (const std::int64_t capacity : {64, 5}) {  // room for more rows changes nothing
    settings.batch_size = capacity;
    Machine machine(ops(), sizes, settings.weight_bits);
    machine.upload(before);
    testing::one_step(machine, settings, data);
    hashes.push_back(hash_of(machine.download()));
  }
  EXPECT_EQ(hashes[0], hashes[1]);
}

WAKESLEEP_ON_EVERY_BACKEND(WakeSleepTest);

}  // namespace
}  // namespace wakesleep
