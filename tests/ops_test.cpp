// Every operation on every backend against a naive version: plain loops, double precision, the definitions of
// docs/numerics.md written out again without the engine's formulas. Where a random word lies within a hair of
// a threshold, double precision cannot tell the state, and the unit is left out (the tests count that they
// are few).
#include "wakesleep/ops.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "backends.hpp"
#include "reference/sample_coefficients.hpp"
#include "reference/test_operands.hpp"

namespace wakesleep {
namespace {

using testing::awkward_sizes;
using testing::Size;
using testing::TestConditional;
using testing::TestStates;
using testing::to_device;
using testing::to_host;
using testing::uniform;
using testing::word_at;

double sigma(double a) { return 1 / (1 + std::exp(-a)); }
double log_probability(int state, double a) { return -std::log1p(std::exp(state != 0 ? -a : a)); }
constexpr double hair = 2e-6;  // float32 errors of the logit and of sigma, generously

class OpsTest : public testing::BackendTest {
 protected:
  std::vector<std::uint32_t> shuffled(std::int64_t rows, std::uint32_t epoch, std::uint64_t seed) {
    Buffer<std::uint32_t> order(ops(), rows);
    ops().shuffle({seed, Domain::shuffle, 0, 0, epoch}, rows, order.data());
    return to_host(order);
  }
};

TEST_P(OpsTest, ShuffleSortsByDrawnKeys) {
  for (const std::int64_t rows : {0, 1, 2, 31, 33, 1000, 5}) {
    std::vector<std::pair<std::uint64_t, std::uint32_t>> keyed;
    for (std::uint32_t row = 0; row < rows; ++row) {
      const std::uint64_t high = word_at(0, row, 4294967295u, 0x50000000u, 1, 9);
      keyed.push_back({(high << 32) + word_at(0, row, 4294967295u, 0x50000000u, 0, 9), row});
    }
    std::sort(keyed.begin(), keyed.end());
    const std::vector<std::uint32_t> order = shuffled(rows, 4294967295u, 9);
    ASSERT_EQ(order.size(), keyed.size());
    for (std::size_t i = 0; i < order.size(); ++i) ASSERT_EQ(order[i], keyed[i].second) << rows;
  }
}

TEST_P(OpsTest, ShuffleAsRecorded) {  // from a separate implementation in Python
  using Order = std::vector<std::uint32_t>;
  EXPECT_EQ(shuffled(10, 0, 1), (Order{9, 4, 6, 7, 3, 5, 1, 2, 0, 8}));
  EXPECT_EQ(shuffled(10, 1, 1), (Order{2, 7, 1, 5, 4, 6, 9, 8, 0, 3}));
  EXPECT_EQ(shuffled(10, 0, 2), (Order{8, 9, 0, 5, 3, 7, 4, 6, 1, 2}));
  Order order = shuffled(60000, 3, 0x123456789ABCDEF0);
  order.resize(5);
  EXPECT_EQ(order, (Order{13515, 28707, 58987, 32413, 40750}));
}

TEST_P(OpsTest, ShuffleMakesEveryPlaceAsLikely) {
  // Where row 0 of 5 comes in 1000 epochs: chi-square with 4 degrees of freedom stays below 27.9 but
  // for 1.3e-5 of all seeds; the seed is fixed.
  std::vector<double> places(5);
  for (std::uint32_t epoch = 0; epoch < 1000; ++epoch) {
    const std::vector<std::uint32_t> order = shuffled(5, epoch, 11);
    places[static_cast<std::size_t>(std::find(order.begin(), order.end(), 0u) - order.begin())] += 1.0;
  }
  double chi_square = 0.0;
  for (const double count : places) chi_square += (count - 200.0) * (count - 200.0) / 200.0;
  EXPECT_LT(chi_square, 27.9);
}

TEST_P(OpsTest, DrawnWeightsAreUniformWithinTheLimitByTheirAddresses) {
  for (const Size& size : awkward_sizes) {
    const TestConditional c(ops(), size.receiving, size.sending, 16);
    const Draw draw{0x123456789, Domain::initial_generative, 3};
    ops().draw_weights(c.view, draw, 0.1f);
    const std::vector<float> drawn = to_host(c.weight_buffer);
    for (std::int64_t i = 0; i < size.receiving; ++i) {
      for (std::int64_t j = 0; j < size.sending; ++j) {
        const std::uint32_t word = word_at(static_cast<std::uint32_t>(j / 4), static_cast<std::uint32_t>(i),
                                           0, 0x48000003u, static_cast<int>(j % 4), 0x123456789);
        const double expected = 0.1f * ((2.0 * (word >> 8) + 1) / 16777216 - 1);
        ASSERT_EQ(drawn[static_cast<std::size_t>(i * size.sending + j)], static_cast<float>(expected))
            << size.receiving << " x " << size.sending << ", " << i << ", " << j;
      }
    }
    EXPECT_EQ(to_host(c.bias_buffer), c.biases);
  }
}

TEST_P(OpsTest, SampleDrawsFromSigmaOfTheLogits) {
  std::int64_t decided = 0, undecided = 0;
  for (const int bits : {16, 12, 8}) {
    for (const Size& size : awkward_sizes) {
      for (const std::int64_t samples : {1, 3}) {
        for (const SampleAddress address : {SampleAddress::row, SampleAddress::step}) {
          TestConditional c(ops(), size.receiving, size.sending, bits);
          TestStates input(ops(), size.rows, size.sending, 1);
          TestStates output(ops(), size.rows * samples, size.receiving, 2);
          std::vector<std::int64_t> start(static_cast<std::size_t>(size.rows * samples), 1000);
          auto rows = to_device(ops(), start);
          auto total = to_device(ops(), std::vector<std::int64_t>{5});
          auto step = to_device(ops(), std::vector<std::uint32_t>{40});
          const Draw draw{77, Domain::evaluation_sample, 2, 10, 3, step.data(), address};
          ops().sample(c.view, input.view(), draw, samples, output.view(), {rows.data(), -1, total.data()});
          const std::vector<std::uint8_t> found = to_host(output.buffer);
          const std::vector<std::int64_t> scored = to_host(rows);
          double all = 0;
          for (std::int64_t r = 0; r < size.rows * samples; ++r) {
            double log_p = 0;
            for (std::int64_t u = 0; u < size.receiving; ++u) {
              const double a = c.logit(u, input.row(r / samples));
              const auto global_row =
                  static_cast<std::uint32_t>(address == SampleAddress::row ? 10 + r : 10 + r / samples);
              const auto at_step =
                  static_cast<std::uint32_t>(address == SampleAddress::row ? 43 : 43 + r % samples);
              const double x =
                  word_at(static_cast<std::uint32_t>(u / 4), global_row, at_step,
                          domain_word(Domain::evaluation_sample, 2), static_cast<int>(u % 4), 77) /
                  4294967296.0;
              const int state = found[static_cast<std::size_t>(r * padded_units(size.receiving) + u)];
              ASSERT_LE(state, 1);
              log_p += log_probability(state, a);
              if (std::fabs(x - sigma(a)) < hair) {
                ++undecided;
                continue;
              }
              ++decided;
              ASSERT_EQ(state, x < sigma(a))
                  << "row " << r << " unit " << u << " of " << size.receiving << " x " << size.sending;
            }
            EXPECT_NEAR(static_cast<double>(1000 - scored[static_cast<std::size_t>(r)]) * nats_per_log_unit,
                        log_p, 1e-5 * static_cast<double>(size.receiving) + 1e-6);
            all += log_p;
          }
          EXPECT_NEAR(static_cast<double>(to_host(total)[0] - 5) * nats_per_log_unit, all,
                      1e-5 * static_cast<double>(size.receiving * size.rows * samples) + 1e-6);
        }
      }
    }
  }
  EXPECT_GT(decided, 100000);
  EXPECT_LT(undecided, decided / 10000);
}

TEST_P(OpsTest, SampleFromAPrior) {
  const std::int64_t rows = 6, units = 37, samples = 2;
  TestConditional prior(ops(), units, 0, 16);
  TestStates output(ops(), rows, units, 2);
  const Draw draw{5, Domain::sleep_sample, 4, 100, 9, nullptr, SampleAddress::step};
  ops().sample(prior.view, {}, draw, samples, output.view());
  const std::vector<std::uint8_t> found = to_host(output.buffer);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t u = 0; u < units; ++u) {
      const double x =
          word_at(static_cast<std::uint32_t>(u / 4), static_cast<std::uint32_t>(100 + r / samples),
                  static_cast<std::uint32_t>(9 + r % samples), domain_word(Domain::sleep_sample, 4),
                  static_cast<int>(u % 4), 5) /
          4294967296.0;
      EXPECT_EQ(found[static_cast<std::size_t>(r * padded_units(units) + u)],
                x < sigma(prior.biases[static_cast<std::size_t>(u)]));
    }
  }
}

/// Holds deltas against floor(127 error + u), u being the 16 random bits at the address of the unit.
class RoundedErrors {
 public:
  RoundedErrors(const Draw& draw, std::uint32_t step) : draw_(draw), step_(step) {}

  void expect(int found, double error, std::int64_t row, std::int64_t unit) {
    if (error == 0) {
      ++decided;
      EXPECT_EQ(found, 0) << "row " << row << " unit " << unit;
      return;
    }
    const std::uint32_t word =
        word_at(static_cast<std::uint32_t>(unit / 8), draw_.first_row + static_cast<std::uint32_t>(row),
                step_, domain_word(draw_.domain, draw_.layer), static_cast<int>(unit % 8 / 2), draw_.seed);
    const double x = ((unit % 2 == 0 ? word & 0xFFFFu : word >> 16) + 0.5) / 65536;
    const double sum = 127 * error + x;
    if (std::fabs(sum - std::nearbyint(sum)) < 127 * hair + 1.0 / 65536) {
      ++undecided;
      return;
    }
    ++decided;
    EXPECT_EQ(found, std::floor(sum)) << "row " << row << " unit " << unit << " error " << error;
  }

  std::int64_t decided = 0, undecided = 0;

 private:
  Draw draw_;
  std::uint32_t step_;
};

TEST_P(OpsTest, DeltaIsTheStochasticallyRoundedError) {
  auto step = to_device(ops(), std::vector<std::uint32_t>{4});
  const Draw draw{78, Domain::sleep_rounding, 6, 1000, 1, step.data(), SampleAddress::row};
  RoundedErrors errors(draw, 5);
  for (const Size& size : awkward_sizes) {
    for (const bool prior : {false, true}) {
      TestConditional c(ops(), size.receiving, prior ? 0 : size.sending, 16);
      TestStates input(ops(), size.rows, size.sending, 1);
      TestStates target(ops(), size.rows, size.receiving, 3);
      Buffer<std::int8_t> deltas(ops(), size.rows * padded_units(size.receiving));
      ops().delta(c.view, prior ? ConstStates{} : ConstStates(input.view()), target.view(), draw,
                  {deltas.data(), size.rows, size.receiving, padded_units(size.receiving)});
      const std::vector<std::int8_t> found = to_host(deltas);
      for (std::int64_t r = 0; r < size.rows; ++r) {
        for (std::int64_t u = 0; u < size.receiving; ++u) {
          errors.expect(found[static_cast<std::size_t>(r * padded_units(size.receiving) + u)],
                        target.row(r)[u] - sigma(c.logit(u, input.row(r))), r, u);
        }
      }
    }
  }
  EXPECT_GT(errors.decided, 20000);
  EXPECT_LT(errors.undecided, errors.decided / 500);
}

