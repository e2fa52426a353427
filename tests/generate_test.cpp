// Dreams, codes and reconstructions against the naive machine. Statistical comparisons use exact variances
// found by enumeration and fail beyond five standard deviations: a false alarm in 1.7 million comparisons.
#include "wakesleep/generate.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backends.hpp"
#include "reference/naive_machine.hpp"
#include "reference/small_machines.hpp"
#include "refusals.hpp"
#include "small_data.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep::testing {
namespace {

using Sizes = std::vector<std::int64_t>;
using ::testing::HasSubstr;

constexpr double five_standard_deviations = 5;
constexpr double float_error = 1e-6;  ///< of a probability in float32

class Generate : public BackendTest {};
WAKESLEEP_ON_EVERY_BACKEND(Generate);

/// prod_i p_i^x_i (1 - p_i)^(1 - x_i): the probability of x given independent units.
double probability_of(const Bits& x, const float* probabilities) {
  double product = 1;
  for (std::size_t i = 0; i < x.size(); ++i) {
    product *= x[i] != 0 ? static_cast<double>(probabilities[i]) : 1 - static_cast<double>(probabilities[i]);
  }
  return product;
}

/// The given rows of a row-major matrix of 0/1 bytes.
std::vector<Bits> rows_of(const std::vector<std::uint8_t>& states, std::size_t units) {
  std::vector<Bits> rows;
  for (std::size_t begin = 0; begin < states.size(); begin += units) {
    rows.emplace_back(states.begin() + static_cast<std::ptrdiff_t>(begin),
                      states.begin() + static_cast<std::ptrdiff_t>(begin + units));
  }
  return rows;
}

// -------------------------------------------------------------------------------- dreams

// E[p(x | h_1)] over dreams is p(x), with the variance of p(x | h_1) under p(h_1): 8 visible states a
// machine.
TEST_P(Generate, DreamsFollowTheMachinesDistribution) {
  constexpr std::size_t count = 20000;
  for (const Sizes& sizes : {Sizes{3, 2, 2}, Sizes{3, 2}, Sizes{3, 5, 2, 4}, Sizes{3, 2, 5}}) {
    const bool autoregressive = sizes.back() == 5;
    const Tensors tensors =
        autoregressive ? random_autoregressive_tensors(sizes, 3.0f, 201) : random_tensors(sizes, 3.0f, 201);
    const Machine machine = machine_of(ops(), sizes, tensors);
    const NaiveMachine naive(tensors, 16);
    const std::vector<float> dreams = dream(machine, count, 202);
    ASSERT_EQ(dreams.size(), count * 3);
    naive.for_each_visible([&](const Bits& x) {
      SCOPED_TRACE(::testing::PrintToString(sizes) + " " + ::testing::PrintToString(x));
      const double expected = std::exp(naive.log_likelihood(x));
      const double second_moment = naive.expectation_under_generation(
          [&](const Configuration& h) { return std::exp(2 * naive.generative[0].log_probability(x, h[1])); });
      double mean = 0;
      for (std::size_t d = 0; d < count; ++d) mean += probability_of(x, &dreams[d * 3]) / count;
      const double deviation = std::sqrt((second_moment - expected * expected) / count);
      EXPECT_NEAR(mean, expected, five_standard_deviations * deviation + float_error);
    });
  }
}

// A dream's probabilities tell which state the lowest hidden layer was in: Pearson's chi-squared over its 4
// states.
TEST_P(Generate, LowestHiddenStatesOfDreamsHaveTheirFrequencies) {
  constexpr std::size_t count = 20000;
  const Sizes sizes = {3, 2, 2};
  const Tensors tensors = random_tensors(sizes, 2.0f, 211);
  const Machine machine = machine_of(ops(), sizes, tensors);
  const NaiveMachine naive(tensors, 16);
  const std::vector<float> dreams = dream(machine, count, 212);
  double chi_squared = 0;
  std::size_t recognised = 0;
  for (std::uint64_t index = 0; index < 4; ++index) {
    const Bits state = bits_of(index, 2);
    const std::vector<double> p = naive.generative[0].probabilities(state);
    std::size_t found = 0;
    for (std::size_t d = 0; d < count; ++d) {
      bool same = true;
      for (std::size_t i = 0; i < 3; ++i) same = same && std::fabs(dreams[d * 3 + i] - p[i]) < float_error;
      found += same ? 1 : 0;
    }
    const double expected = count * naive.expectation_under_generation(
                                        [&](const Configuration& h) { return h[1] == state ? 1.0 : 0.0; });
    const double difference = static_cast<double>(found) - expected;
    chi_squared += difference * difference / expected;
    recognised += found;
  }
  EXPECT_EQ(recognised, count) << "every dream is the picture of one hidden state";
  EXPECT_LT(chi_squared, 30.7);  // three degrees of freedom: one false alarm in a million
}

TEST_P(Generate, DreamsDependOnSeedAndIndexAlone) {
  const Sizes sizes = {37, 19, 5};
  const Machine machine = machine_of(ops(), sizes, random_tensors(sizes, 1.0f, 221));
  EXPECT_TRUE(dream(machine, 0, 1).empty());
  const std::vector<float> dreams = dream(machine, 33, 1);
  ASSERT_EQ(dreams.size(), 33u * 37u);
  EXPECT_EQ(dream(machine, 33, 1), dreams);
  EXPECT_NE(dream(machine, 33, 2), dreams);
  EXPECT_EQ(dream(machine, 1, 1), std::vector<float>(dreams.begin(), dreams.begin() + 37));
  EXPECT_NE(dream(machine, 1, 1), std::vector<float>(dreams.begin() + 37, dreams.begin() + 74));
}

TEST_P(Generate, ManyDreamsContinueTheFewAndDoNotRepeat) {
  const Sizes sizes = {5, 33};
  const Machine machine = machine_of(ops(), sizes, random_tensors(sizes, 1.0f, 231));
  constexpr std::ptrdiff_t chunk = 4096;  // dreams that are made at a time
  const std::vector<float> many = dream(machine, 3 * chunk + 1, 3);
  const std::vector<float> first(many.begin(), many.begin() + 5 * chunk);
  const std::vector<float> second(many.begin() + 5 * chunk, many.begin() + 10 * chunk);
  const std::vector<float> third(many.begin() + 10 * chunk, many.begin() + 15 * chunk);
  EXPECT_EQ(dream(machine, chunk, 3), first);
  EXPECT_NE(first, second);
  EXPECT_NE(second, third);
  EXPECT_EQ(many.size(), static_cast<std::size_t>(15 * chunk + 5));
}

// -------------------------------------------------------------------------------- codes

TEST_P(Generate, CodesAreTheProbabilitiesGivenTheSampledStatesBelow) {
  const Sizes sizes = {37, 19, 5, 33};
  const Tensors tensors = random_tensors(sizes, 1.0f, 241);
  const Machine machine = machine_of(ops(), sizes, tensors);
  const NaiveMachine naive(tensors, 16);
  for (const std::size_t count : {1u, 31u, 33u}) {
    const std::vector<Bits> rows = random_rows(count, 37, 242);
    const DataSet data = data_set_of(rows);
    for (std::size_t layer = 1; layer <= naive.layers(); ++layer) {
      SCOPED_TRACE(std::to_string(count) + " rows, layer " + std::to_string(layer));
      const auto units = static_cast<std::size_t>(sizes[layer]);
      const std::vector<Bits> below =
          layer == 1 ? rows
                     : rows_of(encode_states(machine, data, static_cast<int>(layer) - 1, 7),
                               static_cast<std::size_t>(sizes[layer - 1]));
      const std::vector<float> codes = encode(machine, data, static_cast<int>(layer), 7);
      ASSERT_EQ(codes.size(), count * units);
      for (std::size_t r = 0; r < count; ++r) {
        const std::vector<double> expected = naive.recognition[layer - 1].probabilities(below[r]);
        for (std::size_t i = 0; i < units; ++i) ASSERT_NEAR(codes[r * units + i], expected[i], float_error);
      }
    }
  }
}

// The states of the top layer, whose probabilities depend on the sampled states below: their mean over many
// equal rows against the enumerated one, with a Bernoulli variance.
TEST_P(Generate, EncodedStatesHaveTheirFrequencies) {
  constexpr std::size_t count = 10000;
  const Sizes sizes = {4, 3, 2};
  const Tensors tensors = random_tensors(sizes, 2.0f, 251);
  const Machine machine = machine_of(ops(), sizes, tensors);
  const NaiveMachine naive(tensors, 16);
  const Bits x = {1, 0, 1, 1};
  const DataSet data = data_set_of(std::vector<Bits>(count, x));
  for (std::size_t layer = 1; layer <= 2; ++layer) {
    const auto units = static_cast<std::size_t>(sizes[layer]);
    const std::vector<Bits> states =
        rows_of(encode_states(machine, data, static_cast<int>(layer), 252), units);
    ASSERT_EQ(states.size(), count);
    for (std::size_t i = 0; i < units; ++i) {
      double mean = 0;
      for (const Bits& row : states) mean += row[i] / static_cast<double>(count);
      const double expected = naive.expectation_under_recognition(
          x, [&](const Configuration& h) { return static_cast<double>(h[layer][i]); });
      EXPECT_NEAR(mean, expected, five_standard_deviations * std::sqrt(expected * (1 - expected) / count))
          << "layer " << layer << " unit " << i;
    }
  }
}

// -------------------------------------------------------------------------------- reconstructions

TEST_P(Generate, ReconstructionsThroughOneLayerAreThePicturesOfTheirCodes) {
  const Sizes sizes = {37, 19};
  const Tensors tensors = random_tensors(sizes, 1.0f, 261);
  const Machine machine = machine_of(ops(), sizes, tensors);
  const NaiveMachine naive(tensors, 16);
  const DataSet data = data_set_of(random_rows(33, 37, 262));
  const std::vector<Bits> states = rows_of(encode_states(machine, data, 1, 9), 19);
  const std::vector<float> reconstructions = reconstruct(machine, data, 9);
  ASSERT_EQ(reconstructions.size(), 33u * 37u);
  for (std::size_t r = 0; r < 33; ++r) {
    const std::vector<double> expected = naive.generative[0].probabilities(states[r]);
    for (std::size_t i = 0; i < 37; ++i) ASSERT_NEAR(reconstructions[r * 37 + i], expected[i], float_error);
  }
}

// Up through q and down through p: the mean picture of many equal rows against its enumeration.
TEST_P(Generate, ReconstructionsThroughTwoLayersHaveTheirMean) {
  constexpr std::size_t count = 10000;
  const Sizes sizes = {4, 3, 2};
  const Tensors tensors = random_tensors(sizes, 2.0f, 271);
  const Machine machine = machine_of(ops(), sizes, tensors);
  const NaiveMachine naive(tensors, 16);
  const Bits x = {0, 1, 1, 0};
  const std::vector<float> reconstructions =
      reconstruct(machine, data_set_of(std::vector<Bits>(count, x)), 272);
  ASSERT_EQ(reconstructions.size(), count * 4);
  for (std::size_t i = 0; i < 4; ++i) {
    // E over h_2 ~ q(. | x), then h_1 ~ p(. | h_2), of the pixel's probability and of its square.
    double expected = 0, second_moment = 0;
    for (std::uint64_t below = 0; below < 8; ++below) {
      const Bits h1 = bits_of(below, 3);
      const double weight = naive.expectation_under_recognition(
          x, [&](const Configuration& h) { return std::exp(naive.generative[1].log_probability(h1, h[2])); });
      const double pixel = naive.generative[0].probabilities(h1)[i];
      expected += weight * pixel;
      second_moment += weight * pixel * pixel;
    }
    double mean = 0;
    for (std::size_t r = 0; r < count; ++r) mean += reconstructions[r * 4 + i] / static_cast<double>(count);
    const double deviation = std::sqrt((second_moment - expected * expected) / count);
    EXPECT_NEAR(mean, expected, five_standard_deviations * deviation + float_error) << "pixel " << i;
  }
}

// With weights of zero the way up and the way down sample the same fair coins unless their addresses differ.
TEST_P(Generate, TheWayDownDrawsAnew) {
  const Sizes sizes = {8, 16, 16};
  Tensors tensors = random_tensors(sizes, 0.0f, 281);
  for (std::int64_t i = 0; i < 8; ++i) {  // pixel i shows unit i of the lowest hidden layer
    tensors["generative.1.weight"].values[static_cast<std::size_t>(i * 16 + i)] = 10;
    tensors["generative.1.bias"].values[static_cast<std::size_t>(i)] = -5;
  }
  const Machine machine = machine_of(ops(), sizes, tensors);
  const DataSet data = data_set_of(random_rows(20, 8, 282));
  const std::vector<float> shown = reconstruct(machine, data, 11);
  const std::vector<std::uint8_t> upward = encode_states(machine, data, 1, 11);
  int different = 0;
  for (std::size_t r = 0; r < 20; ++r) {
    for (std::size_t i = 0; i < 8; ++i)
      different += (shown[r * 8 + i] > 0.5f) != (upward[r * 16 + i] != 0) ? 1 : 0;
  }
  // 160 fair coins: outside 45 .. 115 once in fifty million seeds.
  EXPECT_GT(different, 45);
  EXPECT_LT(different, 115);
}

TEST_P(Generate, CodesAndReconstructionsDependOnSeedAndRowAlone) {
  const Sizes sizes = {9, 6, 4};
  const Machine machine = machine_of(ops(), sizes, random_tensors(sizes, 1.0f, 291));
  std::vector<Bits> rows = random_rows(40, 9, 292);
  const DataSet data = data_set_of(rows);
  const std::vector<float> all = reconstruct(machine, data, 13);
  EXPECT_EQ(reconstruct(machine, data, 13), all);
  EXPECT_NE(reconstruct(machine, data, 14), all);
  rows.resize(7);
  EXPECT_EQ(reconstruct(machine, data_set_of(rows), 13),
            std::vector<float>(all.begin(), all.begin() + 7 * 9));
  const std::vector<float> codes = encode(machine, data, 2, 13);
  EXPECT_EQ(encode(machine, data_set_of(rows), 2, 13),
            std::vector<float>(codes.begin(), codes.begin() + 7 * 4));
  EXPECT_NE(encode(machine, data, 2, 14), codes);
}

// -------------------------------------------------------------------------------- bad arguments

TEST(GenerateArguments, UnusableOnesAreRefused) {
  const std::unique_ptr<Ops> ops = make_cpu_ops();
  const Sizes sizes = {3, 2, 2};
  const Machine machine = machine_of(*ops, sizes, random_tensors(sizes, 1.0f, 301));
  const DataSet data = data_set_of({{1, 0, 1}});
  const auto layer_limits = HasSubstr("hidden layers are 1 to 2");
  EXPECT_THAT(message_of<UsageError>([&] { encode(machine, data, 0, 1); }), layer_limits);
  EXPECT_THAT(message_of<UsageError>([&] { encode(machine, data, 3, 1); }), layer_limits);
  EXPECT_THAT(message_of<UsageError>([&] { encode_states(machine, data, 3, 1); }), layer_limits);
  EXPECT_THAT(message_of<UsageError>([&] { dream(machine, -1, 1); }), HasSubstr("number of dreams is -1"));

  const DataSet wide = data_set_of({{1, 0, 1, 1}});
  const auto sizes_named = ::testing::AllOf(HasSubstr("4 units"), HasSubstr("3 visible units"));
  EXPECT_THAT(message_of<DataError>([&] { encode(machine, wide, 1, 1); }), sizes_named);
  EXPECT_THAT(message_of<DataError>([&] { reconstruct(machine, wide, 1); }), sizes_named);

  const DataSet grey = grey_data(3, {10, 128, 255});
  EXPECT_THAT(message_of<UsageError>([&] { encode_states(machine, grey, 1, 1); }), HasSubstr("binarize"));
}

}  // namespace
}  // namespace wakesleep::testing
