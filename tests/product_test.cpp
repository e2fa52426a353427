// The CPU's routes of the integer products at the limits of their exactness, against 64-bit sums.
#include "kernels/cpu/product.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "wakesleep/error.hpp"

namespace wakesleep::cpu {
namespace {

class RouteTest : public ::testing::TestWithParam<CpuRoute> {
 protected:
  void SetUp() override {
    if (!cpu_route_available(GetParam())) GTEST_SKIP() << "needs a processor with AVX2";
    ops_ = make_cpu_ops({1, GetParam(), CpuInstructions::baseline, 0});
  }
  std::unique_ptr<Ops> ops_;
};

/// Numbers from 0 to `count` - 1, by place.
class Numbers {
 public:
  explicit Numbers(std::uint64_t seed) : seed_(seed) {}
  std::int64_t below(std::int64_t count) {
    return philox4x32_10(draw_counter(place_++, 0, 0, 0), seed_).word[0] % static_cast<std::uint32_t>(count);
  }

 private:
  std::uint64_t seed_;
  std::uint32_t place_ = 0;
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

// Everything that a tile, panel or step of a route may be cut short by, with random numbers and garbage in
// the padding.
TEST_P(RouteTest, ForwardSumsOfEveryShape) {
  Numbers numbers(1);
  for (const int bits : {16, 12, 8}) {
    for (const std::int64_t sending : {1, 2, 3, 5, 33, 511, 513, 1026}) {
      for (const std::int64_t receiving : {1, 7, 16, 17, 37}) {
        const std::int32_t largest = largest_integer_weight(bits);
        std::vector<float> q(static_cast<std::size_t>(receiving * sending));
        for (float& weight : q) weight = static_cast<float>(numbers.below(2 * largest + 1) - largest);
        CpuWeights weights(*ops_, GetParam(), receiving, sending, bits);
        for (std::int64_t i = 0; i < receiving; ++i)
          weights.quantize_row(row_kernels(CpuInstructions::baseline), i, q.data() + i * sending, 0);
        Products products(*ops_, GetParam());
        for (const std::int64_t rows : {1, 3, 4, 9}) {
          const std::int64_t stride = padded_units(sending);
          std::vector<std::uint8_t> states(static_cast<std::size_t>(rows * stride), 0xA5);
          for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t j = 0; j < sending; ++j)
              states[static_cast<std::size_t>(r * stride + j)] = static_cast<std::uint8_t>(numbers.below(2));
          }
          products.reserve_forward(weights, rows, stride);
          const std::int32_t* sums = products.forward(weights, {states.data(), rows, sending, stride});
          for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t i = 0; i < receiving; ++i) {
              std::int64_t expected = 0;
              for (std::int64_t j = 0; j < sending; ++j) {
                expected += states[static_cast<std::size_t>(r * stride + j)] *
                            static_cast<std::int64_t>(q[static_cast<std::size_t>(i * sending + j)]);
              }
              const std::int32_t* sum = sums + r * weights.limbs * receiving + i;
              ASSERT_EQ(weights.limbs == 2 ? join_limbs(sum[0], sum[receiving]) : sum[0], expected)
                  << bits << " bits, " << sending << " -> " << receiving << ", row " << r << ", unit " << i;
            }
          }
        }
      }
    }
  }
}

/// Of two threads' receiving units, [0, divided) and the rest.
void expect_gradient(Products& products, ConstDeltas d, ConstStates s, std::int64_t divided) {
  std::vector<std::int32_t> gradient(static_cast<std::size_t>(d.columns * s.columns), -1);
  for (const Range units : {Range{0, divided}, Range{divided, d.columns}}) {
    products.reserve_gradient(d, s, units);
    products.gradient(d, s, units, gradient.data());
  }
  for (std::int64_t i = 0; i < d.columns; ++i) {
    for (std::int64_t j = 0; j < s.columns; ++j) {
      std::int64_t expected = 0;
      for (std::int64_t r = 0; r < d.rows; ++r) expected += d.row(r)[i] * s.row(r)[j];
      ASSERT_EQ(gradient[static_cast<std::size_t>(i * s.columns + j)], expected)
          << d.rows << " rows, " << s.columns << " -> " << d.columns << ", at " << i << ", " << j;
    }
  }
}

