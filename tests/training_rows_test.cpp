// Rows that stay in host memory: the same bits as rows in the backend's memory, which hold no more than a
// ring.
#include "wakesleep/training_rows.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "backends.hpp"
#include "trainings.hpp"

namespace wakesleep {
namespace {

using testing::streamed;

constexpr std::int64_t megabyte = 1 << 20;

/// Batches of three rows, of which an epoch has up to 34: recordings, pieces of the ring and epochs begin at
/// different steps.
TrainingSettings settings_of(Algorithm algorithm) {
  TrainingSettings settings;
  settings.layers = {9, 4};
  settings.batch_size = 3;
  settings.epochs = 2;
  settings.algorithm = algorithm;
  settings.samples = 2;
  settings.binarization = Binarization::dynamic;
  return settings;
}

DataSet rows_of(std::int64_t rows, std::int64_t units, Binarization how) {
  return binarize(testing::grey_rows(rows, units), how, 128, 3);
}

std::string hash_of_trained(Trainer& trainer) {
  while (!trainer.finished()) trainer.run_epoch();
  return hash_of(trainer.machine().download());
}

// ------------------------------------------------------------------------------------ the ring

TEST(RowRing, HoldsWholeBatchesWithinItsBounds) {
  for (const std::int64_t batch_size : {1, 3, 100, 8192}) {
    for (const std::int64_t batches_of_data : {1, 2, 3, 5, 34, 600}) {
      for (const std::int64_t ring_bytes : {std::int64_t{0}, std::int64_t{1000}, megabyte, 1000 * megabyte}) {
        const std::int64_t row_bytes = 98;
        const std::int64_t batch_bytes = batch_size * (row_bytes + 4);
        const RowRing ring = plan_ring({DataPlacement::streamed, ring_bytes}, batch_size,
                                       batches_of_data * batch_size, row_bytes);
        EXPECT_EQ(ring.batches(), ring.pieces * ring.batches_a_piece);
        EXPECT_EQ(ring.bytes(), ring.batches() * batch_bytes);
        EXPECT_GE(ring.pieces, 2);
        EXPECT_LE(ring.pieces, 4);
        EXPECT_GE(ring.batches_a_piece, 1);
        EXPECT_LE(ring.batches(), 64);
        EXPECT_LE(ring.bytes(), std::max(ring_bytes, 2 * batch_bytes));
        EXPECT_LE(ring.batches(), std::max<std::int64_t>(2, batches_of_data / 2));
      }
    }
  }
  // As large as the narrowest bound lets it be: 64 batches, half an epoch, the bytes.
  EXPECT_EQ(plan_ring({}, 100, 60000, 98).batches(), 64);
  EXPECT_EQ(plan_ring({}, 100, 6000, 98).batches(), 28);  // 4 pieces of 7, of at most 30
  EXPECT_EQ(plan_ring({DataPlacement::streamed, 13 * 102}, 1, 600, 98).batches(), 12);
}

TEST(Placement, IsThatWhichWasAskedFor) {
  const auto is_streamed = [](DataPlacement placement, std::size_t available) {
    return decide_placement({placement, megabyte}, 100, 1000000, 98, available).streamed;
  };
  for (const std::size_t available : {std::size_t{0}, std::numeric_limits<std::size_t>::max()}) {
    EXPECT_TRUE(is_streamed(DataPlacement::streamed, available));
    EXPECT_FALSE(is_streamed(DataPlacement::resident, available));
  }
}

TEST(Placement, IsByItselfResidentWhereTheRowsFitBesideTheRestOfTheRun) {
  const auto decided = [](std::int64_t rows, std::int64_t available) {
    return decide_placement({DataPlacement::automatic, megabyte}, 100, rows, 98,
                            static_cast<std::size_t>(available));
  };
  const PlacementDecision decision = decided(1000000, 0);
  EXPECT_EQ(decision.data_bytes, 98000000);
  EXPECT_LE(decision.ring_bytes, megabyte);
  EXPECT_GE(decision.kept_free,
            512 * megabyte + 36 * 1000000);  // evaluations, and what sorting an order takes
  const std::int64_t needed = decision.data_bytes + decision.kept_free;
  EXPECT_TRUE(decided(1000000, needed - 1).streamed);
  EXPECT_EQ(decided(1000000, needed - 1).held(), decision.ring_bytes);
  EXPECT_FALSE(decided(1000000, needed).streamed);
  EXPECT_EQ(decided(1000000, needed).held(), decision.data_bytes);
  EXPECT_FALSE(decided(200, 0).streamed);  // a ring of two batches of 100, with row numbers, would take more
  EXPECT_FALSE(decide_placement({}, 100, 1000000, 98, std::numeric_limits<std::size_t>::max()).streamed);
}

// ------------------------------------------------------------------------------------ trainings

class StreamedTest : public testing::BackendTest {};

TEST_P(StreamedTest, EveryRingEndsInTheBitsOfResidentRows) {
  struct Case {
    Algorithm algorithm;
    Binarization binarization;
  };
  for (const auto& [algorithm, binarization] :
       {Case{Algorithm::wake_sleep, Binarization::fixed}, Case{Algorithm::wake_sleep, Binarization::dynamic},
        Case{Algorithm::joint_stochastic_approximation, Binarization::dynamic}}) {
    const DataSet data = rows_of(101, 21, binarization);
    const TrainingSettings settings = settings_of(algorithm);
    Trainer resident(ops(), data, settings, {DataPlacement::resident});
    ASSERT_FALSE(resident.placement().streamed);
    const std::string expected = hash_of_trained(resident);
    const std::int64_t batch_bytes = 3 * (data.row_bytes + 4);
    for (const std::int64_t batches : {2, 7, 17}) {
      Trainer trainer(ops(), data, settings, streamed(batches * batch_bytes));
      ASSERT_TRUE(trainer.placement().streamed);
      EXPECT_LE(trainer.placement().held(), batches * batch_bytes);
      EXPECT_EQ(hash_of_trained(trainer), expected) << name_of(algorithm) << ", " << batches << " batches";
    }
  }
}

TEST_P(StreamedTest, EpochsOfAFewBatchesOrOneGoThroughTheRing) {
  for (const std::int64_t rows : {3, 4, 6, 7, 10}) {
    const DataSet data = rows_of(rows, 33, Binarization::dynamic);
    TrainingSettings settings = settings_of(Algorithm::wake_sleep);
    settings.epochs = 7;
    Trainer resident(ops(), data, settings, {DataPlacement::resident});
    Trainer trainer(ops(), data, settings, streamed());
    EXPECT_EQ(hash_of_trained(trainer), hash_of_trained(resident)) << rows << " rows";
  }
}

TEST_P(StreamedTest, ResumingAtAnyStepEndsInTheSameBits) {
  for (const Algorithm algorithm : {Algorithm::wake_sleep, Algorithm::joint_stochastic_approximation}) {
    const DataSet data = rows_of(32, 21, Binarization::dynamic);
    TrainingSettings settings = settings_of(algorithm);
    Trainer untouched(ops(), data, settings, {DataPlacement::resident});
    const std::string expected = hash_of_trained(untouched);
    ASSERT_EQ(untouched.step(), 22);
    for (std::int64_t stop = 1; stop < 22; ++stop) {
      Trainer first(ops(), data, settings, streamed());
      first.run_steps(stop);
      Trainer second(ops(), data, first.snapshot(), streamed());
      EXPECT_EQ(hash_of_trained(second), expected) << "resumed at step " << stop;
    }
    Trainer from_streamed(ops(), data, settings, streamed());
    from_streamed.run_steps(15);
    Trainer to_resident(ops(), data, from_streamed.snapshot(), {DataPlacement::resident});
    EXPECT_EQ(hash_of_trained(to_resident), expected);
  }
}

TEST_P(StreamedTest, AnInterruptedEpochGoesOn) {
  const DataSet data = rows_of(101, 21, Binarization::dynamic);
  const TrainingSettings settings = settings_of(Algorithm::wake_sleep);
  Trainer resident(ops(), data, settings, {DataPlacement::resident});
  Trainer trainer(ops(), data, settings, streamed());
  int asked = 0;
  while (!trainer.finished()) trainer.run_epoch([&] { return ++asked % 2 == 0; });
  EXPECT_GT(asked, 10);
  EXPECT_EQ(hash_of(trainer.machine().download()), hash_of_trained(resident));
}

TEST_P(StreamedTest, TheBackendHoldsTheRingAndNoMoreRows) {
  const DataSet data = rows_of(1001, 130, Binarization::dynamic);
  const TrainingSettings settings = settings_of(Algorithm::wake_sleep);
  struct Held {
    std::int64_t now, peak;
  };
  const auto held = [&](const PlacementSettings& placement) {
    ops().reset_peak();
    Trainer trainer(ops(), data, settings, placement);
    trainer.run_steps(20);
    const MemoryUse use = ops().memory_use();
    return Held{static_cast<std::int64_t>(use.current), static_cast<std::int64_t>(use.peak)};
  };
  held({DataPlacement::resident});  // working memory of the backend's own is made here, and kept
  const Held resident = held({DataPlacement::resident});
  const Held through_ring = held(streamed(5000));
  const std::int64_t ring_bytes = plan_ring(streamed(5000), 3, 1001, 130).bytes();
  EXPECT_LE(ring_bytes, 5000);
  const std::int64_t saved = 1001 * 130 - ring_bytes;
  if (GetParam().cuda && GetParam().gpu.replay == CudaReplay::persistent) {
    // A persistent kernel's program is in the backend's memory too, and through a ring it has fewer steps.
    EXPECT_GE(resident.now - through_ring.now, saved);
    EXPECT_GE(resident.peak - through_ring.peak, saved);
  } else {
    EXPECT_EQ(resident.now - through_ring.now, saved);
    EXPECT_EQ(resident.peak - through_ring.peak, saved);
  }
}

TEST_P(StreamedTest, NoMemoryOfTheBackendIsAllocatedAfterTheFirstStep) {
  Trainer trainer(ops(), rows_of(101, 21, Binarization::dynamic), settings_of(Algorithm::wake_sleep),
                  streamed());
  trainer.run_steps(1);
  const std::size_t allocations = ops().memory_use().allocations;
  while (!trainer.finished()) trainer.run_epoch();
  EXPECT_EQ(ops().memory_use().allocations, allocations);
}

WAKESLEEP_ON_EVERY_BACKEND(StreamedTest);

}  // namespace
}  // namespace wakesleep
