// The team of threads that divides an operation of the CPU backend between them.
#include "kernels/cpu/threads.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "wakesleep/error.hpp"
#include "wakesleep/ops.hpp"

namespace wakesleep::cpu {
namespace {

/// Many short rounds on more threads than most machines have processors, some of whose shares take long, so
/// that threads come late, miss rounds, or find their share taken.
TEST(Team, DoesEveryShareOfEveryRoundOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    Team team(threads);
    ASSERT_EQ(team.size(), threads);
    std::vector<std::atomic<int>> times(static_cast<std::size_t>(threads));
    for (int round = 0; round < 2000; ++round) {
      for (std::atomic<int>& t : times) t.store(0, std::memory_order_relaxed);
      team.run([&](int index) {
        if ((round * 7 + index) % 97 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
        times[static_cast<std::size_t>(index)].fetch_add(1, std::memory_order_relaxed);
      });
      for (int index = 0; index < threads; ++index) {
        ASSERT_EQ(times[static_cast<std::size_t>(index)].load(), 1)
            << "share " << index << " of " << threads << " in round " << round;
      }
    }
    // A thread that wakes after its share was taken must not do it behind the round's end.
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    for (int index = 0; index < threads; ++index) EXPECT_EQ(times[static_cast<std::size_t>(index)].load(), 1);
  }
}

TEST(Team, SeesWhatTheCallerAndTheOthersHaveWritten) {
  Team team(3);
  std::vector<long> values(3, 0);
  for (long round = 1; round <= 2000; ++round) {
    const long before = std::accumulate(values.begin(), values.end(), 0L);
    team.run([&](int index) { values[static_cast<std::size_t>(index)] = before % 1000 + index; });
    for (int index = 0; index < 3; ++index) {
      ASSERT_EQ(values[static_cast<std::size_t>(index)], before % 1000 + index) << "round " << round;
    }
  }
}

TEST(Team, ASecondCallerIsRefusedAndTheFirstGoesOn) {
  for (const int threads : {1, 2}) {
    Team team(threads);
    std::atomic<int> calls{0};
    team.run([&](int index) {
      ++calls;
      if (index > 0) return;
      std::thread([&] { EXPECT_THROW(team.run([&](int) { ++calls; }), UsageError); }).join();
    });
    EXPECT_EQ(calls.load(), threads);
    team.run([&](int) { ++calls; });
    EXPECT_EQ(calls.load(), 2 * threads);
    EXPECT_THROW(team.run([](int) { throw std::runtime_error("a share failed"); }), std::runtime_error);
    team.run([&](int) { ++calls; });
    EXPECT_EQ(calls.load(), 3 * threads);
  }
}

TEST(Team, ThrowsWhatAShareThrowsAndGoesOn) {
  Team team(3);
  for (int thrower = 0; thrower < 3; ++thrower) {
    std::atomic<int> done{0};
    EXPECT_THROW(team.run([&](int index) {
      if (index == thrower) throw std::runtime_error("a share failed");
      ++done;
    }),
                 std::runtime_error);
    EXPECT_EQ(done.load(), 2);
  }
  std::atomic<int> done{0};
  team.run([&](int) { ++done; });
  EXPECT_EQ(done.load(), 3);
}

TEST(Team, OfANegativeSizeIsRefused) {
  EXPECT_THROW(make_cpu_ops({.threads = -1}), UsageError);
  EXPECT_THROW(make_cpu_ops({.piece_rows = -1}), UsageError);
}

}  // namespace
}  // namespace wakesleep::cpu