/// Importance weights of images: the largest e_k of each is 2^30, some are 0.
struct TestWeights {
  TestWeights(Ops& ops, std::int64_t images, std::int64_t samples_) : samples(samples_) {
    for (std::int64_t i = 0; i < images; ++i) {
      std::int64_t sum = 0;
      for (std::int64_t k = 0; k < samples; ++k) {
        const double share = uniform(static_cast<std::uint32_t>(i * samples + k), 21);
        const double e = k == i % samples ? 1.0 : share < 0.2 ? 0.0 : share * share;
        relative.push_back(static_cast<std::int32_t>(std::ldexp(e, 30)));
        sum += relative.back();
      }
      total.push_back(sum);
    }
    relative_buffer = to_device(ops, relative);
    total_buffer = to_device(ops, total);
  }
  SampleWeights view(bool centred, float scale) const {
    return {relative_buffer.data(), total_buffer.data(), samples, centred, scale};
  }
  /// Of the row that is sample row % K of image row / K.
  double of(std::int64_t row, bool centred, float scale) const {
    const double share = static_cast<double>(relative[static_cast<std::size_t>(row)]) /
                         static_cast<double>(total[static_cast<std::size_t>(row / samples)]);
    return double{scale} * (share - (centred ? 1.0 / static_cast<double>(samples) : 0.0));
  }

  std::int64_t samples;
  std::vector<std::int32_t> relative;
  std::vector<std::int64_t> total;
  Buffer<std::int32_t> relative_buffer;
  Buffer<std::int64_t> total_buffer;
};

struct Weighing {
  std::int64_t samples;
  bool centred;
  float scale;
};

/// A buffer of deltas with a row more than it is used for, which must stay as it is.
struct TestDeltas {
  TestDeltas(Ops& ops, std::int64_t rows_, std::int64_t units_)
      : rows(rows_),
        units(units_),
        buffer(to_device(ops, std::vector<std::int8_t>(
                                  static_cast<std::size_t>((rows_ + 1) * padded_units(units_)), 99))) {}
  Deltas view() const { return {buffer.data(), rows, units, padded_units(units)}; }
  /// The rows without their padding.
  std::vector<int> found() const {
    const std::vector<std::int8_t> host = to_host(buffer);
    const auto end = host.begin() + static_cast<std::ptrdiff_t>(rows * padded_units(units));
    EXPECT_EQ(std::count(end, host.end(), 99), padded_units(units)) << "written beyond the last row";
    std::vector<int> result;
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t u = 0; u < units; ++u) {
        result.push_back(host[static_cast<std::size_t>(r * padded_units(units) + u)]);
      }
    }
    return result;
  }

  std::int64_t rows, units;
  Buffer<std::int8_t> buffer;
};

/// Room for errors that are kept, in rows of an awkward stride.
struct TestErrors {
  TestErrors(Ops& ops, std::int64_t rows_, std::int64_t units_)
      : rows(rows_),
        units(units_),
        buffer(to_device(ops,
                         std::vector<float>(static_cast<std::size_t>((rows_ + 1) * (units_ + 5)), -77.0f))) {}
  Matrix<float> view() const { return {buffer.data(), rows, units, units + 5}; }
  /// The rows without what lies between and after them, which must not have been written.
  std::vector<float> found() const {
    const std::vector<float> host = to_host(buffer);
    std::vector<float> result;
    for (std::int64_t i = 0; i < buffer.size(); ++i) {
      const float value = host[static_cast<std::size_t>(i)];
      if (i / (units + 5) < rows && i % (units + 5) < units) {
        result.push_back(value);
      } else {
        EXPECT_EQ(value, -77.0f) << "written beyond the errors, place " << i;
      }
    }
    return result;
  }

  std::int64_t rows, units;
  Buffer<float> buffer;
};

TEST_P(OpsTest, DeltaWeighsEverySampleByItsShare) {
  const Draw draw{79, Domain::wake_generative_rounding, 3, 2000, 6, nullptr, SampleAddress::row};
  RoundedErrors errors(draw, 6);
  for (const Size& size : awkward_sizes) {
    for (const Weighing& w : {Weighing{1, false, 1.0f}, Weighing{2, true, 0.3f}, Weighing{3, false, 0.7f},
                              Weighing{31, true, 1.0f}, Weighing{33, false, 1.0f}}) {
      const std::int64_t rows = size.rows * w.samples;
      if (rows * size.receiving > 70000) continue;
      // The target's rows: one for each sample, or one for all samples of an image.
      for (const std::int64_t rows_a_target : {std::int64_t{1}, w.samples}) {
        TestConditional c(ops(), size.receiving, size.sending, 16);
        TestStates input(ops(), rows, size.sending, 1);
        TestStates target(ops(), rows / rows_a_target, size.receiving, 3);
        const TestWeights weights(ops(), size.rows, w.samples);
        const TestDeltas deltas(ops(), rows, size.receiving);
        ops().delta(c.view, input.view(), target.view(), draw, deltas.view(),
                    weights.view(w.centred, w.scale));
        const std::vector<int> found = deltas.found();
        for (std::int64_t r = 0; r < rows; ++r) {
          const double weight = weights.of(r, w.centred, w.scale);
          for (std::int64_t u = 0; u < size.receiving; ++u) {
            const double error = target.row(r / rows_a_target)[u] - sigma(c.logit(u, input.row(r)));
            errors.expect(found[static_cast<std::size_t>(r * size.receiving + u)], weight * error, r, u);
          }
        }
        // Errors that were kept stand for the product and the target, to the last bit.
        const TestErrors kept(ops(), rows, size.receiving);
        ops().score(c.view, input.view(), target.view(), {}, kept.view());
        const TestDeltas from_kept(ops(), rows, size.receiving);
        ops().round_errors(kept.view(), draw, from_kept.view(), weights.view(w.centred, w.scale));
        EXPECT_EQ(from_kept.found(), found);
      }
    }
  }
  EXPECT_GT(errors.decided, 100000);
  EXPECT_LT(errors.undecided, errors.decided / 500);
}

TEST_P(OpsTest, RoundErrorsOfVanishingWeights) {
  const std::int64_t rows = 64, units = 4099;
  const Draw draw{83, Domain::wake_generative_rounding, 1, 0, 2, nullptr, SampleAddress::row};
  std::vector<float> host(static_cast<std::size_t>(rows * units));
  for (std::size_t i = 0; i < host.size(); ++i) host[i] = i % 2 == 0 ? 1.0f : -1.0f;
  const Buffer<float> errors = to_device(ops(), host);
  // The expected number of deltas that are not 0: a multiple of 1 / 65536 of 127 scale, ties to even, of
  // each.
  const std::vector<std::pair<float, double>> cases = {
      {0.0f, 0}, {1e-20f, 0}, {5.9e-8f, 0}, {6.1e-8f, 1}, {1e-5f, 83}};
  for (const auto& [scale, multiple] : cases) {
    const TestDeltas deltas(ops(), rows, units);
    ops().round_errors({errors.data(), rows, units, units}, draw, deltas.view(),
                       SampleWeights{nullptr, nullptr, 1, false, scale});
    const std::vector<int> found = deltas.found();
    const double expected = static_cast<double>(found.size()) * multiple / 65536.0;
    const auto zero = static_cast<double>(std::count(found.begin(), found.end(), 0));
    const double not_zero = static_cast<double>(found.size()) - zero;
    EXPECT_NEAR(not_zero, expected, 5 * std::sqrt(expected)) << scale;
    EXPECT_EQ(not_zero > 0, multiple > 0) << scale;
  }
}

template <class T>
Matrix<T> rows_of(const Matrix<T>& matrix, std::int64_t first, std::int64_t count) {
  return {matrix.row(first), std::min(count, matrix.rows - first), matrix.columns, matrix.stride};
}

/// Samples, deltas and scores of many rows, made in pieces of at most `at_once` rows.
struct LargeOperation {
  struct Shape {
    std::int64_t rows, receiving, sending;
    int bits;
  };
  LargeOperation(Ops& ops, const Shape& shape, std::int64_t at_once) {
    const TestConditional c(ops, shape.receiving, shape.sending, shape.bits);
    const TestStates input(ops, shape.rows, shape.sending, 1);
    const TestStates target(ops, shape.rows, shape.receiving, 2);
    const TestStates output(ops, shape.rows, shape.receiving, 3);
    const TestDeltas rounded(ops, shape.rows, shape.receiving);
    const SampleWeights weights{nullptr, nullptr, 1, false, 0.5f};
    for (std::int64_t first = 0; first < shape.rows; first += at_once) {
      const Draw draw{85,      Domain::wake_sample, 1, 11 + static_cast<std::uint32_t>(first), 2,
                      nullptr, SampleAddress::row};
      const ConstStates some = rows_of(ConstStates(input.view()), first, at_once);
      ops.sample(c.view, some, draw, 1, rows_of(output.view(), first, at_once));
      ops.delta(c.view, some, rows_of(ConstStates(target.view()), first, at_once), draw,
                rows_of(rounded.view(), first, at_once), weights);
    }
    score(ops, c, shape, input, target, at_once);
    const std::vector<std::uint8_t> host = to_host(output.buffer);
    for (std::int64_t r = 0; r < shape.rows; ++r) {
      const auto row = host.begin() + static_cast<std::ptrdiff_t>(r * padded_units(shape.receiving));
      states_.insert(states_.end(), row, row + static_cast<std::ptrdiff_t>(shape.receiving));
    }
    deltas_ = rounded.found();
  }
  bool operator==(const LargeOperation&) const = default;

 private:
  static constexpr std::int64_t samples = 3;  ///< that share a target, or a row of the batch

