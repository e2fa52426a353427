// Gaussian visible units and fixed-point states: draws and densities against double precision, operations
// against naive versions, updates and estimates against exact expectations by enumeration.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "backends.hpp"
#include "reference/mean_updates.hpp"
#include "reference/naive_machine.hpp"
#include "reference/normal_errors.hpp"
#include "reference/small_machines.hpp"
#include "reference/test_operands.hpp"
#include "refusals.hpp"
#include "temporary_folder.hpp"
#include "trainings.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/evaluate.hpp"
#include "wakesleep/generate.hpp"
#include "wakesleep/memory_plan.hpp"
#include "wakesleep/partition.hpp"

namespace wakesleep {
namespace {

using ::testing::AllOf;
using testing::awkward_sizes;
using testing::Bits;
using ::testing::HasSubstr;
using testing::message_of;
using testing::Size;
using testing::TestConditional;
using testing::TestStates;
using testing::to_device;
using testing::to_host;
using testing::word_at;
using Sizes = std::vector<std::int64_t>;

// ------------------------------------------------------------------------------------ formulas

TEST(StandardNormal, MeetsTheInverseOfTheDistributionFunction) {
  for (const reference::NormalRange& range : reference::normal_ranges()) {
    EXPECT_LE(reference::largest_normal_error(range, 2000).error, range.bound) << range.name;
  }
}

TEST(StandardNormal, KnownAnswers) {  // from the quantile function of Python's statistics module
  EXPECT_NEAR(standard_normal(0x80000000u), 2.9180994e-10, 1e-16);
  EXPECT_NEAR(standard_normal(0xC0000000u), 0.6744897506, 2e-7);
  EXPECT_NEAR(standard_normal(0x40000000u), -0.6744897498, 2e-7);
  EXPECT_NEAR(standard_normal(0xF9999999u), 1.9599639841, 4e-7);
  EXPECT_NEAR(standard_normal(0x00000000u), -6.3379577, 4e-3);
}

TEST(StandardNormal, IsSymmetricToTheLastBit) {
  for (std::uint32_t i = 0; i < 100000; ++i) {
    const std::uint32_t word = word_at(i, 0, 0, 77, 0, 5);
    ASSERT_EQ(float_bits(standard_normal(word)), float_bits(-standard_normal(~word))) << word;
  }
}

TEST(StandardNormal, IsMonotone) {  // over steps that exceed a rounding error
  float before = standard_normal(0);
  for (std::uint32_t tail = 1; tail < 0x7FFFFFFFu - (tail >> 12) - 1; tail += (tail >> 12) + 1) {
    const float now = standard_normal(tail);
    ASSERT_GE(now, before - 1e-6f) << tail;
    before = std::max(before, now);
  }
  EXPECT_LT(standard_normal(0x7FFFFFFFu), 0.0f);
  EXPECT_GT(standard_normal(0x80000000u), 0.0f);
}

// The first four moments and the frequency beyond 3 deviations within 6 standard errors: a false alarm in
// 5 x 2e-9 = 1e-8 of all seeds, and the seed is fixed.
TEST(StandardNormal, MomentsAndTails) {
  constexpr int count = 1 << 21;
  double sums[5] = {};
  int beyond_three = 0;
  for (std::uint32_t i = 0; i < count / 4; ++i) {
    const PhiloxBlock block = philox4x32_10({{i, 0, 0, 0}}, 99);
    for (const std::uint32_t word : block.word) {
      const double n = standard_normal(word);
      sums[1] += n;
      sums[2] += n * n;
      sums[3] += n * n * n;
      sums[4] += n * n * n * n;
      beyond_three += std::fabs(n) > 3 ? 1 : 0;
    }
  }
  const double moments[5] = {1, 0, 1, 0, 3};
  const double variances[5] = {0, 1, 2, 15, 96};
  for (int k = 1; k <= 4; ++k) {
    EXPECT_LT(std::fabs(sums[k] / count - moments[k]), 6 * std::sqrt(variances[k] / count)) << k;
  }
  const double beyond = std::erfc(3 / std::sqrt(2.0));
  EXPECT_LT(std::fabs(beyond_three / double{count} - beyond), 6 * std::sqrt(beyond / count));
}

TEST(FixedPoint, GreyValuesGoToTheNearestState) {
  for (std::uint32_t grey = 0; grey <= 255; ++grey) {
    EXPECT_EQ(fixed_point_of_grey(grey), std::lround(127.0 * grey / 255)) << grey;
  }
  EXPECT_EQ(value_of_state(127, 127), 1.0f);
  EXPECT_EQ(value_of_state(1, 1), 1.0f);
}

TEST(FixedPoint, LimitsLeaveNoRoomForOverflow) {
  for (const auto& [bits, units] : {std::pair{8, 133144}, {12, 8260}, {16, 518}}) {
    const std::int64_t largest = std::int64_t{127} * largest_integer_weight(bits);
    EXPECT_LE(units * largest, max_integer_sum);
    EXPECT_GT((units + 1) * largest, max_integer_sum);
  }
  EXPECT_LE(max_fixed_point_rows * 127 * 127, max_integer_sum);
}

TEST(LogGaussian, IsTheRoundedLogDensity) {
  for (const double deviation : {1.0 / 32, 0.05, 0.1, 0.5, 1.0}) {
    const float sigma = static_cast<float>(deviation);
    const GaussianDensity density = gaussian_density(sigma);
    for (int u = 0; u <= 127; ++u) {
      for (const float mean : {-3.0f, -0.1f, 0.0f, 0.3f, 0.5f, 0.99f, 1.0f, 1.7f, 1e9f}) {
        const double z = (u / 127.0 - double{mean}) / double{sigma};
        const double nats =
            std::max(-1024.0, -0.5 * z * z - std::log(double{sigma}) - 0.5 * std::log(2 * std::acos(-1.0)));
        const double found = log_gaussian(static_cast<std::uint32_t>(u), mean, density) * nats_per_log_unit;
        // An error of 2^-24 in x - mean, and a few roundings of the result.
        const double bound = std::fabs(z) / deviation * (6e-8 * std::max(1.0, std::fabs(double{mean}))) +
                             4e-7 * std::fabs(nats) + 2e-6;
        EXPECT_NEAR(found, nats, bound) << u << " at " << mean << ", deviation " << deviation;
      }
    }
  }
  // At the least deviation white lies far enough above the floor where black was expected.
  EXPECT_GT(log_gaussian(127, 0.0f, gaussian_density(0.03125f)), -(512 << 20));
  const GaussianDensity density = gaussian_density(0.1f);
  EXPECT_EQ(log_gaussian(0, infinity, density), -1073741824);
  EXPECT_EQ(log_gaussian(0, not_a_number, density), -1073741824);
}

TEST(ValueMinusMean, IsBounded) {
  EXPECT_EQ(value_minus_mean(127, 0.25f), 0.75f);
  EXPECT_EQ(value_minus_mean(0, 3.0f), -1.0f);
  EXPECT_EQ(value_minus_mean(0, -infinity), 1.0f);
  EXPECT_EQ(value_minus_mean(0, not_a_number), -1.0f);
}

TEST(ClipFactor, ComparesWeightsAndBiasesInTheirUnits) {
  const GradientUnits units = gradient_units(127, 0.0f);
  EXPECT_EQ(units.bias, 1.0f);
  EXPECT_FLOAT_EQ(clip_factor(1270, 4, units, 0.5f, 1.0f), 0.2f);  // 5 and 2
  EXPECT_FLOAT_EQ(clip_factor(127, 4, units, 0.5f, 1.0f), 0.5f);   // 0.5 and 2
  EXPECT_EQ(clip_factor(127, 1, units, 0.5f, 1.0f), 1.0f);
  const GradientUnits gaussian = gradient_units(1, 0.5f);
  EXPECT_FLOAT_EQ(clip_factor(3, 2, gaussian, 0.5f, 1.0f), 1.0f / 6);
}

// ------------------------------------------------------------------------------------ operations

class GaussianTest : public testing::BackendTest {
 protected:
  static constexpr float deviation = 0.25f;