TEST_P(RouteTest, GradientsOfEveryShape) {
  Numbers numbers(2);
  for (const std::int64_t rows : {0, 1, 2, 3, 5, 511, 515, 1027, 2049}) {
    for (const std::int64_t receiving : {1, 6, 37}) {
      for (const std::int64_t sending : {1, 16, 37}) {
        std::vector<std::int8_t> deltas(static_cast<std::size_t>(rows * receiving));  // without padding
        std::vector<std::uint8_t> states(static_cast<std::size_t>(rows * sending));
        for (std::int8_t& delta : deltas) delta = static_cast<std::int8_t>(numbers.below(255) - 127);
        for (std::uint8_t& state : states) state = static_cast<std::uint8_t>(numbers.below(2));
        const ConstDeltas d{deltas.data(), rows, receiving, receiving};
        const ConstStates s{states.data(), rows, sending, sending};
        Products products(*ops_, GetParam());
        expect_gradient(products, d, s, receiving / 2);
      }
    }
  }
}

// Rows without an error in a thread's units are left out of its product, and what was copied of an earlier
// batch must not come back.
TEST_P(RouteTest, GradientsOfRowsWithoutErrors) {
  Numbers numbers(3);
  const std::int64_t receiving = 37, sending = 21, stride = 64;
  for (const std::int64_t rows : {63, 64, 100, 500, 1027, 8192, 8193}) {
    Products products(*ops_, GetParam());
    for (const std::int64_t hundredths : {100, 50, 93, 3, 0, 70}) {
      std::vector<std::int8_t> deltas(static_cast<std::size_t>(rows * stride), 77);
      std::vector<std::uint8_t> states(deltas.size(), 1);
      for (std::int64_t r = 0; r < rows; ++r) {
        const bool all = numbers.below(100) < hundredths;
        const std::int64_t only = numbers.below(4 * receiving);  // or one unit, or none
        for (std::int64_t i = 0; i < receiving; ++i) {
          deltas[static_cast<std::size_t>(r * stride + i)] =
              all || i == only ? static_cast<std::int8_t>(numbers.below(255) - 127) : std::int8_t{0};
        }
        for (std::int64_t j = 0; j < sending; ++j)
          states[static_cast<std::size_t>(r * stride + j)] = static_cast<std::uint8_t>(numbers.below(2));
      }
      const ConstDeltas d{deltas.data(), rows, receiving, stride};
      const ConstStates s{states.data(), rows, sending, stride};
      SCOPED_TRACE(std::to_string(hundredths) + " % of the rows with errors");
      expect_gradient(products, d, s, 16);
    }
  }
}

// Rows that follow each other without padding, up to the last byte of an allocation that is a multiple of
// 256: what AddressSanitizer looks at.
TEST_P(RouteTest, RowsThatEndWithTheirMemoryAreReadNoFurther) {
  for (const std::int64_t sending : {1, 5, 30, 33, 127}) {
    for (const int bits : {8, 12, 16}) {
      const std::int64_t rows = 256, receiving = 3;
      Buffer<std::uint8_t> states(*ops_, rows * sending);
      std::fill_n(states.data(), states.size(), std::uint8_t{1});
      CpuWeights weights(*ops_, GetParam(), receiving, sending, bits);
      const std::vector<float> row(static_cast<std::size_t>(sending), 100.0f);
      for (std::int64_t i = 0; i < receiving; ++i) {
        weights.quantize_row(row_kernels(CpuInstructions::baseline), i, row.data(), 0);
      }
      Products products(*ops_, GetParam());
      products.reserve_forward(weights, rows, sending);
      const std::int32_t* sums = products.forward(weights, {states.data(), rows, sending, sending});
      for (std::int64_t r = 0; r < rows; ++r) {
        const std::int32_t* sum = sums + r * weights.limbs * receiving + 2;
        ASSERT_EQ(weights.limbs == 2 ? join_limbs(sum[0], sum[receiving]) : sum[0], 100 * sending)
            << bits << " bits, row " << r;
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
                         ::testing::Values(CpuRoute::avx2, CpuRoute::int8, CpuRoute::float32,
                                           CpuRoute::reference),
                         [](const auto& instance) {
                           return instance.param == CpuRoute::avx2      ? "avx2"
                                  : instance.param == CpuRoute::int8    ? "int8"
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