  /// Scores of targets that stand for several rows each, and of samples that are told apart by their step.
  void score(Ops& ops, const TestConditional& c, const Shape& shape, const TestStates& input,
             const TestStates& target, std::int64_t at_once) {
    const std::int64_t rows = shape.rows / samples * samples;
    const TestErrors errors(ops, rows, shape.receiving);
    const TestStates drawn(ops, rows, shape.receiving, 4), drawn_alone(ops, rows, shape.receiving, 4);
    auto sums = to_device(ops, std::vector<std::int64_t>(static_cast<std::size_t>(rows)));
    auto total = to_device(ops, std::vector<std::int64_t>(1));
    at_once = at_once / samples * samples;
    for (std::int64_t first = 0; first < rows; first += at_once) {
      const std::int64_t count = std::min(at_once, rows - first);
      const Draw draw{86,      Domain::wake_sample, 1, 11 + static_cast<std::uint32_t>(first / samples), 2,
                      nullptr, SampleAddress::step};
      const ConstStates some = rows_of(ConstStates(input.view()), first, count);
      ops.score(c.view, some, rows_of(ConstStates(target.view()), first / samples, count / samples),
                {sums.data() + first, 1, total.data()}, rows_of(errors.view(), first, count));
      ops.sample(c.view, some, draw, samples, rows_of(drawn.view(), first, count),
                 {sums.data() + first, -1, total.data()});
      ops.sample(c.view, some, draw, samples, rows_of(drawn_alone.view(), first, count));
    }
    EXPECT_EQ(to_host(drawn_alone.buffer), to_host(drawn.buffer));
    errors_ = errors.found();
    scores_ = to_host(sums);
    scores_.push_back(to_host(total).front());
    const std::vector<std::uint8_t> host = to_host(drawn.buffer);
    for (std::int64_t r = 0; r < rows; ++r) {
      const auto row = host.begin() + static_cast<std::ptrdiff_t>(r * padded_units(shape.receiving));
      states_.insert(states_.end(), row, row + static_cast<std::ptrdiff_t>(shape.receiving));
    }
  }

  std::vector<std::uint8_t> states_;
  std::vector<int> deltas_;
  std::vector<float> errors_;
  std::vector<std::int64_t> scores_;
};

// Backends take large operations another way than small ones: in larger tiles, with several rows to a thread,
// or with the product apart from what follows it; and decide by approximations where those are enough.
TEST_P(OpsTest, LargeOperationsHaveTheBitsOfTheirPiecesAndOfTheCpu) {
  const auto cpu = make_cpu_ops();
  for (const LargeOperation::Shape& shape : {LargeOperation::Shape{1100, 530, 70, 8},
                                             {1100, 530, 70, 16},
                                             {4200, 1001, 450, 8},
                                             {2200, 1001, 450, 16}}) {
    const LargeOperation whole(ops(), shape, shape.rows), expected(*cpu, shape, shape.rows);
    const auto what = std::to_string(shape.rows) + " rows, " + std::to_string(shape.bits) + " bits";
    EXPECT_TRUE(whole == expected) << what;
    if (shape.rows > 2000) continue;  // which take long enough once
    const LargeOperation pieces(ops(), shape, 301);
    EXPECT_TRUE(pieces == expected) << what << ", in pieces";
  }
}

TEST_P(OpsTest, DeltaWeighsThePriorsErrorsToo) {
  const std::int64_t images = 5, samples = 3, units = 37;
  const Draw draw{80, Domain::wake_generative_rounding, 2, 0, 1, nullptr, SampleAddress::row};
  RoundedErrors errors(draw, 1);
  TestConditional prior(ops(), units, 0, 16);
  TestStates target(ops(), images * samples, units, 3);
  const TestWeights weights(ops(), images, samples);
  for (const bool unweighted : {true, false}) {
    SampleWeights used = weights.view(false, 1.0f);
    if (unweighted) used = SampleWeights{nullptr, nullptr, 1, false, 0.25f};  // one scale for all rows
    const TestDeltas deltas(ops(), images * samples, units);
    ops().delta(prior.view, {}, target.view(), draw, deltas.view(), used);
    const std::vector<int> found = deltas.found();
    const TestErrors kept(ops(), images * samples, units);
    ops().score(prior.view, {}, target.view(), {}, kept.view());
    const TestDeltas from_kept(ops(), images * samples, units);
    ops().round_errors(kept.view(), draw, from_kept.view(), used);
    EXPECT_EQ(from_kept.found(), found);
    for (std::int64_t r = 0; r < images * samples; ++r) {
      const double weight = unweighted ? 0.25 : weights.of(r, false, 1.0f);
      for (std::int64_t u = 0; u < units; ++u) {
        const double error = target.row(r)[u] - sigma(prior.biases[static_cast<std::size_t>(u)]);
        errors.expect(found[static_cast<std::size_t>(r * units + u)], weight * error, r, u);
      }
    }
  }
  EXPECT_GT(errors.decided, 1000);
}

// One row of deltas for the K samples of an image: round(sum_k w_k target_k - sigma(a) sum_k w_k).
TEST_P(OpsTest, DeltasThatSamplesShareAreTheirRoundedSum) {
  const Draw draw{81, Domain::wake_recognition_rounding, 1, 500, 9, nullptr, SampleAddress::row};
  RoundedErrors errors(draw, 9);
  for (const Size& size : awkward_sizes) {
    for (const Weighing& w : {Weighing{2, false, 1.0f}, Weighing{2, true, 0.5f}, Weighing{3, false, 0.3f},
                              Weighing{31, true, 1.0f}, Weighing{33, false, 0.7f}}) {
      TestConditional c(ops(), size.receiving, size.sending, 8);
      TestStates input(ops(), size.rows, size.sending, 1);
      TestStates target(ops(), size.rows * w.samples, size.receiving, 3);
      const TestWeights weights(ops(), size.rows, w.samples);
      const TestDeltas deltas(ops(), size.rows, size.receiving);
      ops().delta(c.view, input.view(), target.view(), draw, deltas.view(), weights.view(w.centred, w.scale));
      const std::vector<int> found = deltas.found();
      for (std::int64_t r = 0; r < size.rows; ++r) {
        for (std::int64_t u = 0; u < size.receiving; ++u) {
          const double p = sigma(c.logit(u, input.row(r)));
          double error = 0;
          for (std::int64_t k = 0; k < w.samples; ++k) {
            const std::int64_t row = r * w.samples + k;
            error += weights.of(row, w.centred, w.scale) * (target.row(row)[u] - p);
          }
          errors.expect(found[static_cast<std::size_t>(r * size.receiving + u)], error, r, u);
        }
      }
      Buffer<float> kept(ops(), size.rows * size.receiving);
      const Matrix<float> logits{kept.data(), size.rows, size.receiving, size.receiving};
      ops().sample(c.view, input.view(), draw, w.samples, target.view(), {}, logits);
      target.buffer.copy_in(target.host.data());  // only the logits are wanted
      const TestDeltas from_kept(ops(), size.rows, size.receiving);
      ops().delta(c.view, {}, target.view(), draw, from_kept.view(), weights.view(w.centred, w.scale),
                  logits);
      EXPECT_EQ(from_kept.found(), found);
    }
  }
  EXPECT_GT(errors.decided, 100000);
  EXPECT_LT(errors.undecided, errors.decided / 500);
}

/// Coefficients of any sign whose magnitudes add up to at most 1 for each image.
struct TestCoefficients {
  TestCoefficients(Ops& ops, std::int64_t images, std::int64_t samples_) : samples(samples_) {
    for (std::uint32_t i = 0; i < images * samples; ++i) {
      host.push_back(static_cast<float>((2 * uniform(i, 23) - 1) / static_cast<double>(samples)));
    }
    buffer = to_device(ops, host);
  }
  SampleWeights view(float scale) const {
    SampleWeights weights;
    weights.samples = samples;
    weights.coefficient = buffer.data();
    weights.scale = scale;
    return weights;
  }
  double of(std::int64_t row) const { return host[static_cast<std::size_t>(row)]; }

  std::int64_t samples;
  std::vector<float> host;
  Buffer<float> buffer;
};

TEST_P(OpsTest, DeltasTakeGivenCoefficients) {
  const Draw draw{84, Domain::wake_recognition_rounding, 1, 700, 3, nullptr, SampleAddress::row};
  RoundedErrors errors(draw, 3);
  for (const Size& size : awkward_sizes) {
    for (const std::int64_t samples : {2, 3, 31, 33}) {
      const float scale = samples == 3 ? 0.5f : 1.0f;
      if (size.rows * samples * size.receiving > 70000) continue;
      for (const bool shared : {false, true}) {
        const std::int64_t rows = shared ? size.rows : size.rows * samples;
        TestConditional c(ops(), size.receiving, size.sending, 16);
        TestStates input(ops(), rows, size.sending, 1);
        TestStates target(ops(), size.rows * samples, size.receiving, 3);
        const TestCoefficients coefficients(ops(), size.rows, samples);
        const TestDeltas deltas(ops(), rows, size.receiving);
        ops().delta(c.view, input.view(), target.view(), draw, deltas.view(), coefficients.view(scale));
        const std::vector<int> found = deltas.found();
        for (std::int64_t r = 0; r < rows; ++r) {
          for (std::int64_t u = 0; u < size.receiving; ++u) {
            const double p = sigma(c.logit(u, input.row(r)));
            double error = 0;
            for (std::int64_t k = 0; k < (shared ? samples : 1); ++k) {
              const std::int64_t row = shared ? r * samples + k : r;
              error += double{scale} * coefficients.of(row) * (target.row(row)[u] - p);
            }
            errors.expect(found[static_cast<std::size_t>(r * size.receiving + u)], error, r, u);
          }
        }
      }
    }
  }
  EXPECT_GT(errors.decided, 100000);
  EXPECT_LT(errors.undecided, errors.decided / 500);
}

TEST_P(OpsTest, OneSampleWithAllTheWeightIsThePlainDelta) {
  const Draw draw{82, Domain::sleep_rounding, 1, 0, 2, nullptr, SampleAddress::row};
  for (const Size& size : awkward_sizes) {
    TestConditional c(ops(), size.receiving, size.sending, 16);
    TestStates input(ops(), size.rows, size.sending, 1);
    TestStates target(ops(), size.rows, size.receiving, 3);
    const TestWeights weights(ops(), size.rows, 1);
    const TestDeltas plain(ops(), size.rows, size.receiving), weighted(ops(), size.rows, size.receiving),
        centred(ops(), size.rows, size.receiving);
    ops().delta(c.view, input.view(), target.view(), draw, plain.view());
    ops().delta(c.view, input.view(), target.view(), draw, weighted.view(), weights.view(false, 1.0f));
    EXPECT_EQ(weighted.found(), plain.found());
    ops().delta(c.view, input.view(), target.view(), draw, centred.view(), weights.view(true, 1.0f));
    EXPECT_EQ(centred.found(), std::vector<int>(static_cast<std::size_t>(size.rows * size.receiving), 0));
  }
}

// The sum of a unit's inputs becomes a float with one rounding and the fma has another: each of half a
// float's last place, 2^-24 of a value.
TEST_P(OpsTest, KeptLogitsAreThePreActivations) {
  for (const int bits : {16, 12, 8}) {
    for (const Size& size : awkward_sizes) {
      TestConditional c(ops(), size.receiving, size.sending, bits);
      TestStates input(ops(), size.rows, size.sending, 1);
      const std::int64_t samples = 3, stride = size.receiving + 5;
      const Draw draw{83, Domain::wake_sample, 1, 0, 2, nullptr, SampleAddress::row};
      const std::vector<float> untouched(static_cast<std::size_t>((size.rows + 1) * stride), -77.0f);
      auto sampled = to_device(ops(), untouched);
      TestStates output(ops(), size.rows * samples, size.receiving, 2);
      TestStates without(ops(), size.rows * samples, size.receiving, 2);
      ops().sample(c.view, input.view(), draw, samples, output.view(), {},
                   {sampled.data(), size.rows, size.receiving, stride});
      ops().sample(c.view, input.view(), draw, samples, without.view());
      EXPECT_EQ(to_host(output.buffer), to_host(without.buffer));  // keeping them changes no sample
      const std::vector<float> found = to_host(sampled);
      for (std::int64_t r = 0; r <= size.rows; ++r) {
        for (std::int64_t u = 0; u < stride; ++u) {
          const double value = found[static_cast<std::size_t>(r * stride + u)];
          if (r == size.rows || u >= size.receiving) {
            ASSERT_EQ(value, -77.0) << "written beyond the logits, row " << r << " column " << u;
            continue;
          }
          const double a = c.logit(u, input.row(r));
          const double sum = a - c.biases[static_cast<std::size_t>(u)];
          ASSERT_NEAR(value, a, std::ldexp(1.001 * (std::fabs(a) + std::fabs(sum)), -24)) << r << ", " << u;
        }
      }
    }
  }
}

