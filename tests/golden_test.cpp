// Recorded hashes of small trainings, on every backend: the same bits for any device, thread count, split of
// the batch, route of the products, instruction set and compiler. To record them anew after a change that is
// meant to change the arithmetic (and then the name of the contract), run with WAKESLEEP_RECORD_GOLDEN=1.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <utility>

#include "backends.hpp"
#include "paths.hpp"
#include "trainings.hpp"

namespace wakesleep {
namespace {

const std::string golden_file = testing::test_file("golden/trainings.txt");

std::map<std::string, std::string> recorded_hashes() {
  std::map<std::string, std::string> hashes;
  std::ifstream file(golden_file);
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    hashes[line.substr(66)] = line.substr(0, 64);
  }
  return hashes;
}

class GoldenTest : public testing::BackendTest {};

TEST_P(GoldenTest, TrainedModelsHaveTheRecordedHashes) {
  const std::map<std::string, std::string> recorded = recorded_hashes();
  for (const testing::Training& training : testing::recorded_trainings()) {
    ASSERT_TRUE(recorded.contains(training.name))
        << training.name << " has no recorded hash in " << golden_file;
    EXPECT_EQ(testing::trained_hash(ops(), training), recorded.at(training.name)) << training.name;
  }
}

// A trainer that is asked for one step at a time never replays a recording of several.
TEST_P(GoldenTest, StepsQueuedOneByOneLeaveTheRecordedHashes) {
  const std::map<std::string, std::string> recorded = recorded_hashes();
  for (const testing::Training& training : testing::recorded_trainings()) {
    ASSERT_TRUE(recorded.contains(training.name)) << training.name;
    Trainer trainer(ops(), testing::training_data(training), training.settings);
    while (!trainer.finished()) trainer.run_steps(1);
    EXPECT_EQ(hash_of(trainer.machine().download()), recorded.at(training.name)) << training.name;
  }
}

// In turn through the smallest ring, two batches, and the largest that the data have.
TEST_P(GoldenTest, StreamedRowsLeaveTheRecordedHashes) {
  const std::map<std::string, std::string> recorded = recorded_hashes();
  PlacementSettings placement = testing::streamed(0);
  PlacementSettings other = testing::streamed();
  for (const testing::Training& training : testing::recorded_trainings()) {
    ASSERT_TRUE(recorded.contains(training.name)) << training.name;
    EXPECT_EQ(testing::trained_hash(ops(), training, placement), recorded.at(training.name)) << training.name;
    std::swap(placement, other);
  }
}

std::vector<testing::Backend> backends() {
  std::vector<testing::Backend> all = testing::all_backends();
  all.push_back(testing::cuda_on_one_stream());
  return all;
}

INSTANTIATE_TEST_SUITE_P(Backends, GoldenTest, ::testing::ValuesIn(backends()),
                         [](const auto& instance) { return instance.param.name; });

TEST(Golden, EveryRecordedHashBelongsToATraining) {
  std::map<std::string, std::string> recorded = recorded_hashes();
  for (const testing::Training& training : testing::recorded_trainings()) recorded.erase(training.name);
  EXPECT_TRUE(recorded.empty()) << recorded.begin()->first;
}

TEST(Golden, Record) {
  if (std::getenv("WAKESLEEP_RECORD_GOLDEN") == nullptr) {
    GTEST_SKIP() << "records the hashes only when WAKESLEEP_RECORD_GOLDEN is set";
  }
  std::ofstream file(golden_file);
  file << "# SHA-256 of the trained parameters (docs/file-format.md), arithmetic contract "
       << arithmetic_contract << "\n";
  CpuOptions options;
  options.threads = 1;
  options.route = CpuRoute::reference;
  options.instructions = CpuInstructions::baseline;
  for (const testing::Training& training : testing::recorded_trainings()) {
    file << testing::trained_hash(*make_cpu_ops(options), training) << "  " << training.name << "\n";
  }
}

}  // namespace
}  // namespace wakesleep