  /// Of a unit that lies z deviations from its mean.
  static double log_density(double z) {
    const double nats = -0.5 * z * z - std::log(double{deviation}) - 0.5 * std::log(2 * std::acos(-1.0));
    return std::max(nats, -1024.0);
  }

  static TestConditional gaussian(Ops& ops, std::int64_t receiving, std::int64_t sending, int bits) {
    TestConditional c(ops, receiving, sending, bits, 1.0);
    c.view.deviation = deviation;
    return c;
  }

  Tensors change_in_one_step(const Tensors& before, const Sizes& sizes, TrainingSettings settings,
                             const DataSet& data) {
    return testing::change_in_one_step(ops(), before, sizes, std::move(settings), data);
  }
};

/// Rows of grey values that give these states.
DataSet grey_data(const std::vector<Bits>& rows) {
  DataSet data;
  data.rows = static_cast<std::int64_t>(rows.size());
  data.units = data.row_bytes = static_cast<std::int64_t>(rows.at(0).size());
  data.grey = true;
  data.source = "test rows";
  for (const Bits& row : rows) {
    for (const std::uint8_t state : row) {
      data.bytes.push_back(static_cast<std::uint8_t>(std::lround(state * 255.0 / 127)));
    }
  }
  return data;
}

std::vector<Bits> fixed_point_rows(std::size_t rows, std::int64_t units, std::uint32_t seed) {
  std::vector<Bits> result(rows);
  for (std::uint32_t r = 0; r < rows; ++r) {
    for (std::uint32_t u = 0; u < units; ++u) {
      result[r].push_back(static_cast<std::uint8_t>(word_at(u, r, seed, 4, 0, 6) % 128));
    }
  }
  return result;
}

TEST_P(GaussianTest, GatherReadsGreyValuesAndBitsAsFixedPoint) {
  for (const std::int64_t units : {1, 7, 31, 33, 200}) {
    const std::int64_t rows = 5;
    const DataSet grey = testing::grey_rows(rows, units);
    const DataSet bits = binarize(grey, Binarization::threshold, 128, 1);
    const auto order = to_device(ops(), std::vector<std::uint32_t>{9, 3, 0, 4, 1});
    const auto first = to_device(ops(), std::vector<std::uint32_t>{1});
    for (const DataSet* data : {&grey, &bits}) {
      const DeviceData on_device(ops(), *data);
      DataRows read = on_device.rows();
      read.fixed_point = true;
      TestStates states(ops(), 4, units, 1);
      ops().gather(read, order.data(), first.data(), {}, states.view());
      const auto found = to_host(states.buffer);
      const std::int64_t expected_rows[] = {3, 0, 4, 1};
      for (std::int64_t r = 0; r < 4; ++r) {
        for (std::int64_t u = 0; u < units; ++u) {
          const std::uint8_t value = grey.row(expected_rows[r])[u];
          const long expected = data->grey ? std::lround(127.0 * value / 255) : (value >= 128 ? 127 : 0);
          ASSERT_EQ(found[static_cast<std::size_t>(r * padded_units(units) + u)], expected) << r << ", " << u;
        }
      }
    }
  }
}

TEST_P(GaussianTest, SampleDrawsByTheInverseDistributionFunction) {
  std::int64_t undecided = 0;
  for (const int bits : {16, 8}) {
    for (const Size& size : awkward_sizes) {
      const std::int64_t samples = 3;
      const TestConditional c = gaussian(ops(), size.receiving, size.sending, bits);
      const TestStates input(ops(), size.rows, size.sending, 1);
      const TestStates output(ops(), size.rows * samples, size.receiving, 2);
      auto scores = to_device(ops(), std::vector<std::int64_t>(static_cast<std::size_t>(output.rows), 1000));
      auto total = to_device(ops(), std::vector<std::int64_t>{5});
      const Draw draw{77, Domain::sleep_sample, 0, 10, 3, nullptr, SampleAddress::row};
      ops().sample(c.view, input.view(), draw, samples, output.view(), {scores.data(), -1, total.data()});
      const auto found = to_host(output.buffer);
      const auto scored = to_host(scores);
      std::int64_t all = 0;
      for (std::int64_t r = 0; r < output.rows; ++r) {
        double log_p = 0;
        for (std::int64_t u = 0; u < size.receiving; ++u) {
          const double mean = c.logit(u, input.row(r / samples));
          const std::uint32_t word =
              word_at(static_cast<std::uint32_t>(u / 4), static_cast<std::uint32_t>(10 + r), 3,
                      domain_word(Domain::sleep_sample, 0), static_cast<int>(u % 4), 77);
          const double x = std::clamp(127 * (mean + deviation * reference::exact_normal(word)), 0.0, 127.0);
          const int state = found[static_cast<std::size_t>(r * padded_units(size.receiving) + u)];
          ASSERT_LE(std::fabs(state - x), 0.5 + 5e-4) << "row " << r << " unit " << u;
          if (std::fabs(state - x) > 0.5 - 5e-4) ++undecided;
          const double z = (state / 127.0 - mean) / deviation;
          log_p += log_density(z);
        }
        const std::int64_t score = 1000 - scored[static_cast<std::size_t>(r)];
        EXPECT_NEAR(static_cast<double>(score) * nats_per_log_unit, log_p,
                    2e-5 * static_cast<double>(size.receiving) - 1e-6 * std::min(log_p, 0.0));
        all += score;
      }
      EXPECT_EQ(to_host(total)[0] - 5, all);
    }
  }
  EXPECT_LT(undecided, 60);  // of about 25,000
}

TEST_P(GaussianTest, DeltaRoundsTheBoundedError) {
  for (const Size& size : awkward_sizes) {
    const TestConditional c = gaussian(ops(), size.receiving, size.sending, 16);
    const TestStates input(ops(), size.rows, size.sending, 1);
    const TestStates target(ops(), size.rows, size.receiving, 3, 127);
    const std::size_t count = static_cast<std::size_t>(size.rows * padded_units(size.receiving));
    auto deltas = to_device(ops(), std::vector<std::int8_t>(count, 99));
    const Draw draw{78, Domain::wake_generative_rounding, 0, 0, 9};
    SampleWeights weights;
    weights.scale = 0.5f;
    ops().delta(c.view, input.view(), target.view(), draw,
                {deltas.data(), size.rows, size.receiving, padded_units(size.receiving)}, weights);
    const auto found = to_host(deltas);
    for (std::int64_t r = 0; r < size.rows; ++r) {
      for (std::int64_t u = 0; u < size.receiving; ++u) {
        const double error =
            std::clamp(target.row(r)[u] / 127.0 - c.logit(u, input.row(r)), -1.0, 1.0) * 127 * 0.5;
        const std::uint32_t word =
            word_at(static_cast<std::uint32_t>(u / 8), static_cast<std::uint32_t>(r), 9,
                    domain_word(Domain::wake_generative_rounding, 0), static_cast<int>(u % 8 / 2), 78);
        const double threshold = (u % 2 == 0 ? word & 0xFFFF : word >> 16) / 65536.0;
        const double exact = error + threshold;
        const int delta = found[static_cast<std::size_t>(r * padded_units(size.receiving) + u)];
        ASSERT_LE(delta, exact + 1e-4);
        ASSERT_GT(delta, exact - 1 - 1e-4);
      }
    }
  }
}

TEST_P(GaussianTest, ScoreGivesDensitiesAndErrors) {
  for (const Size& size : awkward_sizes) {
    const std::int64_t rows_a_target = 2;
    const TestConditional c = gaussian(ops(), size.receiving, size.sending, 12);
    const TestStates input(ops(), size.rows * rows_a_target, size.sending, 1);
    const TestStates target(ops(), size.rows, size.receiving, 3, 127);
    auto scores = to_device(ops(), std::vector<std::int64_t>(static_cast<std::size_t>(input.rows)));
    auto errors = Buffer<float>(ops(), input.rows * size.receiving);
    ops().score(c.view, input.view(), target.view(), {scores.data(), 1, nullptr},
                {errors.data(), input.rows, size.receiving, size.receiving});
    const auto scored = to_host(scores);
    const auto found = to_host(errors);
    for (std::int64_t r = 0; r < input.rows; ++r) {
      double log_p = 0;
      for (std::int64_t u = 0; u < size.receiving; ++u) {
        const double difference = target.row(r / rows_a_target)[u] / 127.0 - c.logit(u, input.row(r));
        const double z = difference / deviation;
        log_p += log_density(z);
        ASSERT_NEAR(found[static_cast<std::size_t>(r * size.receiving + u)],
                    std::clamp(difference, -1.0, 1.0), 2e-6);
      }
      EXPECT_NEAR(static_cast<double>(scored[static_cast<std::size_t>(r)]) * nats_per_log_unit, log_p,
                  2e-5 * static_cast<double>(size.receiving) - 1e-6 * std::min(log_p, 0.0));
    }
  }
}

TEST_P(GaussianTest, ProbabilitiesAreMeansWithinTheRange) {
  for (const Size& size : awkward_sizes) {
    const TestConditional c = gaussian(ops(), size.receiving, size.sending, 16);
    const TestStates input(ops(), size.rows, size.sending, 1);
    Buffer<float> means(ops(), size.rows * size.receiving);
    ops().probabilities(c.view, input.view(), {means.data(), size.rows, size.receiving, size.receiving});
    const auto found = to_host(means);
    for (std::int64_t r = 0; r < size.rows; ++r) {
      for (std::int64_t u = 0; u < size.receiving; ++u) {
        ASSERT_NEAR(found[static_cast<std::size_t>(r * size.receiving + u)],
                    std::clamp(c.logit(u, input.row(r)), 0.0, 1.0), 2e-6);
      }
    }
  }
}

TEST_P(GaussianTest, FixedPointInputsArePartsOf127) {
  for (const int bits : {16, 12, 8}) {
    for (const Size& size : awkward_sizes) {
      const TestConditional c(ops(), size.receiving, size.sending, bits, 2.0, 127);
      const TestStates input(ops(), size.rows, size.sending, 1, 127);
      Buffer<float> probabilities(ops(), size.rows * size.receiving);
      ops().probabilities(c.view, input.view(),
                          {probabilities.data(), size.rows, size.receiving, size.receiving});
      const auto found = to_host(probabilities);
      for (std::int64_t r = 0; r < size.rows; ++r) {
        for (std::int64_t u = 0; u < size.receiving; ++u) {
          ASSERT_NEAR(found[static_cast<std::size_t>(r * size.receiving + u)],
                      1 / (1 + std::exp(-c.logit(u, input.row(r)))), 3e-6)
              << bits << " bits";
        }
      }
    }
  }
}

// At the largest width that exact sums allow, all states and weights at their limits, against sums in 64
// bits; where a route allows fewer units, it says so. The logit is read as the error of a state 0 with
// deviation 1.
TEST_P(GaussianTest, TheWidestLayersAreExactOrRefused) {
  constexpr std::int32_t shift = 26;  // every |logit| is below 1/2
  for (const auto& [bits, units] : {std::pair<int, std::int64_t>{8, 133144}, {12, 8260}, {16, 518}}) {
    const std::int64_t limit = largest_integer_weight(bits);
    // Of unit 0 all at the limit, of 1 at the other, of 2 in turn, so that its sums are small.
    const auto weight = [limit = limit](std::int64_t i, std::int64_t j) {
      return i == 0 ? limit : i == 1 ? -limit : j % 2 == 0 ? limit : -limit;
    };
    std::vector<float> weights;
    for (std::int64_t i = 0; i < 3; ++i) {
      for (std::int64_t j = 0; j < units; ++j) {
        weights.push_back(static_cast<float>(weight(i, j)) * power_of_two(-shift));
      }
    }
    auto weight_buffer = to_device(ops(), weights);
    auto bias = to_device(ops(), std::vector<float>(3, 0.0f));
    Conditional c;
    c.weight = {weight_buffer.data(), 3, units, units};
    c.bias = bias.data();
    c.receiving = 3;
    c.sending = units;
    c.largest_input = 127;
    c.deviation = 1;
    std::unique_ptr<IntegerWeights> integers;
    try {
      integers = ops().make_integer_weights(3, units, bits, 127);
    } catch (const UsageError& error) {
      EXPECT_THAT(error.what(), AllOf(HasSubstr("too wide for exact sums"), HasSubstr("at most")));
      continue;
    }
    c.integers = integers.get();
    ops().quantize(c, nullptr, nullptr);
    const TestStates input(ops(), 2, units, 1, 0);
    std::vector<std::uint8_t> states(input.host.size(), 0);
    const auto state = [](std::int64_t r, std::int64_t j) { return r == 0 ? 127 : j % 3 == 0 ? j % 128 : 0; };
    for (std::int64_t r = 0; r < 2; ++r) {
      for (std::int64_t j = 0; j < units; ++j) {
        states[static_cast<std::size_t>(r * padded_units(units) + j)] =
            static_cast<std::uint8_t>(state(r, j));
      }
    }
    ops().copy_in(input.buffer.data(), states.data(), states.size());
    auto errors = Buffer<float>(ops(), 2 * 3);
    const TestStates target(ops(), 2, 3, 1, 0);
    ops().score(c, input.view(), target.view(), {}, {errors.data(), 2, 3, 3});
    const auto found = to_host(errors);
    for (std::int64_t r = 0; r < 2; ++r) {
      for (std::int64_t i = 0; i < 3; ++i) {
        std::int64_t sum = 0;
        for (std::int64_t j = 0; j < units; ++j) sum += weight(i, j) * state(r, j);
        ASSERT_LE(std::abs(sum), max_integer_sum);
        EXPECT_EQ(found[static_cast<std::size_t>(3 * r + i)],
                  0.0f - static_cast<float>(sum) * scale_of_sum(shift, 127))
            << bits << " bits, row " << r << ", unit " << i;
      }
    }
  }
}

TEST_P(GaussianTest, GradientOfFixedPointStatesIsTheExactSum) {
  std::vector<Size> sizes = awkward_sizes;
  sizes.push_back({518, 5, 3});
  sizes.push_back({519, 5, 3});
  sizes.push_back({1073, 33, 17});
  sizes.push_back({max_fixed_point_rows, 2, 2});
  for (const Size& size : sizes) {
    TestStates states(ops(), size.rows, size.sending, 4, 127);
    std::vector<std::int8_t> errors(static_cast<std::size_t>(size.rows * padded_units(size.receiving)), 99);
    for (std::int64_t r = 0; r < size.rows; ++r) {
      states.host[static_cast<std::size_t>(r * padded_units(size.sending))] = 127;  // unit 0 at its limit
      for (std::int64_t i = 0; i < size.receiving; ++i) {
        const auto random = static_cast<int>(
            word_at(static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(r), 0, 1, 0, 2) % 255);
        errors[static_cast<std::size_t>(r * padded_units(size.receiving) + i)] =
            static_cast<std::int8_t>(i == 0   ? 127
                                     : i == 1 ? -127
                                              : random - 127);
      }
    }
    states.buffer.copy_in(states.host.data());
    auto deltas = to_device(ops(), errors);
    auto gradient = to_device(
        ops(), std::vector<std::int32_t>(static_cast<std::size_t>(size.receiving * size.sending), -1));
    ops().gradient({deltas.data(), size.rows, size.receiving, padded_units(size.receiving)}, states.view(),
                   gradient.data(), nullptr, 127);
    const auto found = to_host(gradient);
    for (std::int64_t i = 0; i < size.receiving; ++i) {
      for (std::int64_t j = 0; j < size.sending; ++j) {
        std::int64_t sum = 0;
        for (std::int64_t r = 0; r < size.rows; ++r) {
          sum += std::int64_t{errors[static_cast<std::size_t>(r * padded_units(size.receiving) + i)]} *
                 states.row(r)[j];
        }
        ASSERT_EQ(found[static_cast<std::size_t>(i * size.sending + j)], sum)
            << i << ", " << j << " over " << size.rows << " rows";
      }
    }
  }
}

TEST_P(GaussianTest, UpdateAndClipCountGradientsInTheirUnits) {
  const std::int64_t receiving = 19, sending = 37;
  for (const bool of_recognition : {true, false}) {
    for (const float limit : {0.0f, 0.5f}) {
      TestConditional c(ops(), receiving, sending, 16, 2.0, of_recognition ? 127 : 1);
      if (!of_recognition) c.view.deviation = deviation;
      const double bias_unit = of_recognition ? 1.0 : 16.0;
      const double weight_unit = of_recognition ? 1.0 / 127 : 16.0;
      std::vector<std::int32_t> g(c.weights.size()), gb(c.biases.size());
      for (std::size_t i = 0; i < g.size(); ++i) g[i] = static_cast<std::int32_t>(i * 37 % 1001) - 500;
      for (std::size_t i = 0; i < gb.size(); ++i) gb[i] = static_cast<std::int32_t>(i) * 7 - 50;
      const auto gradient = to_device(ops(), g);
      const auto bias_gradient = to_device(ops(), gb);
      Rates rates;
      rates.rate = 0.5f;
      rates.mean = 1.0f / 127;
      auto device_rates = to_device(ops(), std::vector<Rates>{rates});
      Buffer<Rates> clipped(ops(), 1);
      double factor = 1;
      if (limit > 0) {
        ops().clip(c.view, gradient.data(), bias_gradient.data(), limit, device_rates.data(), clipped.data());
        const double largest = std::max(500 * weight_unit, 76 * bias_unit) / 127;
        factor = std::min(1.0, static_cast<double>(limit) / largest);
        EXPECT_NEAR(to_host(clipped)[0].mean * 127, factor, 1e-6);
        EXPECT_LT(factor, 1);
      }
      ops().update(c.view, {}, {}, limit > 0 ? clipped.data() : device_rates.data(), gradient.data(),
                   bias_gradient.data(), nullptr, nullptr);
      const auto weights = to_host(c.weight_buffer);
      const auto biases = to_host(c.bias_buffer);
      for (std::size_t i = 0; i < g.size(); ++i) {
        ASSERT_NEAR(weights[i] - c.weights[i], 0.5 * factor * weight_unit * g[i] / 127, 3e-6) << i;
      }
      for (std::size_t i = 0; i < gb.size(); ++i) {
        ASSERT_NEAR(biases[i] - c.biases[i], 0.5 * factor * bias_unit * gb[i] / 127, 3e-6) << i;
      }
    }
  }
}

TEST_P(GaussianTest, WhatGaussianUnitsDoNotHaveIsRefused) {
  TestConditional c = gaussian(ops(), 5, 3, 16);
  const TestStates input(ops(), 2, 3, 1);
  const TestStates output(ops(), 2, 5, 2, 127);
  Buffer<float> kept(ops(), 10);
  const Matrix<float> logits{kept.data(), 2, 5, 5};
  EXPECT_THROW(ops().sample(c.view, input.view(), {}, 1, output.view(), {}, logits), InternalError);
  Buffer<std::int8_t> deltas(ops(), 2 * 64);
  EXPECT_THROW(
      ops().delta(c.view, {}, output.view(), {}, {deltas.data(), 2, 5, 64}, {}, Matrix<const float>(logits)),
      InternalError);
  Buffer<float> natural(ops(), 20);
  Buffer<std::int32_t> gradient(ops(), 20);
  Buffer<Rates> rates(ops(), 1);
  EXPECT_THROW(ops().natural_gradient(c.view, {}, rates.data(), gradient.data(), gradient.data(),
                                      natural.data(), natural.data()),
               InternalError);
  const TestStates targets(ops(), 4, 5, 2, 127);
  auto relative = to_device(ops(), std::vector<std::int32_t>(4, 1));
  auto totals = to_device(ops(), std::vector<std::int64_t>(2, 2));
  SampleWeights shared;
  shared.relative = relative.data();
  shared.total = totals.data();
  shared.samples = 2;
  EXPECT_THROW(ops().delta(c.view, input.view(), targets.view(), {}, {deltas.data(), 2, 5, 64}, shared),
               InternalError);
}

TEST_P(GaussianTest, IntegersForOtherStatesAreRefused) {
  TestConditional c = gaussian(ops(), 5, 3, 16);
  c.view.largest_input = 127;
  const TestStates input(ops(), 2, 3, 1, 127);
  const TestStates target(ops(), 2, 5, 2, 127);
  EXPECT_THROW(ops().score(c.view, input.view(), target.view(), {}), InternalError);
}

// ------------------------------------------------------------------------------------ exact expectations

constexpr std::int64_t images = 60000;
const VisibleUnits units_of_test = {Visible::gaussian, 0.3f};

TrainingSettings gradient_settings(Algorithm algorithm, const Sizes& sizes) {
  TrainingSettings settings = testing::gradient_settings(algorithm, sizes, 2031);
  settings.visible = Visible::gaussian;
  settings.visible_deviation = 0.3;
  return settings;
}

std::vector<Bits> repeated(const std::vector<Bits>& kinds) {
  std::vector<Bits> rows;
  for (std::int64_t r = 0; r < images; ++r) rows.push_back(kinds[static_cast<std::size_t>(r) % kinds.size()]);
  return rows;
}

void expect_mean(const Tensors& change, const testing::ExpectedUpdates& expected, bool recognition,
                 int roundings) {
  testing::expect_mean(change, expected, recognition, roundings * testing::rounding_variance, images,
                       1 / (0.3 * 0.3));
}

// |z| < 6 for each of fewer than 50 parameters: a false alarm in 1e-7 of all seeds; the seed is fixed.
TEST_P(GaussianTest, MeanWakeUpdateIsItsExpectation) {
  const Sizes sizes = {3, 2, 2};
  const Tensors before = testing::random_tensors(sizes, 1.0f, 41);
  const std::vector<Bits> kinds = fixed_point_rows(5, sizes[0], 1);
  TrainingSettings settings = gradient_settings(Algorithm::wake_sleep, sizes);
  settings.recognition_learning_rate = testing::no_learning;
  const Tensors change = change_in_one_step(before, sizes, settings, grey_data(repeated(kinds)));
  expect_mean(change, testing::NaiveMachine(before, 16, units_of_test).expected_wake(kinds), false, 1);
}

// Over all 128^2 visible states that a dream may have.
TEST_P(GaussianTest, MeanSleepUpdateIsItsExpectation) {
  const Sizes sizes = {2, 2, 2};
  const Tensors before = testing::random_tensors(sizes, 1.0f, 42);
  TrainingSettings settings = gradient_settings(Algorithm::wake_sleep, sizes);
  settings.generative_learning_rate = testing::no_learning;
  const Tensors change =
      change_in_one_step(before, sizes, settings, grey_data(repeated(fixed_point_rows(1, sizes[0], 2))));
  static const testing::ExpectedUpdates expected =
      testing::NaiveMachine(before, 16, units_of_test).expected_sleep();
  expect_mean(change, expected, true, 1);
}

TEST_P(GaussianTest, MeanReweightedUpdateIsItsExpectation) {
  const Sizes sizes = {3, 2, 2};
  const Tensors before = testing::random_tensors(sizes, 1.0f, 43);
  const std::vector<Bits> kinds = fixed_point_rows(3, sizes[0], 3);
  TrainingSettings settings = gradient_settings(Algorithm::reweighted_wake_sleep, sizes);
  settings.samples = 2;
  settings.insomnia = 1;
  const Tensors change = change_in_one_step(before, sizes, settings, grey_data(repeated(kinds)));
  const testing::ExpectedUpdates expected =
      testing::NaiveMachine(before, 16, units_of_test).expected_reweighted(kinds, 2, false);
  expect_mean(change, expected, false, 2);
  expect_mean(change, expected, true, 2);
}

TEST_P(GaussianTest, TheEstimateMeetsTheExactLogDensity) {
  const Sizes sizes = {7, 3, 2};
  const std::int64_t samples = 2048;
  const std::vector<Bits> rows = fixed_point_rows(20, sizes[0], 5);
  const DataSet data = grey_data(rows);
  for (const int bits : {16, 8}) {
    const Tensors tensors = testing::random_tensors(sizes, 0.7f, 44);
    const Machine machine = testing::machine_of(ops(), sizes, tensors, bits, units_of_test);
    const testing::NaiveMachine naive(tensors, bits, units_of_test);
    const std::vector<double> exact = exact_log_likelihood(machine, data);
    double mean = 0, variance = 0, bound = 0, bound_variance = 0;
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const double log_p = naive.log_likelihood(rows[r]);
      ASSERT_NEAR(exact[r], log_p, 1e-9 * std::fabs(log_p) + 1e-9);
      mean += log_p;
      const double lower = naive.bound(rows[r]);
      bound += lower;
      variance += naive.expectation_under_recognition(rows[r], [&](const testing::Configuration& h) {
        return std::exp(2 * (naive.log_weight(h) - log_p));
      }) - 1;
      bound_variance += naive.expectation_under_recognition(rows[r], [&](const testing::Configuration& h) {
        return (naive.log_weight(h) - lower) * (naive.log_weight(h) - lower);
      });
    }
    EvaluationSettings settings;
    settings.samples = samples;
    const Evaluation evaluation = evaluate(machine, data, settings);
    const double count = static_cast<double>(rows.size());
    const double draws = static_cast<double>(samples);
    // To first order; the bias of the logarithm is half a row's variance over K.
    EXPECT_NEAR(evaluation.log_likelihood, mean / count,
                6 * std::sqrt(variance / draws) / count + variance / draws / count + 1e-4);
    EXPECT_NEAR(evaluation.bound, bound / count, 6 * std::sqrt(bound_variance / draws) / count + 1e-4);
  }
}

TEST_P(GaussianTest, BitsAreTheValuesZeroAndOne) {
  const Sizes sizes = {9, 4, 3};
  const Tensors tensors = testing::random_tensors(sizes, 0.7f, 45);
  const Machine machine = testing::machine_of(ops(), sizes, tensors, 8, units_of_test);
  std::vector<Bits> rows = testing::random_rows(11, sizes[0], 46);
  const DataSet bits = testing::data_set_of(rows);
  for (Bits& row : rows) {
    for (std::uint8_t& state : row) state = static_cast<std::uint8_t>(127 * state);
  }
  const DataSet grey = grey_data(rows);
  EXPECT_EQ(evaluate(machine, bits, {}).log_likelihood, evaluate(machine, grey, {}).log_likelihood);
  EXPECT_EQ(exact_log_likelihood(machine, bits), exact_log_likelihood(machine, grey));
  EXPECT_EQ(reconstruct(machine, bits, 3), reconstruct(machine, grey, 3));
}

TEST_P(GaussianTest, DreamsAreMeansOfTheLowestHiddenStates) {
  const Sizes sizes = {5, 2};
  const Tensors tensors = testing::random_tensors(sizes, 1.0f, 47);
  const Machine machine = testing::machine_of(ops(), sizes, tensors, 16, units_of_test);
  const testing::NaiveMachine naive(tensors, 16, units_of_test);
  const std::vector<float> means = dream(machine, 50, 4);
  for (std::size_t r = 0; r < 50; ++r) {
    double nearest = 1e9;
    for (std::uint64_t h = 0; h < 4; ++h) {
      const std::vector<double> expected = naive.generative[0].logits(testing::bits_of(h, 2));
      double farthest = 0;
      for (std::size_t i = 0; i < 5; ++i) {
        const double value = std::clamp(expected[i], 0.0, 1.0);
        farthest = std::max(farthest, std::fabs(double{means[5 * r + i]} - value));
      }
      nearest = std::min(nearest, farthest);
    }
    EXPECT_LT(nearest, 1e-5) << r;
  }
}

// ------------------------------------------------------------------------------------ training

TrainingSettings small_settings(Algorithm algorithm) {
  TrainingSettings settings;
  settings.algorithm = algorithm;
  settings.layers = {9, 6};
  settings.batch_size = 8;
  settings.epochs = 3;
  settings.samples = algorithm == Algorithm::wake_sleep ? 1 : 3;
  settings.visible = Visible::gaussian;
  return settings;
}

TEST_P(GaussianTest, EveryAlgorithmThatTakesThemTrainsResumesAndAllocatesOnce) {
  const DataSet data = testing::grey_rows(30, 21);
  for (const Algorithm algorithm :
       {Algorithm::wake_sleep, Algorithm::sparse_wake_sleep, Algorithm::reweighted_wake_sleep,
        Algorithm::vimco, Algorithm::joint_stochastic_approximation}) {
    const TrainingSettings settings = small_settings(algorithm);
    Trainer trainer(ops(), data, settings);
    trainer.run_epoch([] { return true; });
    const std::size_t allocations = ops().memory_use().allocations;
    while (!trainer.finished()) trainer.run_epoch();
    EXPECT_EQ(ops().memory_use().allocations, allocations) << name_of(algorithm);
    Trainer first(ops(), data, settings);
    first.run_steps(5);
    Trainer second(ops(), data, first.snapshot());
    while (!second.finished()) second.run_epoch();
    EXPECT_EQ(hash_of(second.machine().download()), hash_of(trainer.machine().download()))
        << name_of(algorithm);
  }
}

TEST_P(GaussianTest, TheLogDensityOfTrainedDataRises) {
  const DataSet data = testing::grey_rows(200, 36);
  TrainingSettings settings = small_settings(Algorithm::wake_sleep);
  settings.epochs = 60;
  settings.batch_size = 20;
  settings.generative_learning_rate = settings.recognition_learning_rate = 0.01;
  settings.visible_deviation = 0.2;
  Trainer trainer(ops(), data, settings);
  const double before = evaluate(trainer.machine(), data, {}).log_likelihood;
  while (!trainer.finished()) trainer.run_epoch();
  EXPECT_GT(evaluate(trainer.machine(), data, {}).log_likelihood, before + 20);
}

TEST_P(GaussianTest, InitialBiasesAreTheMeans) {
  Machine machine(ops(), {3, 2}, 8, Prior::factorial, units_of_test);
  machine.initialize({0.0, 0.25, 1.0}, 1);
  EXPECT_EQ(machine.download().at("generative.1.bias").values, (std::vector<float>{0.0f, 0.25f, 1.0f}));
}

WAKESLEEP_ON_EVERY_BACKEND(GaussianTest);

// ------------------------------------------------------------------------------------ what is refused

TEST(Gaussian, LayersThatAreTooWideAreRefusedByTheirLimit) {
  const std::unique_ptr<Ops> ops = make_cpu_ops({});
  const auto message = [&](std::int64_t visible, int bits) {
    return message_of<UsageError>([&] {
      Machine(*ops, {visible, 1}, bits, Prior::factorial, units_of_test);
    });
  };
  EXPECT_THAT(message(519, 16), AllOf(HasSubstr("519 Gaussian units"), HasSubstr("at most 518"),
                                      HasSubstr("fewer weight bits")));
  EXPECT_THAT(message(8261, 12), HasSubstr("at most 8260"));
  EXPECT_THAT(message(133145, 8), HasSubstr("at most 133144"));
}

TEST(Gaussian, BatchesThatCannotBeSummedAreRefused) {
  const std::unique_ptr<Ops> ops = make_cpu_ops({});
  Machine machine(*ops, {2, 1}, 8, Prior::factorial, units_of_test);
  TrainingSettings settings = small_settings(Algorithm::wake_sleep);
  settings.layers = {1};
  settings.batch_size = 133145;
  EXPECT_THAT(message_of<UsageError>([&] { DeltaRule(machine, settings); }), HasSubstr("1 to 133144"));
  settings.algorithm = Algorithm::reweighted_wake_sleep;
  settings.samples = 1;
  settings.batch_size = 66573;
  EXPECT_THAT(message_of<UsageError>([&] { DeltaRule(machine, settings); }), HasSubstr("1 to 66572"));
}

TEST(Gaussian, AlgorithmsOfBinaryStatesAndGreyDataOfOtherMachinesAreRefused) {
  EXPECT_THAT(message_of<UsageError>([] { check(small_settings(Algorithm::natural_reweighted_wake_sleep)); }),
              AllOf(HasSubstr("Fisher blocks"), HasSubstr("choose another algorithm")));
  EXPECT_THAT(message_of<UsageError>([] { check(small_settings(Algorithm::bidirectional_helmholtz)); }),
              HasSubstr("geometric mean"));
  TrainingSettings settings = small_settings(Algorithm::wake_sleep);
  for (const double deviation : {0.0, 0.0312, 1.1, -0.1, std::nan("")}) {
    settings.visible_deviation = deviation;
    EXPECT_THAT(message_of<UsageError>([&] { check(settings); }), HasSubstr("visible-deviation"));
  }
  const std::unique_ptr<Ops> ops = make_cpu_ops({});
  const Machine machine(*ops, {4, 2}, 8, Prior::factorial, units_of_test);
  EXPECT_THAT(message_of<UsageError>([&] { estimate_partition(machine, {}); }), HasSubstr("Gaussian"));
}

TEST(Gaussian, ModelsRememberTheirDeviation) {
  const testing::TemporaryFolder folder;
  const std::string path = folder / "model.safetensors";
  const std::unique_ptr<Ops> ops = make_cpu_ops({});
  TrainingSettings settings = small_settings(Algorithm::wake_sleep);
  settings.visible_deviation = 0.15;
  Trainer trainer(*ops, testing::grey_rows(30, 21), settings);
  trainer.run_epoch();
  save_model(path, trainer.snapshot());
  const Model read = load_model(path);
  EXPECT_EQ(read.settings.visible, Visible::gaussian);
  EXPECT_EQ(read.settings.visible_deviation, 0.15);
}

TEST(Gaussian, GreyRowsAreInTheMemoryPlan) {
  const std::unique_ptr<Ops> ops = make_cpu_ops({});
  TrainingSettings settings = small_settings(Algorithm::wake_sleep);
  const MemoryPlan grey = plan_memory(*ops, {800, 9, 6}, settings, 1000);
  settings.visible = Visible::bernoulli;
  const MemoryPlan binary = plan_memory(*ops, {800, 9, 6}, settings, 1000);
  EXPECT_EQ(grey.data - binary.data, 1000 * (800 - 100));
}

}  // namespace
}  // namespace wakesleep