TEST_P(OpsTest, KeptErrorsAreStatesMinusTheirProbabilities) {
  for (const Size& size : awkward_sizes) {
    TestConditional c(ops(), size.receiving, size.sending, 16);
    TestStates input(ops(), size.rows, size.sending, 1);
    const std::int64_t samples = 3;
    const Draw draw{84, Domain::wake_sample, 1, 0, 2, nullptr, SampleAddress::row};
    TestStates output(ops(), size.rows * samples, size.receiving, 2);
    TestStates without(ops(), size.rows * samples, size.receiving, 2);
    auto scores = to_device(ops(), std::vector<std::int64_t>(static_cast<std::size_t>(output.rows)));
    const TestErrors sampled(ops(), output.rows, size.receiving), scored(ops(), size.rows, size.receiving);
    ops().sample(c.view, input.view(), draw, samples, output.view(), {scores.data(), 1, nullptr}, {},
                 sampled.view());
    ops().sample(c.view, input.view(), draw, samples, without.view());
    EXPECT_EQ(to_host(output.buffer), to_host(without.buffer));  // keeping them changes no sample
    TestStates target(ops(), size.rows, size.receiving, 3);
    ops().score(c.view, input.view(), target.view(), {}, scored.view());
    const std::vector<std::uint8_t> states = to_host(output.buffer);
    const std::vector<float> of_samples = sampled.found(), of_targets = scored.found();
    const auto expect_error = [](float found, int state, double a) {
      const double error = state != 0 ? sigma(-a) : -sigma(a);
      EXPECT_NEAR(found, error, hair * std::fabs(error) + 1e-12) << "state " << state << ", logit " << a;
    };
    for (std::int64_t r = 0; r < size.rows; ++r) {
      for (std::int64_t u = 0; u < size.receiving; ++u) {
        const double a = c.logit(u, input.row(r));
        const auto at = [&](std::int64_t row) { return static_cast<std::size_t>(row * size.receiving + u); };
        expect_error(of_targets[at(r)], target.row(r)[u], a);
        for (std::int64_t row = samples * r; row < samples * (r + 1); ++row) {
          const int state = states[static_cast<std::size_t>(row * padded_units(size.receiving) + u)];
          expect_error(of_samples[at(row)], state, a);
        }
      }
    }
  }
}

/// Deltas over their whole range, with garbage in the padding, and what a gradient makes of them.
struct GivenDeltas {
  GivenDeltas(Ops& ops, std::int64_t rows_, std::int64_t units_)
      : rows(rows_), units(units_), host(static_cast<std::size_t>(rows_ * padded_units(units_)), 99) {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t i = 0; i < units; ++i) {
        host[static_cast<std::size_t>(r * padded_units(units) + i)] = static_cast<std::int8_t>(
            static_cast<int>(
                word_at(static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(r), 0, 1, 0, 2) % 255) -
            127);
      }
    }
    buffer = to_device(ops, host);
  }
  ConstDeltas view() const { return {buffer.data(), rows, units, padded_units(units)}; }
  std::int64_t at(std::int64_t r, std::int64_t i) const {
    return host[static_cast<std::size_t>(r * padded_units(units) + i)];
  }

  std::vector<std::int64_t> sums() const {
    std::vector<std::int64_t> result;
    for (std::int64_t i = 0; i < units; ++i) {
      result.push_back(0);
      for (std::int64_t r = 0; r < rows; ++r) result.back() += at(r, i);
    }
    return result;
  }
  std::vector<std::int64_t> sums_times(const TestStates& states) const {
    std::vector<std::int64_t> result;
    for (std::int64_t i = 0; i < units; ++i) {
      for (std::int64_t j = 0; j < states.units; ++j) {
        result.push_back(0);
        for (std::int64_t r = 0; r < rows; ++r) result.back() += at(r, i) * states.row(r)[j];
      }
    }
    return result;
  }

  std::int64_t rows, units;
  std::vector<std::int8_t> host;
  Buffer<std::int8_t> buffer;
};

/// Integers that an operation writes, with one behind the last that it must leave alone.
struct WrittenIntegers {
  WrittenIntegers(Ops& ops, std::int64_t count)
      : buffer(to_device(ops, std::vector<std::int32_t>(static_cast<std::size_t>(count + 1), untouched))) {}
  std::int32_t* data() { return buffer.data(); }
  std::vector<std::int64_t> found() const {
    const std::vector<std::int32_t> all = to_host(buffer);
    EXPECT_EQ(all.back(), untouched);
    return {all.begin(), all.end() - 1};
  }
  static constexpr std::int32_t untouched = -77;
  Buffer<std::int32_t> buffer;
};

/// Beside the other awkward sizes those at the edges of tiles of 64 and 128 rows and units, of several tiles, and
/// of more rows than are taken through one kernel.
std::vector<Size> gradient_sizes() {
  std::vector<Size> sizes = awkward_sizes;
  for (const Size& size : std::vector<Size>{{31, 63, 65},
                                            {63, 1, 64},
                                            {64, 65, 1},
                                            {65, 31, 63},
                                            {33, 64, 31},
                                            {64, 33, 33},
                                            {1, 64, 65},
                                            {128, 127, 129},
                                            {127, 65, 63},
                                            {128, 64, 65},
                                            {129, 65, 193},
                                            {193, 200, 64},
                                            {1000, 3, 66},
                                            {70, 1032, 530},
                                            {70, 1030, 1030},
                                            {4100, 65, 63},
                                            {4100, 64, 65},
                                            {4100, 128, 130}}) {
    sizes.push_back(size);
  }
  return sizes;
}

TEST_P(OpsTest, GradientIsTheExactSum) {
  for (const Size& size : gradient_sizes()) {
    const TestStates states(ops(), size.rows, size.sending, 4);
    const GivenDeltas deltas(ops(), size.rows, size.receiving);
    const std::vector<std::int64_t> expected = deltas.sums_times(states);
    const auto what = [&] {
      return ::testing::Message() << size.rows << " rows, " << size.sending << " -> " << size.receiving;
    };
    WrittenIntegers gradient(ops(), size.receiving * size.sending), bias(ops(), size.receiving);
    ops().gradient(deltas.view(), states.view(), gradient.data(), bias.data());
    ASSERT_EQ(gradient.found(), expected) << what();
    ASSERT_EQ(bias.found(), deltas.sums()) << what();

    WrittenIntegers without_bias(ops(), size.receiving * size.sending);
    ops().gradient(deltas.view(), states.view(), without_bias.data(), nullptr);
    ASSERT_EQ(without_bias.found(), expected) << what() << ", without biases";
  }
}

TEST_P(OpsTest, GradientOfAPriorIsTheSumOfItsDeltas) {
  for (const std::int64_t rows : {0, 1, 31, 33, 63, 64, 65, 300}) {
    for (const std::int64_t units : {0, 1, 31, 33, 63, 64, 65, 130}) {
      const GivenDeltas deltas(ops(), rows, units);
      WrittenIntegers bias(ops(), units);
      ops().gradient(deltas.view(), {}, nullptr, bias.data());
      ASSERT_EQ(bias.found(), deltas.sums()) << rows << " rows of " << units << " units";
    }
  }
}

TEST_P(OpsTest, AddAddsElementByElement) {
  for (const std::int64_t count : {0, 1, 31, 33, 1000}) {
    std::vector<std::int32_t> sums(static_cast<std::size_t>(count + 1)), terms(sums.size());
    for (std::size_t i = 0; i < sums.size(); ++i) {
      sums[i] = static_cast<std::int32_t>(word_at(static_cast<std::uint32_t>(i), 1, 0, 0, 0, 4)) / 2;
      terms[i] = static_cast<std::int32_t>(word_at(static_cast<std::uint32_t>(i), 2, 0, 0, 0, 4)) / 2;
    }
    auto device_sums = to_device(ops(), sums);
    auto device_terms = to_device(ops(), terms);
    ops().add(device_sums.data(), device_terms.data(), count);
    for (std::int64_t i = 0; i < count; ++i)
      sums[static_cast<std::size_t>(i)] += terms[static_cast<std::size_t>(i)];
    EXPECT_EQ(to_host(device_sums), sums) << count;  // the one behind the last stays as it was
    EXPECT_EQ(to_host(device_terms), terms);
  }
}

TEST_P(OpsTest, UpdateAscendsAndQuantizes) {
  for (const OptimizerKind kind : {OptimizerKind::sgd, OptimizerKind::momentum, OptimizerKind::adam}) {
    const std::int64_t receiving = 19, sending = 37;
    TestConditional c(ops(), receiving, sending, 16);
    const std::size_t count = c.weights.size();
    std::vector<std::int32_t> g(count), gb(static_cast<std::size_t>(receiving));
    for (std::size_t i = 0; i < count; ++i)
      g[i] = static_cast<std::int32_t>(1000 * uniform(static_cast<std::uint32_t>(i), 12)) - 500;
    for (std::size_t i = 0; i < gb.size(); ++i) gb[i] = static_cast<std::int32_t>(i) * 7 - 50;
    std::vector<float> first(count, 0.125f), second(count, 0.5f), bias_first(gb.size(), -0.25f),
        bias_second(gb.size(), 0.25f);
    auto gradient = to_device(ops(), g);
    auto bias_gradient = to_device(ops(), gb);
    auto f = to_device(ops(), first), s = to_device(ops(), second), bf = to_device(ops(), bias_first),
         bs = to_device(ops(), bias_second);
    Rates host_rates;
    host_rates.rate = 0.05f;
    host_rates.decay = 0.001f;
    host_rates.mean = 1.0f / (127 * 20);
    host_rates.second_correction = 1.7f;
    auto rates = to_device(ops(), std::vector<Rates>{host_rates});
    auto diverged = to_device(ops(), std::vector<std::uint32_t>{0});
    auto step = to_device(ops(), std::vector<std::uint32_t>{11});
    Optimizer optimizer;
    optimizer.kind = kind;
    ops().update(c.view, {f.data(), s.data(), bf.data(), bs.data()}, optimizer, rates.data(), gradient.data(),
                 bias_gradient.data(), diverged.data(), step.data());
    EXPECT_EQ(to_host(diverged)[0], 0u);
    const auto naive = [&](double w, double grad, bool decayed, double m, double v) {
      const double kept = decayed ? w * (1 - 0.001) : w;
      const double mean = grad / (127 * 20);
      if (kind == OptimizerKind::sgd) return kept + 0.05 * mean;
      if (kind == OptimizerKind::momentum) return kept + 0.05 * (0.9 * m + mean);
      const double v_new = 0.999 * v + 0.001 * mean * mean;
      return kept + 0.05 * (0.9 * m + 0.1 * mean) / (std::sqrt(1.7f * v_new) + 1e-8);
    };
    const std::vector<float> weights = to_host(c.weight_buffer), biases = to_host(c.bias_buffer);
    for (std::size_t i = 0; i < count; ++i)
      ASSERT_NEAR(weights[i], naive(c.weights[i], g[i], true, 0.125, 0.5), 2e-6);
    for (std::size_t i = 0; i < gb.size(); ++i)
      ASSERT_NEAR(biases[i], naive(c.biases[i], gb[i], false, -0.25, 0.25), 2e-6);
    // The products see the new weights: probabilities from them, against the naive logits of the new weights.
    TestStates input(ops(), 5, sending, 8);
    Buffer<float> p(ops(), 5 * receiving);
    ops().probabilities(c.view, input.view(), {p.data(), 5, receiving, receiving});
    const std::vector<float> found = to_host(p);
    for (std::int64_t r = 0; r < 5; ++r) {
      for (std::int64_t i = 0; i < receiving; ++i) {
        double a = biases[static_cast<std::size_t>(i)];
        for (std::int64_t j = 0; j < sending; ++j)
          a += input.row(r)[j] * weights[static_cast<std::size_t>(i * sending + j)];
        EXPECT_NEAR(found[static_cast<std::size_t>(r * receiving + i)], sigma(a), 1e-3);
      }
    }
  }
}

