// The CPU's routes of the integer products at the limits of their exactness, against 64-bit sums.
#include "kernels/cpu/product.hpp"

#include <gtest/gtest.h>

#include <tuple>

#include "wakesleep/error.hpp"

namespace wakesleep::cpu {
namespace {

class RouteTest : public ::testing::TestWithParam<CpuRoute> {
 protected:
  std::unique_ptr<Ops> ops_ = make_cpu_ops({1, GetParam(), CpuInstructions::baseline, 0});
};

TEST_P(RouteTest, ForwardSumsAtTheLimits) {
  // 514 | 515 and 8196 | 8197 sending units are where float32 needs a second limb for 16- and 12-bit weights.
  const std::vector<std::pair<int, std::vector<std::int64_t>>> cases = {
      {16, {1, 513, 514, 515, 65795}}, {12, {8195, 8196, 8197, 131072}}, {8, {4096, 131072}}};
  for (const auto& [bits, widths] : cases) {
    for (const std::int64_t sending : widths) {
      const std::int64_t receiving = 4, rows = 2, stride = padded_units(sending);
      const float largest = static_cast<float>(largest_integer_weight(bits));
      CpuWeights weights(*ops_, GetParam(), receiving, sending, bits);
      std::vector<float> row(static_cast<std::size_t>(sending));
      for (std::int64_t i = 0; i < receiving; ++i) {
        for (std::int64_t j = 0; j < sending; ++j) {
          row[static_cast<std::size_t>(j)] = i == 0   ? largest
                                             : i == 1 ? -largest
                                             : i == 2 ? largest - 1
                                                      : (j % 2 == 0 ? largest : -128.0f);
        }
        weights.quantize_row(row_kernels(CpuInstructions::baseline), i, row.data(), 0);
      }
      std::vector<std::uint8_t> states(static_cast<std::size_t>(rows * stride), 1);
      for (std::int64_t j = 0; j < sending; j += 3) states[static_cast<std::size_t>(stride + j)] = 0;
      Products products(*ops_, GetParam());
      products.reserve_forward(weights, rows, stride);
      const std::int32_t* sums = products.forward(weights, {states.data(), rows, sending, stride});
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t i = 0; i < receiving; ++i) {
          std::int64_t expected = 0;
          for (std::int64_t j = 0; j < sending; ++j) {
            const std::int64_t q = static_cast<std::int64_t>(i == 0   ? largest
                                                             : i == 1 ? -largest
                                                             : i == 2 ? largest - 1
                                                                      : (j % 2 == 0 ? largest : -128.0f));
            expected += states[static_cast<std::size_t>(r * stride + j)] * q;
          }
          const std::int32_t* sum = sums + r * weights.limbs * receiving + i;
          EXPECT_EQ(weights.limbs == 2 ? join_limbs(sum[0], sum[receiving]) : sum[0], expected)
              << bits << " bits, " << sending << " units, row " << r << ", unit " << i;
        }
      }
    }
  }
}

TEST_P(RouteTest, GradientsOfManyRows) {
  for (const std::int64_t rows : {1, 65793, 65794, 132104, 132105, 264300}) {
    const std::int64_t stride = 64;
    std::vector<std::int8_t> deltas(static_cast<std::size_t>(rows * stride));
    std::vector<std::uint8_t> states(deltas.size());
    for (std::int64_t r = 0; r < rows; ++r) {
      deltas[static_cast<std::size_t>(r * stride)] = 127;
      deltas[static_cast<std::size_t>(r * stride + 1)] = -127;
      deltas[static_cast<std::size_t>(r * stride + 2)] = static_cast<std::int8_t>(r % 255 - 127);
      states[static_cast<std::size_t>(r * stride)] = 1;
      states[static_cast<std::size_t>(r * stride + 1)] = r % 2 == 0;
    }
    const ConstDeltas d{deltas.data(), rows, 3, stride};
    const ConstStates s{states.data(), rows, 2, stride};
    std::vector<std::int32_t> gradient(6, -1);
    Products products(*ops_, GetParam());
    products.reserve_gradient(d, s, {1, 3});  // a part of the receiving units leaves the others alone
    products.gradient(d, s, {1, 3}, gradient.data());
    EXPECT_EQ(gradient[0], -1);
    for (std::int64_t i = 1; i < 3; ++i) {
      for (std::int64_t j = 0; j < 2; ++j) {
        std::int64_t expected = 0;
        for (std::int64_t r = 0; r < rows; ++r) expected += d.row(r)[i] * s.row(r)[j];
        EXPECT_EQ(gradient[static_cast<std::size_t>(i * 2 + j)], expected) << rows << " rows";
      }
    }
  }
}

TEST_P(RouteTest, TooWideIsRefused) {
  EXPECT_THROW(CpuWeights(*ops_, GetParam(), 1, 65796, 16), UsageError);
  EXPECT_THROW(CpuWeights(*ops_, GetParam(), 1, 16909321, 8), UsageError);
  if (GetParam() == CpuRoute::float32) {
    EXPECT_THROW(CpuWeights(*ops_, GetParam(), 1, 131073, 8), UsageError);
  }
}

INSTANTIATE_TEST_SUITE_P(Routes, RouteTest,
                         ::testing::Values(CpuRoute::int8, CpuRoute::float32, CpuRoute::reference),
                         [](const auto& instance) {
                           return instance.param == CpuRoute::int8      ? "int8"
                                  : instance.param == CpuRoute::float32 ? "float32"
                                                                        : "reference";
                         });

TEST(Team, DividesEveryRangeWithoutGapOrOverlap) {
  for (const std::int64_t count : {0, 1, 15, 16, 17, 100, 784}) {
    for (const int parts : {1, 2, 3, 7}) {
      for (const std::int64_t grain : {1, 16, 64}) {
        std::int64_t next = 0;
        for (int index = 0; index < parts; ++index) {
          const Range range = part_of(count, index, parts, grain);
          EXPECT_EQ(range.begin, next);
          EXPECT_LE(range.begin, range.end);
          next = range.end;
        }
        EXPECT_EQ(next, count);
      }
    }
  }
}

TEST(Team, RunsEveryPartOfEveryRound) {
  for (const int threads : {1, 2, 5}) {
    Team team(threads);
    std::vector<std::int64_t> calls(static_cast<std::size_t>(threads), 0);
    for (int round = 0; round < 2000; ++round)
      team.run([&](int index) { ++calls[static_cast<std::size_t>(index)]; });
    for (const std::int64_t count : calls) EXPECT_EQ(count, 2000);
  }
}

TEST(Team, ThrowsOnWhatAThreadThrows) {
  for (const int threads : {1, 2, 5}) {
    Team team(threads);
    for (int culprit = 0; culprit < threads; ++culprit) {
      EXPECT_THROW(team.run([&](int index) {
        if (index == culprit) throw InternalError("thread " + std::to_string(index));
      }),
                   InternalError);
      int calls = 0;  // and the team goes on
      team.run([&](int index) { calls += index == 0 ? 1 : 0; });
      EXPECT_EQ(calls, 1);
    }
  }
}

}  // namespace
}  // namespace wakesleep::cpu
