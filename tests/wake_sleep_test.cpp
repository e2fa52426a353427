// The wake and sleep updates against their exact expectations, by enumeration of all states in double
// precision.
#include "wakesleep/wake_sleep.hpp"

#include <gtest/gtest.h>

#include "backends.hpp"
#include "reference/mean_updates.hpp"
#include "reference/naive_machine.hpp"
#include "reference/small_machines.hpp"
#include "trainings.hpp"

namespace wakesleep {
namespace {

const std::vector<std::int64_t> small_sizes = {5, 4, 3, 2};
constexpr std::int64_t batch = 120000;

class WakeSleepTest : public testing::BackendTest {
 protected:
  Tensors change_in_one_step(const Tensors& before, const std::vector<std::int64_t>& sizes,
                             const DataSet& data, double generative_rate, double recognition_rate) {
    TrainingSettings settings = testing::gradient_settings(Algorithm::wake_sleep, sizes, 2026);
    settings.generative_learning_rate = generative_rate;
    settings.recognition_learning_rate = recognition_rate;
    return testing::change_in_one_step(ops(), before, sizes, settings, data);
  }

  static void expect_mean(const Tensors& change, const testing::ExpectedUpdates& expected, bool recognition) {
    testing::expect_mean(change, expected, recognition, testing::rounding_variance, batch);
  }
};

// |z| < 6 for each of 52 (wake) and 47 (sleep) parameters: a false alarm in 2e-9 x 99 = 2e-7 of all seeds;
// the seed is fixed, so a failure is a fault.
TEST_P(WakeSleepTest, MeanWakeUpdateIsItsExpectation) {
  const Tensors before = testing::random_tensors(small_sizes, 1.5f, 7);
  const std::vector<testing::Bits> kinds = testing::random_rows(6, small_sizes[0], 3);
  std::vector<testing::Bits> rows;
  for (std::int64_t r = 0; r < batch; ++r) rows.push_back(kinds[static_cast<std::size_t>(r % 6)]);
  const Tensors change =
      change_in_one_step(before, small_sizes, testing::data_set_of(rows), 1.0, testing::no_learning);
  expect_mean(change, testing::NaiveMachine(before, 16).expected_wake(kinds), false);
  for (const auto& [name, tensor] : change) {
    if (testing::is_recognition(name)) {
      for (const float value : tensor.values) EXPECT_EQ(value, 0.0f) << "the wake phase changed " << name;
    }
  }
}

TEST_P(WakeSleepTest, MeanSleepUpdateIsItsExpectation) {
  const Tensors before = testing::random_tensors(small_sizes, 1.5f, 8);
  const std::vector<testing::Bits> rows(batch, testing::random_rows(1, small_sizes[0], 4)[0]);
  const Tensors change =
      change_in_one_step(before, small_sizes, testing::data_set_of(rows), testing::no_learning, 1.0);
  expect_mean(change, testing::NaiveMachine(before, 16).expected_sleep(), true);
  for (const auto& [name, tensor] : change) {
    if (!testing::is_recognition(name)) {
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
    if (testing::is_recognition(name)) continue;
    for (std::size_t i = 0; i < tensor.values.size(); ++i) tensor.values[i] += change.at(name).values[i];
  }
  expect_mean(change, testing::NaiveMachine(after, 16).expected_sleep(), true);
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