/// What a conditional and its optimiser hold.
struct Learnt {
  Learnt(Ops& ops, const Size& size, int bits, std::int32_t largest_input)
      : conditional(ops, size.receiving, size.sending, bits, 2.0, largest_input),
        states{to_device(ops, std::vector<float>(conditional.weights.size(), 0.0625f)),
               to_device(ops, std::vector<float>(conditional.weights.size(), 0.5f)),
               to_device(ops, std::vector<float>(conditional.biases.size(), -0.25f)),
               to_device(ops, std::vector<float>(conditional.biases.size(), 0.25f))},
        diverged(to_device(ops, std::vector<std::uint32_t>{0})) {}
  OptimizerState state() { return {states[0].data(), states[1].data(), states[2].data(), states[3].data()}; }
  /// All of it, and the logits of 0/1 states, which have every bit of the integers.
  std::vector<std::vector<float>> found(Ops& ops, const Size& size) const {
    std::vector<std::vector<float>> all = {to_host(conditional.weight_buffer),
                                           to_host(conditional.bias_buffer)};
    for (const Buffer<float>& buffer : states) all.push_back(to_host(buffer));
    all.push_back({static_cast<float>(to_host(diverged)[0])});
    const std::int64_t rows = 5;
    const TestStates input(ops, rows, size.sending, 8);
    const TestStates output(ops, rows, size.receiving, 9);
    const Buffer<float> logits(ops, rows * size.receiving);
    ops.sample(conditional.view, input.view(), {}, 1, output.view(), {},
               {logits.data(), rows, size.receiving, size.receiving});
    all.push_back(to_host(logits));
    return all;
  }
  TestConditional conditional;
  Buffer<float> states[4];
  Buffer<std::uint32_t> diverged;
};

/// A way of learning, of which every backend has several: by size, and by what is asked for.
struct LearningCase {
  Size size;
  OptimizerKind kind;
  int bits;
  std::int32_t largest_state;
  bool added;  ///< integers to the gradient, and to that of the biases
};
std::vector<LearningCase> learning_cases() {
  std::vector<LearningCase> cases;
  const OptimizerKind kinds[] = {OptimizerKind::sgd, OptimizerKind::momentum, OptimizerKind::adam};
  const auto add = [&](const Size& size) {
    const std::size_t number = cases.size();
    cases.push_back(
        {size, kinds[number % 3], number % 2 == 0 ? 8 : 16, number % 5 == 4 ? 127 : 1, number % 4 == 1});
  };
  for (const Size& size : gradient_sizes()) add(size);
  for (const Size& size : std::vector<Size>{{100, 200, 784}, {65, 784, 200}}) add(size);
  for (const OptimizerKind kind : kinds) {
    const bool adam = kind == OptimizerKind::adam;
    cases.push_back({{300, 1032, 528}, kind, adam ? 16 : 8, 1, adam});
    cases.push_back({{300, 1032, 1032}, kind, adam ? 8 : 16, 1, !adam});
  }
  return cases;
}

TEST_P(OpsTest, LearnFollowsTheExactSum) {
  for (const LearningCase& c : learning_cases()) {
    const Size& size = c.size;
    const std::int64_t weights = size.receiving * size.sending;
    TestStates states(ops(), size.rows, size.sending, 4);
    for (std::uint8_t& state : states.host) state = static_cast<std::uint8_t>(state * c.largest_state);
    states.buffer.copy_in(states.host.data());
    const GivenDeltas deltas(ops(), size.rows, size.receiving);
    std::vector<std::int64_t> sums = deltas.sums_times(states), bias_sums = deltas.sums();
    std::vector<std::int32_t> added(sums.size()), added_bias(bias_sums.size());
    const auto add = [&](std::vector<std::int64_t>& to, std::vector<std::int32_t>& terms,
                         std::uint32_t seed) {
      for (std::size_t i = 0; i < to.size() && c.added; ++i) {
        terms[i] =
            static_cast<std::int32_t>(word_at(static_cast<std::uint32_t>(i), 3, 0, 0, 0, seed) % 20001) -
            10000;
        to[i] += terms[i];
      }
    };
    add(sums, added, 5);
    add(bias_sums, added_bias, 6);
    const auto integers = [&](const std::vector<std::int64_t>& from) {
      return to_device(ops(), std::vector<std::int32_t>(from.begin(), from.end()));
    };
    const auto gradient = integers(sums), bias_gradient = integers(bias_sums);
    const auto device_added = to_device(ops(), added), device_added_bias = to_device(ops(), added_bias);
    Rates host_rates;
    host_rates.rate = 0.05f;
    host_rates.decay = 0.001f;
    host_rates.mean = 1.0f / (127 * 20);
    host_rates.second_correction = 1.7f;
    const auto rates = to_device(ops(), std::vector<Rates>{host_rates});
    const auto step = to_device(ops(), std::vector<std::uint32_t>{11});

    Learnt apart(ops(), size, c.bits, c.largest_state), at_once(ops(), size, c.bits, c.largest_state);
    WrittenIntegers memory(ops(), weights), bias_memory(ops(), size.receiving);
    Learning learning;
    learning.state = at_once.state();
    learning.optimizer.kind = c.kind;
    learning.rates = rates.data();
    learning.gradient = memory.data();
    learning.bias_gradient = bias_memory.data();
    if (c.added) {
      learning.added = device_added.data();
      learning.added_bias = device_added_bias.data();
    }
    learning.diverged = at_once.diverged.data();
    learning.step = step.data();
    for (int times = 0; times < 2; ++times) {
      ops().update(apart.conditional.view, apart.state(), learning.optimizer, rates.data(), gradient.data(),
                   bias_gradient.data(), apart.diverged.data(), step.data());
      ops().learn(at_once.conditional.view, deltas.view(), states.view(), learning);
    }
    memory.found();  // nothing behind the last has been written
    bias_memory.found();
    ASSERT_EQ(at_once.found(ops(), size), apart.found(ops(), size))
        << size.rows << " rows, " << size.sending << " -> " << size.receiving << ", " << c.bits
        << " bits, optimiser " << static_cast<int>(c.kind) << ", states up to " << c.largest_state
        << (c.added ? ", added to" : "");
  }
}

TEST_P(OpsTest, LearnOfAUnitThatDivergesKeepsItsIntegers) {
  const Size size{33, 300, 37};
  const std::int64_t unit = 5;
  const TestStates states(ops(), size.rows, size.sending, 4);
  const GivenDeltas deltas(ops(), size.rows, size.receiving);
  const auto rates = to_device(ops(), std::vector<Rates>(1));
  const auto step = to_device(ops(), std::vector<std::uint32_t>{6});
  Learnt learnt(ops(), size, 8, 1);
  const float before = learnt.found(ops(), size).back()[unit];
  learnt.conditional.weights[static_cast<std::size_t>(unit * size.sending + 299)] = 1e20f;
  learnt.conditional.weight_buffer.copy_in(learnt.conditional.weights.data());
  WrittenIntegers memory(ops(), size.receiving * size.sending), bias_memory(ops(), size.receiving);
  Learning learning;
  learning.state = learnt.state();
  learning.rates = rates.data();
  learning.gradient = memory.data();
  learning.bias_gradient = bias_memory.data();
  learning.diverged = learnt.diverged.data();
  learning.step = step.data();
  ops().learn(learnt.conditional.view, deltas.view(), states.view(), learning);
  EXPECT_EQ(to_host(learnt.diverged)[0], 7u);
  const auto found = learnt.found(ops(), size);
  const float bias_moved = found[1][unit] - learnt.conditional.biases[unit];
  EXPECT_GT(std::fabs(before), 0.1f);
  EXPECT_NEAR(found.back()[unit], before + bias_moved, 1e-4);
}

TEST_P(OpsTest, DivergenceIsNotedOnceWithItsStep) {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN(), 1e20f}) {
    for (const bool in_bias : {false, true}) {
      if (in_bias && std::isfinite(bad)) continue;  // a bias may have any finite size
      TestConditional c(ops(), 5, 3, 16);
      (in_bias ? c.biases[4] : c.weights[7]) = bad;
      c.weight_buffer.copy_in(c.weights.data());
      c.bias_buffer.copy_in(c.biases.data());
      auto gradient = to_device(ops(), std::vector<std::int32_t>(15, 0));
      auto rates = to_device(ops(), std::vector<Rates>(1));
      auto diverged = to_device(ops(), std::vector<std::uint32_t>{0});
      for (const std::uint32_t at : {6u, 7u}) {
        auto step = to_device(ops(), std::vector<std::uint32_t>{at});
        ops().update(c.view, {}, {}, rates.data(), gradient.data(), gradient.data(), diverged.data(),
                     step.data());
      }
      EXPECT_EQ(to_host(diverged)[0], 7u) << bad;  // 1 + the first step
    }
  }
}

