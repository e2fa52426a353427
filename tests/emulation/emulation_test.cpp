// What only the emulated device can show: that recordings and branches keep to the rules of stream capture,
// and that the choice of a product's algorithm drops the wrong ones and takes the fastest.
#include <gtest/gtest.h>

#include "backends.hpp"
#include "cublasLt.h"
#include "kernels/cuda/check.hpp"
#include "trainings.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {
namespace {

using testing::Backend;

class EmulationTest : public testing::BackendTest {
 protected:
  static constexpr std::int64_t most_rows = 31;
  /// A machine's conditional, with states and counts to run operations on.
  struct Subject {
    explicit Subject(Ops& ops)
        : machine(ops, {33, 19}, 16),
          states(ops, most_rows * 64),
          other_states(ops, most_rows * 64),
          counts(ops, 33) {
      machine.initialize(std::vector<double>(33, 0.3), 1);
      states.fill_zero();
      other_states.fill_zero();
      counts.fill_zero();
    }
    ConstStates visible() const { return {states.data(), 5, 33, 64}; }
    Machine machine;
    Buffer<std::uint8_t> states, other_states;
    Buffer<std::int64_t> counts;
  };

  std::string message_of(const std::function<void()>& recorded) {
    try {
      ops().record(recorded);
      return "accepted";
    } catch (const InternalError& error) {
      return error.what();
    }
  }
};

TEST_P(EmulationTest, SaysThatItIsNoGpu) {
  EXPECT_NE(ops().description().find("emulated on the CPU"), std::string::npos) << ops().description();
}

TEST_P(EmulationTest, OfTheAlgorithmsTheFastestThatIsRightIsUsed) {
  Subject subject(ops());
  for (const std::int64_t rows : {19, 18}) {  // they are offered in either order
    const ConstStates input{subject.states.data(), rows, 33, 64};
    ops().multiply(subject.machine.recognition(1), input);  // chooses
    ops().synchronize();
    const std::uint64_t incomplete = emulation::runs_of(emulation::incomplete);
    const std::uint64_t forgetful = emulation::runs_of(emulation::forgetful);
    const std::uint64_t slow = emulation::runs_of(emulation::slow);
    const std::uint64_t fast = emulation::runs_of(emulation::fast);
    EXPECT_GT(incomplete, 0u);
    EXPECT_GT(forgetful, 0u);
    EXPECT_GT(slow, 0u);
    for (int i = 0; i < 3; ++i) ops().multiply(subject.machine.recognition(1), input);
    ops().synchronize();
    EXPECT_EQ(emulation::runs_of(emulation::incomplete), incomplete);
    EXPECT_EQ(emulation::runs_of(emulation::forgetful), forgetful);  // though all states are 0
    EXPECT_EQ(emulation::runs_of(emulation::slow), slow);
    EXPECT_EQ(emulation::runs_of(emulation::fast), fast + 3);
  }
  EXPECT_NE(ops().description().find("algorithms that failed a check"), std::string::npos)
      << ops().description();
}

TEST_P(EmulationTest, WhatCublasRefusesIsMultipliedByTheEnginesOwnKernel) {
  const bool int8 = ops().description().find("int8 products") != std::string::npos;
  Subject subject(ops());
  for (const std::int64_t rows : {1, 16, 31}) {
    const ConstStates input{subject.states.data(), rows, 33, 64};
    ops().multiply(subject.machine.recognition(1), input);  // chooses
    ops().synchronize();
    const std::uint64_t fast = emulation::runs_of(emulation::fast);
    ops().multiply(subject.machine.recognition(1), input);
    ops().synchronize();
    EXPECT_EQ(emulation::runs_of(emulation::fast), int8 ? fast : fast + 1) << rows;
  }
  EXPECT_EQ(ops().description().find("by the engine's own kernel") != std::string::npos, int8)
      << ops().description();
}

TEST_P(EmulationTest, ARecordingRunsOnlyWhenItIsReplayed) {
  Subject subject(ops());
  std::vector<std::uint8_t> on(most_rows * 64, 1);
  subject.states.copy_in(on.data());
  const auto recording = ops().record([&] { ops().count(subject.visible(), subject.counts.data()); });
  ASSERT_NE(recording, nullptr);
  EXPECT_EQ(testing::to_host(subject.counts), std::vector<std::int64_t>(33, 0));
  for (int i = 0; i < 3; ++i) recording->replay();
  EXPECT_EQ(testing::to_host(subject.counts), std::vector<std::int64_t>(33, 15));
}

TEST_P(EmulationTest, BranchesOfARecordingRunWhereTheyWereRecorded) {
  // Zeros, then on a branch ones, then, awaited, a count: in any order that streams allow, it counts ones.
  Subject subject(ops());
  const Draw draw{1, Domain::sleep_sample, 0, 0, 0, nullptr, SampleAddress::row};
  std::vector<float> certain(33, 100.0f);
  ops().copy_in(subject.machine.generative(1).bias, certain.data(), 33 * sizeof(float));
  Conditional always_on;
  always_on.bias = subject.machine.generative(1).bias;
  always_on.receiving = 33;
  const auto operations = [&] {
    ops().fill_zero(subject.states.data(), 5 * 64);
    for (int branch = 0; branch < ops().branches(); ++branch) {
      ops().on_branch(branch, [&] {
        ops().sample(always_on, {}, draw, 1, {subject.states.data(), 5, 33, 64});
      });
      ops().await_branch(branch);
    }
    ops().count(subject.visible(), subject.counts.data());
  };
  operations();
  const auto recording = ops().record(operations);
  for (int i = 0; i < 20; ++i) recording->replay();
  EXPECT_EQ(testing::to_host(subject.counts), std::vector<std::int64_t>(33, 21 * 5));
}

TEST_P(EmulationTest, WhatCannotBeRecordedIsRefusedAndTheBackendGoesOn) {
  Subject subject(ops());
  const auto count = [&] { ops().count(subject.visible(), subject.counts.data()); };
  EXPECT_NE(message_of([&] { Buffer<std::uint8_t> memory(ops(), 1); }).find("memory of the device"),
            std::string::npos);
  EXPECT_NE(message_of([&] { testing::to_host(subject.counts); }).find("waiting for the device"),
            std::string::npos);
  EXPECT_NE(message_of([&] {
              subject.counts.copy_in(std::vector<std::int64_t>(33).data());
            }).find("a copy from the host"),
            std::string::npos);
  const auto upload = ops().make_upload(33);
  upload->fill();
  EXPECT_NE(message_of([&] { upload->fill(); }).find("the memory of an upload"), std::string::npos);
  EXPECT_NE(message_of([&] { upload->send(subject.states.data(), 33); }).find("an upload"),
            std::string::npos);
  EXPECT_NE(message_of([&] { upload->await(); }).find("an upload"), std::string::npos);
  const auto multiply = [&](std::int64_t rows) {
    ops().multiply(subject.machine.generative(1), {subject.states.data(), rows, 19, 64});
  };
  EXPECT_NE(message_of([&] { multiply(5); }).find("working memory"), std::string::npos);
  multiply(5);
  // One row: choices are kept for the process, and no training of this program has made this one.
  EXPECT_NE(message_of([&] { multiply(1); }).find("a shape that had not been made before"),
            std::string::npos);
  EXPECT_NE(message_of([&] { ops().on_branch(1, count); }).find("not awaited at the end"), std::string::npos);
  EXPECT_NE(message_of([&] {
              ops().on_branch(1, [&] { throw InternalError("thrown on a branch"); });
            }).find("thrown on a branch"),
            std::string::npos);
  // Where the device has given the capture up, leaving the branch fails as well; the first failure is told.
  EXPECT_NE(message_of([&] {
              ops().on_branch(1, [&] {
                void* memory = nullptr;
                if (cudaMalloc(&memory, 1) == cudaSuccess) throw InternalError("allocated in a capture");
                throw InternalError("thrown on a branch");
              });
            }).find("thrown on a branch"),
            std::string::npos);
  EXPECT_NE(message_of([&] { ops().record(count); }).find("another recording"), std::string::npos);
  ops().on_branch(0, count);
  EXPECT_NE(message_of(count).find("not awaited before"), std::string::npos);
  ops().await_branch(0);
  EXPECT_EQ(message_of(count), "accepted");
  EXPECT_EQ(testing::to_host(subject.counts), std::vector<std::int64_t>(33, 0));
}

/// A short training on a backend of its own, and what that says of itself then.
std::string description_after(const CudaOptions& options, const testing::Training& training,
                              std::string* hash = nullptr) {
  const std::unique_ptr<Ops> ops = make_cuda_ops(options);
  const std::string trained = testing::trained_hash(*ops, training);
  if (hash != nullptr) *hash = trained;
  return ops->description();
}

CudaOptions replayed(CudaReplay replay) {
  CudaOptions options;
  options.replay = replay;
  return options;
}

TEST(CurrentDevice, GpusThatWereNotAskedForStayUntouched) {
  emulation::forget_contexts();
  {
    const std::unique_ptr<Ops> ops = make_cuda_ops({.ordinal = 1});
    Buffer<std::uint8_t> memory(*ops, 33);
    memory.fill_zero();
    ops->synchronize();
  }
  EXPECT_EQ(emulation::contexts(), std::set<int>{1});
}

TEST(CurrentDevice, AGpuInUseIsTheCurrentOneAgainAfterEveryCall) {
  emulation::forget_contexts();
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  int current = -1;
  {
    const std::unique_ptr<Ops> ops = make_cuda_ops({.ordinal = 1});
    Buffer<std::uint8_t> memory(*ops, 33);
    cudaGetDevice(&current);
    EXPECT_EQ(current, 0);
  }
  cudaGetDevice(&current);
  EXPECT_EQ(current, 0);
}

TEST(CudaErrors, WhatIsOnlyReportedIsNotBlamedOnTheNextLaunch) {
  WAKESLEEP_CUDA_REPORT(cudaSetDevice(-1));
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST(PersistentKernel, WhereBothWaysOfReplayingAreOpenTheFasterIsKept) {
  testing::Training training = testing::recorded_trainings()[2];
  ASSERT_EQ(training.name, "37-19-5 momentum");
  training.settings.epochs = 16;  // a replay of 6 steps in each but the first: enough for both to be timed
  std::string hashes[3];
  const std::string fastest = description_after(replayed(CudaReplay::fastest), training, &hashes[0]);
  const std::string graph = description_after(replayed(CudaReplay::graph), training, &hashes[1]);
  const std::string persistent = description_after(replayed(CudaReplay::persistent), training, &hashes[2]);
  // Of the device's time, each node of a graph takes one tick, and so does a persistent kernel.
  EXPECT_NE(fastest.find("recordings as one persistent kernel (0.00"), std::string::npos) << fastest;
  EXPECT_NE(fastest.find(" ms, as a CUDA graph "), std::string::npos) << fastest;
  EXPECT_TRUE(graph.ends_with("recordings as a CUDA graph")) << graph;
  EXPECT_TRUE(persistent.ends_with("recordings as one persistent kernel")) << persistent;
  EXPECT_EQ(hashes[0], hashes[1]);
  EXPECT_EQ(hashes[0], hashes[2]);
}

TEST(PersistentKernel, WhereThereIsNoneTheDescriptionSaysWhy) {
  std::vector<testing::Training> trainings = testing::recorded_trainings();
  trainings.push_back(trainings[2]);
  trainings.back().settings.algorithm = Algorithm::natural_reweighted_wake_sleep;
  for (const testing::Training& training : trainings) {
    if (training.units > 100) continue;  // large for threads that take turns
    const std::string description = description_after(replayed(CudaReplay::persistent), training);
    const bool covered =
        training.settings.algorithm == Algorithm::wake_sleep && training.settings.clip_gradient == 0 &&
        training.settings.prior == Prior::factorial && training.settings.visible == Visible::bernoulli;
    EXPECT_EQ(covered, description.ends_with("recordings as one persistent kernel")) << description;
    EXPECT_EQ(!covered,
              description.find("recordings as a CUDA graph (not as one persistent kernel: there is ") !=
                  std::string::npos)
        << description;
  }
  CudaOptions halves = replayed(CudaReplay::persistent);
  halves.route = CudaRoute::fp16;
  const std::string description = description_after(halves, testing::recorded_trainings()[2]);
  EXPECT_NE(description.find("(not as one persistent kernel: it multiplies by the int8 route alone)"),
            std::string::npos)
      << description;
}

TEST(PersistentKernel, ThreeHiddenLayersTakeTenBarriersAStep) {
  testing::Training training = testing::recorded_trainings()[4];
  ASSERT_EQ(training.settings.layers.size(), 3u);
  const std::unique_ptr<Ops> ops = make_cuda_ops(replayed(CudaReplay::persistent));
  Trainer trainer(*ops, testing::training_data(training), training.settings);
  trainer.run_steps(training.rows / training.settings.batch_size + 1);  // an epoch, step by step
  const std::uint64_t before = emulation::grid_barriers_passed();
  trainer.run_steps(8);
  // The first step gathers its data before anything else; the others have theirs when the one before them
  // ends.
  EXPECT_EQ(emulation::grid_barriers_passed() - before, 8u * 10 + 1);
}

TEST(PersistentKernel, WhatDoesNotFitTheCacheIsReplayedAsAGraph) {
  testing::Training training = testing::recorded_trainings()[2];
  training.rows = 6;
  training.units = 900;
  training.settings.layers = {700};
  training.settings.batch_size = 2;
  training.settings.epochs = 1;
  training.settings.optimizer = OptimizerKind::adam;
  const std::string description = description_after(replayed(CudaReplay::persistent), training);
  EXPECT_NE(description.find("bytes and the L2 cache holds 12582912)"), std::string::npos) << description;
}

TEST_P(EmulationTest, AnOperationUnknownToThePersistentKernelKeepsARecordingFromBecomingOne) {
  Subject subject(ops());
  const auto recording = ops().record([&] { ops().count(subject.visible(), subject.counts.data()); });
  recording->replay();
  EXPECT_EQ(ops().description().find("as one persistent kernel\n"), std::string::npos);
  EXPECT_NE(ops().description().find("recordings as a CUDA graph"), std::string::npos) << ops().description();
}

TEST_P(EmulationTest, AReadbackHoldsWhatWasThereWhenItWasRequested) {
  Subject subject(ops());
  const auto readback = ops().make_readback(33 * sizeof(std::int64_t));
  EXPECT_EQ(readback->result(), nullptr);
  std::vector<std::uint8_t> on(most_rows * 64, 1);
  subject.states.copy_in(on.data());
  ops().on_branch(2, [&] { ops().count(subject.visible(), subject.counts.data()); });
  readback->request(subject.counts.data());
  ops().count(subject.visible(), subject.counts.data());
  EXPECT_EQ(static_cast<const std::int64_t*>(readback->result())[32], 5);
  readback->request(subject.counts.data());
  EXPECT_EQ(static_cast<const std::int64_t*>(readback->result())[0], 10);
}

WAKESLEEP_ON_EVERY_BACKEND(EmulationTest);

}  // namespace
}  // namespace wakesleep