TEST_P(OpsTest, ScoreIsTheLogProbability) {
  for (const Size& size : awkward_sizes) {
    for (const std::int64_t shared : {1, 3}) {
      TestConditional c(ops(), size.receiving, size.sending, 12);
      TestStates input(ops(), size.rows * shared, size.sending, 1);
      TestStates target(ops(), size.rows, size.receiving, 2);
      auto rows =
          to_device(ops(), std::vector<std::int64_t>(static_cast<std::size_t>(size.rows * shared), -7));
      auto total = to_device(ops(), std::vector<std::int64_t>{0});
      ops().score(c.view, input.view(), target.view(), {rows.data(), 1, total.data()});
      const auto found = to_host(rows);
      std::int64_t sum = 0;
      for (std::int64_t r = 0; r < size.rows * shared; ++r) {
        double log_p = 0;
        for (std::int64_t u = 0; u < size.receiving; ++u)
          log_p += log_probability(target.row(r / shared)[u], c.logit(u, input.row(r)));
        const std::int64_t added = found[static_cast<std::size_t>(r)] + 7;
        EXPECT_NEAR(static_cast<double>(added) * nats_per_log_unit, log_p,
                    1e-5 * static_cast<double>(size.receiving) + 1e-6);
        sum += added;
      }
      EXPECT_EQ(to_host(total)[0], sum);
    }
  }
  TestConditional prior(ops(), 33, 0, 16);
  TestStates target(ops(), 4, 33, 2);
  auto rows = to_device(ops(), std::vector<std::int64_t>(4, 0));
  ops().score(prior.view, {}, target.view(), {rows.data(), 1, nullptr});
  for (std::int64_t r = 0; r < 4; ++r) {
    double log_p = 0;
    for (std::int64_t u = 0; u < 33; ++u)
      log_p += log_probability(target.row(r)[u], prior.biases[static_cast<std::size_t>(u)]);
    EXPECT_NEAR(static_cast<double>(to_host(rows)[static_cast<std::size_t>(r)]) * nats_per_log_unit, log_p,
                1e-4);
  }
}

TEST_P(OpsTest, GatherReadsBitsInTheGivenOrder) {
  for (const std::int64_t units : {1, 7, 8, 9, 31, 33, 784}) {
    const std::int64_t rows = 11, row_bytes = (units + 7) / 8;
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(rows * row_bytes));
    for (std::size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = static_cast<std::uint8_t>(word_at(static_cast<std::uint32_t>(i), 3, 3, 3, 0, 3));
    auto data = to_device(ops(), bytes);
    auto order = to_device(ops(), std::vector<std::uint32_t>{9, 8, 7, 6, 5, 4, 3, 10, 1, 0, 2});
    auto first = to_device(ops(), std::vector<std::uint32_t>{6});
    for (const bool ordered : {true, false}) {
      TestStates states(ops(), 4, units, 1);
      ops().gather({data.data(), rows, units, row_bytes, false}, ordered ? order.data() : nullptr,
                   first.data(), {}, states.view());
      const auto found = to_host(states.buffer);
      const std::vector<std::int64_t> expected =
          ordered ? std::vector<std::int64_t>{3, 10, 1, 0} : std::vector<std::int64_t>{6, 7, 8, 9};
      for (std::int64_t r = 0; r < 4; ++r) {
        for (std::int64_t u = 0; u < units; ++u) {
          const std::uint8_t byte =
              bytes[static_cast<std::size_t>(expected[static_cast<std::size_t>(r)] * row_bytes + u / 8)];
          ASSERT_EQ(found[static_cast<std::size_t>(r * padded_units(units) + u)], byte >> (7 - u % 8) & 1);
        }
      }
    }
  }
}

TEST_P(OpsTest, GatherBinarizesGreyByTheRowOfTheDataSet) {
  const std::int64_t rows = 5, units = 37;
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(rows * units));
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::uint8_t>(i % 7 == 0 ? 0 : i % 5 == 0 ? 255 : i);
  auto data = to_device(ops(), bytes);
  auto order = to_device(ops(), std::vector<std::uint32_t>{4, 2, 0, 1, 3});
  auto first = to_device(ops(), std::vector<std::uint32_t>{1});
  auto epoch = to_device(ops(), std::vector<std::uint32_t>{12});
  TestStates states(ops(), 3, units, 1);
  const Draw draw{31, Domain::binarize_dynamic, 0, 0, 0, epoch.data(), SampleAddress::row};
  ops().gather({data.data(), rows, units, units, true}, order.data(), first.data(), draw, states.view());
  const auto found = to_host(states.buffer);
  const std::int64_t expected[3] = {2, 0, 1};
  for (std::int64_t r = 0; r < 3; ++r) {
    for (std::int64_t u = 0; u < units; ++u) {
      const double x = word_at(static_cast<std::uint32_t>(u / 4), static_cast<std::uint32_t>(expected[r]), 12,
                               domain_word(Domain::binarize_dynamic, 0), static_cast<int>(u % 4), 31) /
                       4294967296.0;
      EXPECT_EQ(found[static_cast<std::size_t>(r * padded_units(units) + u)],
                x < bytes[static_cast<std::size_t>(expected[r] * units + u)] / 255.0);
    }
  }
}

TEST_P(OpsTest, GatherFindsOrderedRowsAtTheirPlaceInTheOrder) {
  // Places 2 to 4 of five hold the rows 900, 7 and 31 of a data set.
  const std::int64_t units = 37, places = 5, first_place = 2;
  const std::vector<std::uint32_t> numbers = {1, 2, 900, 7, 31};
  auto order = to_device(ops(), numbers);
  auto first = to_device(ops(), std::vector<std::uint32_t>{first_place});
  auto epoch = to_device(ops(), std::vector<std::uint32_t>{12});
  const Draw draw{31, Domain::binarize_dynamic, 0, 0, 0, epoch.data(), SampleAddress::row};
  for (const bool grey : {false, true}) {
    const std::int64_t row_bytes = grey ? units : (units + 7) / 8;
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(places * row_bytes));
    for (std::size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = static_cast<std::uint8_t>(word_at(static_cast<std::uint32_t>(i), 3, 3, 3, 0, 3));
    auto data = to_device(ops(), bytes);
    TestStates states(ops(), 3, units, 1);
    ops().gather({data.data(), places, units, row_bytes, grey, true}, order.data(), first.data(), draw,
                 states.view());
    const auto found = to_host(states.buffer);
    for (std::int64_t r = 0; r < 3; ++r) {
      const std::int64_t place = first_place + r;
      const std::uint8_t* row = bytes.data() + place * row_bytes;
      for (std::int64_t u = 0; u < units; ++u) {
        const double x = word_at(static_cast<std::uint32_t>(u / 4), numbers[static_cast<std::size_t>(place)],
                                 12, domain_word(Domain::binarize_dynamic, 0), static_cast<int>(u % 4), 31) /
                         4294967296.0;
        ASSERT_EQ(found[static_cast<std::size_t>(r * padded_units(units) + u)],
                  grey ? x < row[u] / 255.0 : row[u / 8] >> (7 - u % 8) & 1);
      }
    }
  }
}

TEST_P(OpsTest, UploadsAreFilledAgainWithoutAnyoneWaitingForTheirUse) {
  // In each round the row 1, on in the units that belong to the round, is sent where the round before was
  // counted, and counted. Nothing waits in between but what uploads order by themselves.
  const std::int64_t units = 64;
  const int rounds = 40;
  const auto is_on = [](int round, std::int64_t unit) { return (unit * (round + 3) + round) % 5 < 2; };
  Buffer<std::uint8_t> states(ops(), 2 * units);
  states.fill_zero();
  Buffer<std::int64_t> counts(ops(), units);
  counts.fill_zero();
  const std::unique_ptr<Upload> uploads[2] = {ops().make_upload(units), ops().make_upload(units)};
  std::vector<std::int64_t> expected(units);
  for (int round = 0; round < rounds; ++round) {
    Upload& upload = *uploads[round % 3 == 0];
    auto* const row = static_cast<std::uint8_t*>(upload.fill());
    for (std::int64_t u = 0; u < units; ++u) {
      row[u] = is_on(round, u);
      expected[static_cast<std::size_t>(u)] += is_on(round, u);
    }
    upload.send(states.data() + units, units);
    upload.await();
    ops().count({states.data(), 2, units, units}, counts.data());
  }
  EXPECT_EQ(to_host(counts), expected);
}

TEST_P(OpsTest, UploadsRunAfterWhatBranchesReadAndBeforeWhatIsCopiedOut) {
  const std::int64_t units = 64;
  Buffer<std::uint8_t> states(ops(), units);
  Buffer<std::int64_t> counts(ops(), units);
  counts.fill_zero();
  const std::unique_ptr<Upload> upload = ops().make_upload(units);
  std::fill_n(static_cast<std::uint8_t*>(upload->fill()), units, std::uint8_t{1});
  for (int round = 0; round < 20; ++round) {
    states.fill_zero();
    ops().on_branch(round % ops().branches(), [&] {
      ops().count({states.data(), 1, units, units}, counts.data());
    });
    upload->send(states.data(), units);
    EXPECT_EQ(to_host(states), std::vector<std::uint8_t>(units, 1));
  }
  EXPECT_EQ(to_host(counts), std::vector<std::int64_t>(units, 0));
}

TEST_P(OpsTest, ImportanceSummarizesLogWeights) {
  for (const std::int64_t samples : {1, 2, 33, 1000}) {
    const std::int64_t images = 5;
    std::vector<std::int64_t> log_weights(static_cast<std::size_t>(images * samples));
    for (std::size_t i = 0; i < log_weights.size(); ++i) {
      log_weights[i] =
          static_cast<std::int64_t>((-120.0 - 30 * uniform(static_cast<std::uint32_t>(i), 20)) * 1048576);
    }
    log_weights[0] = -(std::int64_t{1} << 50);  // an extreme one
    auto device = to_device(ops(), log_weights);
    Buffer<ImportanceSummary> summaries(ops(), images);
    ops().importance({device.data(), images, samples, samples}, summaries.data());
    const auto found = to_host(summaries);
    for (std::int64_t i = 0; i < images; ++i) {
      const std::int64_t* lw = log_weights.data() + i * samples;
      const std::int64_t maximum = *std::max_element(lw, lw + samples);
      double sum = 0, squares = 0, total = 0;
      for (std::int64_t k = 0; k < samples; ++k) {
        const double e = std::exp(static_cast<double>(lw[k] - maximum) / 1048576);
        sum += e;
        squares += e * e;
        total += static_cast<double>(lw[k]);
      }
      const ImportanceSummary& s = found[static_cast<std::size_t>(i)];
      EXPECT_EQ(s.maximum, maximum);
      EXPECT_NEAR(static_cast<double>(s.sum) / 1073741824.0, sum, 1e-5 * sum);
      EXPECT_NEAR(static_cast<double>(s.sum_of_squares) / 1048576.0 / 1048576.0, squares,
                  1e-5 * squares + 1e-5 * sum);
      EXPECT_NEAR(static_cast<double>(s.total_high) * 1048576 + static_cast<double>(s.total_low), total,
                  1.0 + std::fabs(total) * 1e-12);
      EXPECT_GE(s.total_low, 0);
    }
    if (samples == 1) {
      EXPECT_EQ(found[1].sum, std::int64_t{1} << 30);
    }
  }
}

TEST_P(OpsTest, ImportanceWeightsAreTakenAgainstTheLargest) {
  for (const std::int64_t samples : {1, 2, 31, 33}) {
    const std::int64_t images = 5;
    std::vector<std::int64_t> log_weights;
    for (std::uint32_t i = 0; i < images * samples; ++i) {
      log_weights.push_back(static_cast<std::int64_t>((-120.0 - 20 * uniform(i, 22)) * 1048576));
    }
    const auto of_image = [&](std::int64_t i) { return log_weights.begin() + i * samples; };
    std::fill_n(of_image(1), samples, -std::int64_t{7});             // ties: all are the largest
    *(of_image(2) + samples - 1) = std::int64_t{1} << 51;            // far above all others
    *of_image(3) = -(std::int64_t{1} << 51);                         // far below
    std::fill_n(of_image(4), samples, std::int64_t{-60} * 1048576);  // ties, but for the last,
    *(of_image(4) + samples - 1) = std::int64_t{-33} * 1048576;      // which is 27 nats above
    auto device = to_device(ops(), log_weights);
    auto relative =
        to_device(ops(), std::vector<std::int32_t>(static_cast<std::size_t>(images * samples + 1), -5));
    auto totals = to_device(ops(), std::vector<std::int64_t>(static_cast<std::size_t>(images + 1), -6));
    ops().importance_weights({device.data(), images, samples, samples}, log_fraction_bits, relative.data(),
                             totals.data());
    const std::vector<std::int32_t> found = to_host(relative);
    const std::vector<std::int64_t> sums = to_host(totals);
    EXPECT_EQ(found.back(), -5);
    EXPECT_EQ(sums.back(), -6);
    for (std::int64_t i = 0; i < images; ++i) {
      const std::int64_t maximum = *std::max_element(of_image(i), of_image(i) + samples);
      std::int64_t sum = 0;
      for (std::int64_t k = 0; k < samples; ++k) {
        const double nats = static_cast<double>(of_image(i)[k] - maximum) / 1048576;
        const std::int32_t e = found[static_cast<std::size_t>(i * samples + k)];
        if (nats == 0) {
          EXPECT_EQ(e, 1 << 30);
        } else if (nats < -22) {
          EXPECT_EQ(e, 0);  // below half a unit of 2^-30
        } else {
          const double exact = std::ldexp(std::exp(nats), 30);
          EXPECT_NEAR(e, exact, 0.51 + 2.5e-6 * exact);  // as RelativeWeight in arithmetic_test.cpp
        }
        sum += e;
      }
      EXPECT_EQ(sums[static_cast<std::size_t>(i)], sum) << samples << " samples, image " << i;
    }
  }
}

TEST_P(OpsTest, ImportanceWeightsOfHalvedUnitsAreRoots) {
  const std::int64_t images = 5, samples = 33;
  std::vector<std::int64_t> log_weights, doubled;
  for (std::uint32_t i = 0; i < images * samples; ++i) {
    log_weights.push_back(static_cast<std::int64_t>((-120.0 - 20 * uniform(i, 22)) * 1048576));
    doubled.push_back(2 * log_weights.back());
  }
  const auto weighed = [&](const std::vector<std::int64_t>& host, int fraction_bits) {
    auto device = to_device(ops(), host);
    Buffer<std::int32_t> relative(ops(), images * samples);
    Buffer<std::int64_t> totals(ops(), images);
    ops().importance_weights({device.data(), images, samples, samples}, fraction_bits, relative.data(),
                             totals.data());
    return std::pair(to_host(relative), to_host(totals));
  };
  EXPECT_EQ(weighed(doubled, log_fraction_bits + 1), weighed(log_weights, log_fraction_bits));
  const std::vector<std::int32_t> found = weighed(log_weights, log_fraction_bits + 1).first;
  for (std::int64_t i = 0; i < images; ++i) {
    const std::int64_t* of_image = log_weights.data() + i * samples;
    const std::int64_t maximum = *std::max_element(of_image, of_image + samples);
    for (std::int64_t k = 0; k < samples; ++k) {
      const double exact = std::ldexp(std::exp(static_cast<double>(of_image[k] - maximum) / 2 / 1048576), 30);
      EXPECT_NEAR(found[static_cast<std::size_t>(i * samples + k)], exact, 0.51 + 2.5e-6 * exact);
    }
  }
}

TEST_P(OpsTest, VimcoWeightsAreCoefficientsOverTheLeastPowerOfTwo) {
  for (const std::int64_t samples : {2, 3, 33, 1024}) {
    for (const std::int64_t images : {0, 1, 5, 70}) {
      if (samples * images > 5 * 1024) continue;  // the reference grows with the square of the samples
      for (const double spread : {0.1, 5.0, 200.0}) {
        std::vector<std::int64_t> log_weights;
        for (std::uint32_t i = 0; i < images * samples; ++i) {
          log_weights.push_back(static_cast<std::int64_t>((-90 - spread * uniform(i, 24)) * 1048576));
        }
        auto device = to_device(ops(), log_weights);
        auto coefficients =
            to_device(ops(), std::vector<float>(static_cast<std::size_t>(images * samples + 1), -5.0f));
        const Rates given{0.25f, 0.125f, 1.0f / 127, 1.5f};
        auto rates = to_device(ops(), std::vector<Rates>{given});
        auto scaled = to_device(ops(), std::vector<Rates>{{}});
        ops().vimco_weights({device.data(), images, samples, samples}, coefficients.data(), rates.data(),
                            scaled.data());
        const std::vector<float> found = to_host(coefficients);
        const Rates after = to_host(scaled)[0];
        EXPECT_EQ(found.back(), -5.0f);
        EXPECT_EQ(after.rate, given.rate);
        EXPECT_EQ(after.decay, given.decay);
        EXPECT_EQ(after.second_correction, given.second_correction);
        const double power = double{after.mean} / double{given.mean};
        ASSERT_EQ(power, std::exp2(std::nearbyint(std::log2(power)))) << "no power of two";
        ASSERT_GE(power, 1.0);
        double largest = 0;
        for (std::int64_t i = 0; i < images; ++i) {
          std::vector<double> nats;
          for (std::int64_t k = 0; k < samples; ++k) {
            nats.push_back(static_cast<double>(log_weights[static_cast<std::size_t>(i * samples + k)]) /
                           1048576);
          }
          const std::vector<double> expected = testing::vimco_coefficients_of(nats).recognition;
          double sum = 0;
          for (std::int64_t k = 0; k < samples; ++k) {
            const double c = power * double{found[static_cast<std::size_t>(i * samples + k)]};
            const double exact = expected[static_cast<std::size_t>(k)];
            ASSERT_NEAR(c, exact, 5e-6 + 1.2e-7 * std::fabs(exact)) << "image " << i << " sample " << k;
            sum += std::fabs(c);
          }
          largest = std::max(largest, sum);
        }
        EXPECT_LE(largest, power * (1 + 1e-4));
        if (power > 1) {
          EXPECT_GT(largest, power / 2 * (1 - 1e-4)) << "a smaller power would do";
        }
      }
    }
  }
}

TEST_P(OpsTest, ScoreOfKeptLogitsIsTheLogProbability) {
  for (const Size& size : awkward_sizes) {
    for (const std::int64_t samples : {1, 3}) {
      TestStates target(ops(), size.rows * samples, size.receiving, 3);
      std::vector<float> logits;
      for (std::uint32_t i = 0; i < size.rows * size.receiving; ++i) {
        logits.push_back(static_cast<float>(16 * uniform(i, 25) - 8));
      }
      auto kept = to_device(ops(), logits);
      auto scores =
          to_device(ops(), std::vector<std::int64_t>(static_cast<std::size_t>(size.rows * samples), 1000));
      auto total = to_device(ops(), std::vector<std::int64_t>{5});
      ops().score_kept({kept.data(), size.rows, size.receiving, size.receiving}, target.view(),
                       {scores.data(), -1, total.data()});
      const std::vector<std::int64_t> found = to_host(scores);
      std::int64_t sum = 5;
      for (std::int64_t r = 0; r < size.rows * samples; ++r) {
        double log_p = 0;
        for (std::int64_t u = 0; u < size.receiving; ++u) {
          log_p += log_probability(target.row(r)[u],
                                   logits[static_cast<std::size_t>(r / samples * size.receiving + u)]);
        }
        const std::int64_t score = 1000 - found[static_cast<std::size_t>(r)];
        EXPECT_NEAR(static_cast<double>(score) * nats_per_log_unit, log_p,
                    1e-5 * static_cast<double>(size.receiving) + 1e-6);
        sum += score;
      }
      EXPECT_EQ(to_host(total)[0], sum);
      // The errors, in a place of their own or in that of the logits.
      const TestErrors apart(ops(), target.rows, size.receiving);
      ops().score_kept({kept.data(), size.rows, size.receiving, size.receiving}, target.view(), {},
                       apart.view());
      const std::vector<float> errors = apart.found();
      for (std::size_t i = 0; i < errors.size(); ++i) {
        const std::int64_t r = static_cast<std::int64_t>(i) / size.receiving;
        const std::int64_t u = static_cast<std::int64_t>(i) % size.receiving;
        const double a = logits[static_cast<std::size_t>(r / samples * size.receiving + u)];
        const double error = target.row(r)[u] != 0 ? sigma(-a) : -sigma(a);
        EXPECT_NEAR(errors[i], error, hair * std::fabs(error));
      }
      if (samples == 1) {
        const Matrix<float> place{kept.data(), size.rows, size.receiving, size.receiving};
        ops().score_kept(place, target.view(), {}, place);
        EXPECT_EQ(to_host(kept), errors);
      }
    }
  }
}

// ------------------------------------------------------------------------------------------- chains

/// What Ops::metropolis gives for some images.
struct TestChains {
  TestChains(Ops& ops, const std::vector<std::int64_t>& log_weights, std::int64_t images_,
             std::int64_t samples_, const Draw& draw)
      : images(images_), samples(samples_) {
    auto device = to_device(ops, log_weights);
    auto visits_buffer =
        to_device(ops, std::vector<std::int32_t>(static_cast<std::size_t>(images * samples + 1), -5));
    auto totals_buffer = to_device(ops, std::vector<std::int64_t>(static_cast<std::size_t>(images + 1), -5));
    auto last_buffer =
        to_device(ops, std::vector<std::uint32_t>(static_cast<std::size_t>(images + 1), 99999));
    auto counts_buffer = to_device(ops, std::vector<std::int64_t>{100, 200});
    ops.metropolis({device.data(), images, samples, samples}, draw, visits_buffer.data(),
                   totals_buffer.data(), last_buffer.data(), counts_buffer.data());
    visits = to_host(visits_buffer);
    totals = to_host(totals_buffer);
    last = to_host(last_buffer);
    proposals = to_host(counts_buffer)[0] - 100;
    accepted = to_host(counts_buffer)[1] - 200;
    EXPECT_EQ(visits.back(), -5);
    EXPECT_EQ(totals.back(), -5);
    EXPECT_EQ(last.back(), 99999u);
  }
  std::vector<std::int32_t> visits_of(std::int64_t image) const {
    return {visits.begin() + image * samples, visits.begin() + (image + 1) * samples};
  }

  std::int64_t images, samples;
  std::vector<std::int32_t> visits;
  std::vector<std::int64_t> totals;
  std::vector<std::uint32_t> last;
  std::int64_t proposals, accepted;
};

TEST_P(OpsTest, MetropolisIsThePlainChainAtItsAddresses) {
  std::int64_t compared = 0, undecided = 0;
  for (const std::int64_t samples : {1, 2, 4, 5, 9, 33}) {
    for (const std::int64_t images : {0, 1, 7, 300}) {
      std::vector<std::int64_t> log_weights;
      for (std::uint32_t i = 0; i < images * samples; ++i) {
        log_weights.push_back(static_cast<std::int64_t>((-90 - 4 * uniform(i, 26)) * 1048576));
      }
      auto step = to_device(ops(), std::vector<std::uint32_t>{40});
      const Draw draw{85, Domain::chain_acceptance, 0, 0, 2, step.data(), SampleAddress::row};
      const TestChains chains(ops(), log_weights, images, samples, draw);
      EXPECT_EQ(chains.proposals, images * (samples - 1));
      std::int64_t accepted = 0, undecided_before = undecided;
      for (std::int64_t i = 0; i < images; ++i) {
        std::vector<std::int32_t> visits(static_cast<std::size_t>(samples));
        visits[0] = 1;
        std::int64_t current = 0;
        bool decided = true;
        for (std::int64_t k = 1; k < samples; ++k) {
          const double ratio =
              std::exp(static_cast<double>(log_weights[static_cast<std::size_t>(i * samples + k)] -
                                           log_weights[static_cast<std::size_t>(i * samples + current)]) /
                       1048576);
          const double x = word_at(static_cast<std::uint32_t>(k / 4), static_cast<std::uint32_t>(i), 42,
                                   domain_word(Domain::chain_acceptance, 0), static_cast<int>(k % 4), 85) /
                           4294967296.0;
          if (std::fabs(x - ratio) < hair) decided = false;
          if (x < ratio) {
            current = k;
            ++accepted;
          }
          ++visits[static_cast<std::size_t>(current)];
        }
        EXPECT_EQ(chains.totals[static_cast<std::size_t>(i)], samples);
        if (!decided) {
          ++undecided;
          continue;
        }
        ++compared;
        EXPECT_EQ(chains.visits_of(i), visits) << "image " << i << " of " << samples << " samples";
        EXPECT_EQ(chains.last[static_cast<std::size_t>(i)], current);
      }
      if (undecided == undecided_before) {
        EXPECT_EQ(chains.accepted, accepted);
      }
    }
  }
  EXPECT_GT(compared, 1500);
  EXPECT_LT(undecided, 10);
}

TEST_P(OpsTest, MetropolisAlwaysAcceptsEqualWeights) {
  const std::int64_t images = 50, samples = 7;
  const std::vector<std::int64_t> equal(static_cast<std::size_t>(images * samples), -1234567);
  const TestChains chains(ops(), equal, images, samples,
                          {86, Domain::chain_acceptance, 0, 0, 1, nullptr, SampleAddress::row});
  EXPECT_EQ(chains.accepted, images * (samples - 1));
  for (std::int64_t i = 0; i < images; ++i) {
    EXPECT_EQ(chains.visits_of(i), std::vector<std::int32_t>(static_cast<std::size_t>(samples), 1));
    EXPECT_EQ(chains.last[static_cast<std::size_t>(i)], samples - 1);
  }
}

TEST_P(OpsTest, MetropolisAcceptsWithTheRatioOfTheWeights) {
  // 6 standard deviations: exceeded for 2e-9 of all seeds, for each of 6 differences; the seed is fixed.
  const std::int64_t images = 20000;
  for (const double nats : {0.01, 0.1, 0.7, 2.0, 5.0, 40.0}) {
    std::vector<std::int64_t> log_weights;
    for (std::int64_t i = 0; i < images; ++i) {
      log_weights.push_back(std::int64_t{-100} << 20);
      log_weights.push_back((std::int64_t{-100} << 20) - static_cast<std::int64_t>(nats * 1048576));
    }
    const TestChains chains(ops(), log_weights, images, 2,
                            {87, Domain::chain_acceptance, 0, 0, 1, nullptr, SampleAddress::row});
    const double p = std::exp(-nats), count = static_cast<double>(images);
    EXPECT_NEAR(static_cast<double>(chains.accepted), p * count, 6 * std::sqrt(p * (1 - p) * count) + 1e-6);
  }
}

TEST_P(OpsTest, RememberedStatesAreRecalledAndOtherRowsStay) {
  for (const std::int64_t units : {1, 31, 33, 130}) {
    for (const std::int64_t samples : {1, 3}) {
      for (const bool ordered : {true, false}) {
        const std::int64_t rows = 11, images = 4, row_bytes = (units + 15) / 16 * 2;
        const std::vector<std::uint32_t> order = {9, 8, 7, 6, 5, 4, 3, 10, 1, 0, 2};
        const std::vector<std::uint32_t> chosen = {2, 0, 1, 2};
        const std::vector<std::int64_t> places =
            ordered ? std::vector<std::int64_t>{3, 10, 1, 0} : std::vector<std::int64_t>{6, 7, 8, 9};
        auto order_buffer = to_device(ops(), order);
        auto first = to_device(ops(), std::vector<std::uint32_t>{6});
        std::vector<std::uint32_t> taken;
        for (const std::uint32_t k : chosen) taken.push_back(k % static_cast<std::uint32_t>(samples));
        auto taken_buffer = to_device(ops(), taken);
        auto bits =
            to_device(ops(), std::vector<std::uint8_t>(static_cast<std::size_t>(rows * row_bytes), 0xA5));
        const std::uint32_t* order_data = ordered ? order_buffer.data() : nullptr;
        TestStates states(ops(), images * samples, units, 7);
        ops().remember(states.view(), samples, taken_buffer.data(), order_data, first.data(), bits.data(),
                       row_bytes);
        const std::vector<std::uint8_t> kept = to_host(bits);
        for (std::int64_t r = 0; r < rows; ++r) {
          const auto place = std::find(places.begin(), places.end(), r);
          for (std::int64_t b = 0; b < row_bytes; ++b) {
            int expected = 0xA5;  // as it was
            if (place != places.end()) {
              const std::int64_t i = place - places.begin();
              const std::uint8_t* row = states.row(i * samples + taken[static_cast<std::size_t>(i)]);
              expected = 0;  // behind the last unit, too
              for (std::int64_t u = 8 * b; u < std::min(units, 8 * b + 8); ++u) {
                expected |= row[u] << (7 - u % 8);
              }
            }
            ASSERT_EQ(kept[static_cast<std::size_t>(r * row_bytes + b)], expected)
                << units << " units, row " << r << " byte " << b;
          }
        }
        // Into the first of each image's samples, from epoch 5 on.
        const std::int64_t stride = padded_units(units);
        for (const std::uint32_t epoch : {4u, 5u, 6u}) {
          auto now = to_device(ops(), std::vector<std::uint32_t>{epoch});
          TestStates recalled(ops(), images * samples, units, 8);
          ops().recall({bits.data(), rows, units, row_bytes, false}, order_data, first.data(), now.data(), 5,
                       {recalled.buffer.data(), images, units, stride * samples});
          const std::vector<std::uint8_t> found = to_host(recalled.buffer);
          for (std::int64_t r = 0; r < images * samples; ++r) {
            const bool replaced = epoch >= 5 && r % samples == 0;
            const std::uint8_t* expected =
                replaced ? states.row(r + taken[static_cast<std::size_t>(r / samples)]) : recalled.row(r);
            for (std::int64_t u = 0; u < units; ++u) {
              ASSERT_EQ(found[static_cast<std::size_t>(r * stride + u)], expected[u])
                  << units << " units, row " << r << " unit " << u << ", epoch " << epoch;
            }
          }
        }
      }
    }
  }
}

TEST_P(OpsTest, SparsityFollowsTheShareOfRowsInWhichAUnitIsOn) {
  const Sparsity sparsity{0.3f, 0.7f, 0.8f};
  for (const Size& size : awkward_sizes) {
    std::vector<double> expected(static_cast<std::size_t>(size.receiving), 0.3);
    auto activation = to_device(ops(), std::vector<float>(expected.size(), 0.3f));
    auto penalty = to_device(ops(), std::vector<std::int32_t>(expected.size(), -5));
    for (std::uint32_t step = 0; step < 3; ++step) {
      TestStates states(ops(), size.rows, size.receiving, 10 + step);
      ops().sparsity(states.view(), sparsity, activation.data(), penalty.data());
      if (size.rows == 0) continue;
      const std::vector<float> means = to_host(activation);
      const std::vector<std::int32_t> penalties = to_host(penalty);
      for (std::int64_t u = 0; u < size.receiving; ++u) {
        double on = 0;
        for (std::int64_t r = 0; r < size.rows; ++r) on += states.row(r)[u];
        double& mean = expected[static_cast<std::size_t>(u)];
        mean = 0.8 * mean + 0.2 * on / static_cast<double>(size.rows);
        ASSERT_NEAR(means[static_cast<std::size_t>(u)], mean, 1e-6);
        ASSERT_NEAR(penalties[static_cast<std::size_t>(u)],
                    127 * static_cast<double>(size.rows) * 0.7 * (0.3 - mean), 0.51);
      }
    }
  }
}

TEST_P(OpsTest, CountAddsUpStates) {
  for (const Size& size : awkward_sizes) {
    TestStates states(ops(), size.rows, size.receiving, 6);
    auto counts = to_device(ops(), std::vector<std::int64_t>(static_cast<std::size_t>(size.receiving), 100));
    ops().count(states.view(), counts.data());
    const auto found = to_host(counts);
    for (std::int64_t u = 0; u < size.receiving; ++u) {
      std::int64_t on = 100;
      for (std::int64_t r = 0; r < size.rows; ++r) on += states.row(r)[u];
      EXPECT_EQ(found[static_cast<std::size_t>(u)], on);
    }
  }
}

TEST_P(OpsTest, MemoryIsCounted) {
  const MemoryUse before = ops().memory_use();
  {
    Buffer<float> buffer(ops(), 1000);
    EXPECT_EQ(ops().memory_use().current, before.current + 4000);
    buffer.fill_zero();
    EXPECT_EQ(to_host(buffer)[999], 0.0f);
  }
  EXPECT_EQ(ops().memory_use().current, before.current);
  EXPECT_EQ(ops().memory_use().allocations, before.allocations + 1);
  EXPECT_GE(ops().memory_use().peak, before.current + 4000);
}

TEST_P(OpsTest, TooWideALayerIsRefusedWithTheLimit) {
  try {
    ops().make_integer_weights(1, 65796, 16);
    FAIL() << "65,796 sending units of 16-bit weights were accepted";
  } catch (const std::exception& error) {
    EXPECT_NE(std::string(error.what()).find("65795"), std::string::npos) << error.what();
  }
}

WAKESLEEP_ON_EVERY_BACKEND(OpsTest);

}  // namespace
}  // namespace wakesleep
