// The likelihood, estimated and exact, against a naive machine that visits every hidden state in double
// precision.
//
// Statistical comparisons use the exact variance of what they compare, found by enumeration, and fail beyond
// five standard deviations: a false alarm in 1.7 million comparisons. Seeds are fixed, so a test that passes
// keeps passing.
#include "wakesleep/evaluate.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "backends.hpp"
#include "reference/naive_machine.hpp"
#include "reference/small_machines.hpp"
#include "refusals.hpp"
#include "small_data.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/philox.hpp"

namespace wakesleep::testing {
namespace {

using Sizes = std::vector<std::int64_t>;
using ::testing::HasSubstr;

constexpr double five_standard_deviations = 5;

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double standard_error_of(const std::vector<double>& values) {
  const double mean = mean_of(values);
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  const double count = static_cast<double>(values.size());
  return std::sqrt(squares / (count - 1)) / std::sqrt(count);
}

Evaluation evaluate_with(const Machine& machine, const std::vector<Bits>& rows, std::int64_t samples,
                         std::uint64_t seed = 5) {
  EvaluationSettings settings;
  settings.samples = samples;
  settings.seed = seed;
  return evaluate(machine, data_set_of(rows), settings);
}

/// Every field, to the last bit.
void expect_identical(const Evaluation& a, const Evaluation& b) {
  EXPECT_EQ(a.rows, b.rows);
  EXPECT_EQ(a.samples, b.samples);
  EXPECT_EQ(a.log_likelihood, b.log_likelihood);
  EXPECT_EQ(a.standard_error, b.standard_error);
  EXPECT_EQ(a.bound, b.bound);
  EXPECT_EQ(a.bound_standard_error, b.bound_standard_error);
  EXPECT_EQ(a.effective_sample_size, b.effective_sample_size);
  EXPECT_EQ(a.layer_kl, b.layer_kl);
  EXPECT_EQ(a.active_units, b.active_units);
  EXPECT_EQ(a.layer_mismatch, b.layer_mismatch);
}

// -------------------------------------------------------------------------------- the very samples, by hand

/// The posterior sample at the documented addresses: unit u of layer l takes word u mod 4 of the block at
/// (u / 4, row of the file, k, evaluation_sample | l), and is on when word / 2^32 < sigma(a).
Configuration sample_at_addresses(const NaiveMachine& machine, const Bits& x, std::uint32_t row,
                                  std::uint32_t k, std::uint64_t seed) {
  Configuration h = {x};
  for (std::size_t l = 1; l <= machine.layers(); ++l) {
    const std::vector<double> probabilities = machine.recognition[l - 1].probabilities(h[l - 1]);
    Bits states;
    for (std::uint32_t unit = 0; unit < probabilities.size(); ++unit) {
      const PhiloxBlock block =
          philox4x32_10(draw_counter(unit / 4, row, k,
                                     domain_word(Domain::evaluation_sample, static_cast<std::uint32_t>(l))),
                        seed);
      states.push_back(block.word[unit % 4] / 4294967296.0 < probabilities[unit] ? 1 : 0);
    }
    h.push_back(states);
  }
  return h;
}

/// Every number of an Evaluation from its definition.
Evaluation evaluate_by_hand(const NaiveMachine& machine, const std::vector<Bits>& rows, std::uint32_t samples,
                            std::uint64_t seed) {
  std::vector<double> estimates, bounds, effective;
  std::vector<double> layer_kl(machine.layers()), layer_mismatch(machine.layers());
  std::vector<std::vector<std::int64_t>> on(machine.layers());
  const double draws = static_cast<double>(rows.size()) * samples;
  for (std::uint32_t r = 0; r < rows.size(); ++r) {
    std::vector<double> log_weights, twice;
    for (std::uint32_t k = 0; k < samples; ++k) {
      const Configuration h = sample_at_addresses(machine, rows[r], r, k, seed);
      log_weights.push_back(machine.log_weight(h));
      twice.push_back(2 * log_weights.back());
      for (std::size_t l = 1; l <= machine.layers(); ++l) {
        layer_kl[l - 1] += (machine.log_q(l, h) - machine.log_p(l, h)) / draws;
        on[l - 1].resize(h[l].size());
        for (std::size_t unit = 0; unit < h[l].size(); ++unit) on[l - 1][unit] += h[l][unit];
        if (k > 0) continue;
        const std::vector<double> q = machine.recognition[l - 1].probabilities(h[l - 1]);
        const std::vector<double> p = l == machine.layers()
                                          ? machine.prior.probabilities(machine.prior_input(h))
                                          : machine.generative[l].probabilities(h[l + 1]);
        for (std::size_t unit = 0; unit < q.size(); ++unit) {
          layer_mismatch[l - 1] += std::fabs(q[unit] - p[unit]) / static_cast<double>(rows.size() * q.size());
        }
      }
    }
    const double log_sum = naive_log_sum_exp(log_weights);
    estimates.push_back(log_sum - std::log(samples));
    bounds.push_back(mean_of(log_weights));
    effective.push_back(std::exp(2 * log_sum - naive_log_sum_exp(twice)));
  }
  Evaluation result;
  result.log_likelihood = mean_of(estimates);
  result.standard_error = standard_error_of(estimates);
  result.bound = mean_of(bounds);
  result.bound_standard_error = standard_error_of(bounds);
  result.effective_sample_size = mean_of(effective);
  result.layer_kl = layer_kl;
  result.layer_mismatch = layer_mismatch;
  for (const std::vector<std::int64_t>& counts : on) {
    std::int64_t active = 0;
    for (const std::int64_t count : counts) {
      const double share = static_cast<double>(count) / draws;
      active += share >= 0.01 && share <= 0.99 ? 1 : 0;
    }
    result.active_units.push_back(active);
  }
  return result;
}

// -------------------------------------------------------------------------------- the estimate

class Evaluate : public BackendTest {};
WAKESLEEP_ON_EVERY_BACKEND(Evaluate);

TEST_P(Evaluate, EveryNumberFollowsFromTheSamplesAtTheDocumentedAddresses) {
  const std::uint64_t seed = 0x123456789abcdefull;
  for (const auto& [sizes, bits] :
       {std::pair<Sizes, int>{{13, 7, 5, 3}, 16}, {{9, 6, 1}, 12}, {{5, 1}, 8}, {{33, 31, 65, 2, 9}, 16}}) {
    SCOPED_TRACE(::testing::PrintToString(sizes));
    const bool odd = sizes.size() % 2 == 1;  // every other machine has an autoregressive prior
    const Tensors tensors =
        odd ? random_autoregressive_tensors(sizes, 1.5f, 11) : random_tensors(sizes, 1.5f, 11);
    const Machine machine = machine_of(ops(), sizes, tensors, bits);
    const std::vector<Bits> rows = random_rows(9, sizes[0], 12);
    const Evaluation expected = evaluate_by_hand(NaiveMachine(tensors, bits), rows, 35, seed);
    const Evaluation evaluation = evaluate_with(machine, rows, 35, seed);
    // Each unit's log-probability is rounded to 2^-20 nats and has float32's error: below 1e-5 nats a unit.
    const double tolerance =
        1e-5 * static_cast<double>(std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}));
    EXPECT_EQ(evaluation.rows, 9);
    EXPECT_EQ(evaluation.samples, 35);
    EXPECT_NEAR(evaluation.log_likelihood, expected.log_likelihood, tolerance);
    EXPECT_NEAR(evaluation.standard_error, expected.standard_error, tolerance);
    EXPECT_NEAR(evaluation.bound, expected.bound, tolerance);
    EXPECT_NEAR(evaluation.bound_standard_error, expected.bound_standard_error, tolerance);
    EXPECT_NEAR(evaluation.effective_sample_size, expected.effective_sample_size,
                2 * tolerance * expected.effective_sample_size);
    ASSERT_EQ(evaluation.layer_kl.size(), expected.layer_kl.size());
    for (std::size_t i = 0; i < expected.layer_kl.size(); ++i) {
      EXPECT_NEAR(evaluation.layer_kl[i], expected.layer_kl[i], tolerance) << "hidden layer " << i + 1;
      EXPECT_NEAR(evaluation.layer_mismatch.at(i), expected.layer_mismatch[i], 1e-6) << i + 1;
    }
    EXPECT_EQ(evaluation.active_units, expected.active_units);
  }
}

/// Exact moments, under q(h | x), of what an evaluation averages over its samples.
struct ExactMoments {
  double log_likelihood = 0;
  double relative_variance = 0;   ///< of the importance weight
  double effective_share = 0;     ///< limit of (effective sample size) / K
  double effective_variance = 0;  ///< K times the variance of log(effective sample size / K)
  double bound = 0, bound_variance = 0;
  std::vector<double> kl, kl_variance;
};

ExactMoments exact_moments(const NaiveMachine& machine, const Bits& x) {
  ExactMoments exact;
  exact.log_likelihood = machine.log_likelihood(x);
  double moment[5] = {};  // E[(w / E[w])^n]
  for (int n = 1; n <= 4; ++n) {
    moment[n] = machine.expectation_under_recognition(x, [&](const Configuration& h) {
      return std::exp(n * (machine.log_weight(h) - exact.log_likelihood));
    });
  }
  exact.relative_variance = moment[2] - 1;
  exact.effective_share = 1 / moment[2];
  // log A^2 / B with A = mean w, B = mean w^2: to first order 2 (A - 1) - (B - E[B]) / E[B].
  exact.effective_variance =
      4 * (moment[2] - 1) + moment[4] / (moment[2] * moment[2]) - 1 - 4 * (moment[3] - moment[2]) / moment[2];
  const auto variance = [&](double mean, auto value) {
    return machine.expectation_under_recognition(
        x, [&](const Configuration& h) { return (value(h) - mean) * (value(h) - mean); });
  };
  exact.bound = machine.bound(x);
  exact.bound_variance = variance(exact.bound, [&](const Configuration& h) { return machine.log_weight(h); });
  for (std::size_t l = 1; l <= machine.layers(); ++l) {
    exact.kl.push_back(machine.layer_kl(x, l));
    exact.kl_variance.push_back(variance(
        exact.kl.back(), [&](const Configuration& h) { return machine.log_q(l, h) - machine.log_p(l, h); }));
  }
  return exact;
}

// 4 rows x (3 + layers) comparisons on each of two machines: 44, so a false alarm in 39,000 choices of seed.
TEST_P(Evaluate, EstimateBoundAndLayerKlMeetTheEnumeration) {
  constexpr std::int64_t samples = 100000;
  for (const auto& [sizes, scale] : {std::pair<Sizes, float>{{6, 5, 4, 3}, 0.7f}, {{9, 6, 1}, 1.0f}}) {
    const Tensors tensors = random_tensors(sizes, scale, 21);
    const Machine machine = machine_of(ops(), sizes, tensors);
    const NaiveMachine naive(tensors, 16);
    for (const Bits& x : random_rows(4, sizes[0], 22)) {
      SCOPED_TRACE(::testing::PrintToString(sizes) + " " + ::testing::PrintToString(x));
      const ExactMoments exact = exact_moments(naive, x);
      const Evaluation evaluation = evaluate_with(machine, {x}, samples);
      const auto deviations = [&](double difference, double variance) {
        return difference / std::sqrt(variance / static_cast<double>(samples));
      };
      // The logarithm's second-order bias, -relative variance / 2K, is known and small.
      const double relative = exact.relative_variance / static_cast<double>(samples);
      ASSERT_LT(relative, 0.01) << "q is too far from the posterior for this comparison to say much";
      ASSERT_LT(exact.effective_variance / static_cast<double>(samples), 0.01);
      EXPECT_LT(std::fabs(deviations(evaluation.log_likelihood + relative / 2 - exact.log_likelihood,
                                     exact.relative_variance)),
                five_standard_deviations);
      EXPECT_LT(std::fabs(deviations(evaluation.bound - exact.bound, exact.bound_variance)),
                five_standard_deviations);
      EXPECT_LT(
          std::fabs(deviations(std::log(evaluation.effective_sample_size / static_cast<double>(samples)) -
                                   std::log(exact.effective_share),
                               exact.effective_variance)),
          five_standard_deviations);
      for (std::size_t i = 0; i < exact.kl.size(); ++i) {
        EXPECT_LT(std::fabs(deviations(evaluation.layer_kl[i] - exact.kl[i], exact.kl_variance[i])),
                  five_standard_deviations)
            << "hidden layer " << i + 1;
      }
      EXPECT_EQ(evaluation.standard_error, 0) << "one row has no spread";
    }
  }
}

TEST_P(Evaluate, OneSampleGivesTheBound) {
  const Sizes sizes = {9, 6, 4};
  const Machine machine = machine_of(ops(), sizes, random_tensors(sizes, 1.5f, 31));
  const Evaluation evaluation = evaluate_with(machine, random_rows(33, 9, 32), 1);
  EXPECT_EQ(evaluation.log_likelihood, evaluation.bound);
  EXPECT_EQ(evaluation.standard_error, evaluation.bound_standard_error);
  EXPECT_GT(evaluation.standard_error, 0);
  EXPECT_EQ(evaluation.effective_sample_size, 1);
}

// When q is the exact posterior, every weight is p(x): no sample is better than another and the bound is
// tight.
TEST_P(Evaluate, ExactPosteriorGivesFullEffectiveSampleSize) {
  const Sizes sizes = {7, 3};
  Tensors tensors = random_tensors(sizes, 1.0f, 41);
  for (float& weight : tensors["generative.1.weight"].values) weight = 0;
  for (float& weight : tensors["recognition.1.weight"].values) weight = 0;
  tensors["recognition.1.bias"] = tensors["prior.bias"];
  const Machine machine = machine_of(ops(), sizes, tensors);
  const Evaluation evaluation = evaluate_with(machine, random_rows(5, 7, 42), 1000);
  EXPECT_EQ(evaluation.effective_sample_size, 1000);
  EXPECT_EQ(evaluation.layer_kl[0], 0);
  EXPECT_NEAR(evaluation.log_likelihood, evaluation.bound, 1e-9);
}

TEST_P(Evaluate, EstimateRisesWithTheNumberOfSamplesTowardsTheExactValue) {
  const Sizes sizes = {12, 8, 4};
  const Machine machine = machine_of(ops(), sizes, random_tensors(sizes, 1.0f, 51));
  const std::vector<Bits> rows = random_rows(40, 12, 52);
  std::vector<double> estimates;
  for (const std::int64_t samples : {1, 10, 100, 1000}) {
    estimates.push_back(evaluate_with(machine, rows, samples).log_likelihood);
  }
  const double exact = mean_of(exact_log_likelihood(machine, data_set_of(rows)));
  EXPECT_LT(estimates[0] + 0.5, estimates[1]);
  EXPECT_LT(estimates[1] + 0.1, estimates[2]);
  EXPECT_LT(estimates[2], estimates[3]);
  EXPECT_LT(exact - estimates[3], 0.1 * (exact - estimates[0]));
  EXPECT_LT(estimates[3], exact + 0.1);
}

TEST_P(Evaluate, UnitsThatHardlyChangeAreNotActive) {
  const Sizes sizes = {3, 6, 2};
  Tensors tensors = random_tensors(sizes, 1.0f, 61);
  for (float& weight : tensors["recognition.1.weight"].values) weight = 0;
  tensors["recognition.1.bias"].values = {-8, 8, -3,
                                          3,  0, -100};  // on in 0.03 %, 99.97 %, 5 %, 95 %, 50 % and never
  for (float& weight : tensors["recognition.2.weight"].values) weight = 0;
  tensors["recognition.2.bias"].values = {20, 20};
  const Machine machine = machine_of(ops(), sizes, tensors);
  EXPECT_THAT(evaluate_with(machine, random_rows(10, 3, 62), 500).active_units, ::testing::ElementsAre(3, 0));
}

// -------------------------------------------------------------------------------- chunks, memory

TEST_P(Evaluate, AnyChunkingGivesTheSameNumbers) {
  const Sizes sizes = {37, 19, 5};
  const Machine machine = machine_of(ops(), sizes, random_tensors(sizes, 0.5f, 71));
  const DataSet data = data_set_of(random_rows(7, 37, 72));
  for (const std::int64_t samples : {1, 7, 33}) {
    EvaluationSettings settings;
    settings.samples = samples;
    const Evaluation whole = evaluate(machine, data, settings);
    // With 33 samples: single samples, pieces of four, single images, two images, five images and then two.
    for (const std::int64_t memory : {1, 700, 5000, 10000, 25000}) {
      SCOPED_TRACE(std::to_string(samples) + " samples in " + std::to_string(memory) + " bytes");
      settings.memory_bytes = memory;
      expect_identical(evaluate(machine, data, settings), whole);
    }
  }
}

TEST_P(Evaluate, RecordedNumbers) {
  const Sizes sizes = {37, 19, 5};
  const Machine machine = machine_of(ops(), sizes, random_tensors(sizes, 0.5f, 71));
  const Evaluation evaluation = evaluate_with(machine, random_rows(7, 37, 72), 33, 1);
  // To the last bit: what decides about plateaus must not depend on the machine (docs/numerics.md).
  EXPECT_EQ(evaluation.log_likelihood, -31.09315814134165);
  EXPECT_EQ(evaluation.bound, -34.596059939561982);
  EXPECT_EQ(evaluation.effective_sample_size, 3.6755135734554396);
  EXPECT_THAT(evaluation.layer_kl, ::testing::ElementsAre(3.3488036853410463, 0.74242301627154994));
  EXPECT_EQ(evaluation.layer_mismatch.at(0), 0.23757672061989629);
  EXPECT_EQ(evaluation.layer_mismatch.at(1), 0.19914200348513467);
  EXPECT_THAT(evaluation.active_units, ::testing::ElementsAre(19, 5));
}

TEST_P(Evaluate, WorkingMemoryKeepsItsBound) {
  const Sizes sizes = {100, 70, 30, 60};
  const Machine machine = machine_of(ops(), sizes, random_tensors(sizes, 0.5f, 81));
  const DataSet data = data_set_of(random_rows(12, 100, 82));
  EvaluationSettings settings;
  for (const auto& [samples, memory] : {std::pair<std::int64_t, std::int64_t>{100, 200000}, {1000, 100000}}) {
    settings.samples = samples;
    settings.memory_bytes = memory;
    evaluate(machine, data, settings);  // leaves the backend's own scratch memory for the products behind
    const std::size_t before = ops().memory_use().current;
    ops().reset_peak();
    evaluate(machine, data, settings);
    const auto used = static_cast<std::int64_t>(ops().memory_use().peak - before);
    // Beside the bound stand the data, a few words per layer and unit, and one image's log weights if they
    // are many.
    const std::int64_t beside = static_cast<std::int64_t>(data.bytes.size()) + 4096;
    EXPECT_LE(used, memory + beside + (samples == 1000 ? 1000 * 8 : 0));
    // Where the products' scratch memory grows with the rows, it takes its share of the bound.
    if (ops().scratch_bytes_per_row(machine.generative(1)) == 0) {
      EXPECT_GE(used, memory / 2) << "chunks are much smaller than the memory allows";
    }
    EXPECT_EQ(ops().memory_use().current, before);
  }
}

TEST_P(Evaluate, LimitTakesTheFirstRowsAndProgressReachesTheirNumber) {
  const Sizes sizes = {8, 3};
  const Machine machine = machine_of(ops(), sizes, random_tensors(sizes, 1.0f, 91));
  std::vector<Bits> rows = random_rows(33, 8, 92);
  EvaluationSettings settings;
  settings.samples = 4;
  settings.limit = 31;
  settings.memory_bytes = 3000;
  std::vector<std::int64_t> done;
  settings.progress = [&](std::int64_t rows_done, std::int64_t rows_total) {
    done.push_back(rows_done);
    EXPECT_EQ(rows_total, 31);
  };
  const Evaluation limited = evaluate(machine, data_set_of(rows), settings);
  EXPECT_EQ(limited.rows, 31);
  ASSERT_GT(done.size(), 1u);
  EXPECT_EQ(done.back(), 31);
  for (std::size_t i = 1; i < done.size(); ++i) EXPECT_LT(done[i - 1], done[i]);

  settings.limit = 1000;
  settings.progress = nullptr;
  rows.resize(31);
  expect_identical(evaluate(machine, data_set_of(rows), settings), limited);
}

TEST_P(Evaluate, SeedDecidesTheSamples) {
  const Sizes sizes = {8, 5, 3};
  const Machine machine = machine_of(ops(), sizes, random_tensors(sizes, 1.0f, 101));
  const std::vector<Bits> rows = random_rows(3, 8, 102);
  expect_identical(evaluate_with(machine, rows, 10, 7), evaluate_with(machine, rows, 10, 7));
  EXPECT_NE(evaluate_with(machine, rows, 10, 7).bound, evaluate_with(machine, rows, 10, 8).bound);
  EXPECT_NE(evaluate_with(machine, rows, 10, 7).bound,
            evaluate_with(machine, rows, 10, 7 + (1ull << 32)).bound);
}

// -------------------------------------------------------------------------------- exact likelihood

class ExactLikelihood : public BackendTest {};
WAKESLEEP_ON_EVERY_BACKEND(ExactLikelihood);

TEST_P(ExactLikelihood, MeetsTheSumOverAllHiddenStates) {
  // The last machine but one has states that differ in probability by factors far below the smallest double.
  const std::vector<std::pair<Sizes, float>> machines = {
      {{6, 5, 4, 3}, 2.0f}, {{9, 6, 1}, 2.0f},   {{5, 4}, 1.0f},   {{4, 1, 1}, 1.0f},
      {{1, 1}, 3.0f},       {{6, 4, 3}, 400.0f}, {{1030, 5}, 0.3f}};
  for (const auto& [sizes, scale] : machines) {
    for (const int bits : {16, 12, 8}) {
      SCOPED_TRACE(::testing::PrintToString(sizes) + " with " + std::to_string(bits) + "-bit weights");
      for (const Tensors& tensors :
           {random_tensors(sizes, scale, 111), random_autoregressive_tensors(sizes, scale, 111)}) {
        const Machine machine = machine_of(ops(), sizes, tensors, bits);
        const NaiveMachine naive(tensors, bits);
        const std::vector<Bits> rows = random_rows(5, sizes[0], 112);
        const std::vector<double> exact = exact_log_likelihood(machine, data_set_of(rows));
        ASSERT_EQ(exact.size(), rows.size());
        for (std::size_t r = 0; r < rows.size(); ++r) {
          const double expected = naive.log_likelihood(rows[r]);
          EXPECT_NEAR(exact[r], expected, 1e-12 * (1 + std::fabs(expected)))
              << "row " << r << ", prior " << name_of(prior_of(tensors));
        }
      }
    }
  }
}

TEST_P(ExactLikelihood, SumsToOneOverAllVisibleStates) {
  const Sizes sizes = {4, 3, 2};
  const Machine machine = machine_of(ops(), sizes, random_tensors(sizes, 3.0f, 121));
  std::vector<Bits> all;
  for (std::uint64_t index = 0; index < 16; ++index) all.push_back(bits_of(index, 4));
  double sum = 0;
  for (const double log_probability : exact_log_likelihood(machine, data_set_of(all)))
    sum += std::exp(log_probability);
  EXPECT_NEAR(sum, 1, 1e-13);
}

TEST_P(ExactLikelihood, LimitTakesTheFirstRows) {
  const Sizes sizes = {5, 3};
  const Machine machine = machine_of(ops(), sizes, random_tensors(sizes, 1.0f, 131));
  const DataSet data = data_set_of(random_rows(4, 5, 132));
  std::vector<double> all = exact_log_likelihood(machine, data);
  EXPECT_EQ(exact_log_likelihood(machine, data, 9), all);
  all.resize(3);
  EXPECT_EQ(exact_log_likelihood(machine, data, 3), all);
}

// The widest layers that are accepted. The visible units ignore the hidden ones here, so the answer is known.
TEST(ExactLikelihoodLimits, WidestLayersAreAccepted) {
  const std::unique_ptr<Ops> ops = make_cpu_ops();
  for (const Sizes& sizes : {Sizes{3, 20}, Sizes{3, 12, 12}, Sizes{3, 4, 20}}) {
    SCOPED_TRACE(::testing::PrintToString(sizes));
    Tensors tensors = random_tensors(sizes, 1.0f, 141);
    for (float& weight : tensors["generative.1.weight"].values) weight = 0;
    const Machine machine = machine_of(*ops, sizes, tensors);
    const Bits x = {1, 0, 1};
    double expected = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      const double bias = tensors["generative.1.bias"].values[i];
      expected += naive_log_sigmoid(x[i] != 0 ? bias : -bias);
    }
    EXPECT_NEAR(exact_log_likelihood(machine, data_set_of({x})).at(0), expected, 1e-10);
  }
}

TEST(ExactLikelihoodLimits, WiderLayersAreRefusedNamingTheLimit) {
  const std::unique_ptr<Ops> ops = make_cpu_ops();
  const DataSet data = data_set_of({{1, 0, 1}});
  const auto refusal = [&](const Sizes& sizes) {
    return message_of<UsageError>([&] { exact_log_likelihood(Machine(*ops, sizes, 16), data); });
  };
  EXPECT_THAT(refusal({3, 21}), HasSubstr("hidden layer 1 of 21 units, but the limit is 20"));
  EXPECT_THAT(refusal({3, 1, 21}), HasSubstr("hidden layer 2 of 21 units, but the limit is 20"));
  EXPECT_THAT(refusal({3, 13, 12}), HasSubstr("hidden layers 1 and 2 of 25 units, but the limit is 24"));
  EXPECT_THAT(refusal({3, 2, 16, 9, 2}), HasSubstr("hidden layers 2 and 3 of 25 units, but the limit is 24"));
}

TEST(ExactLikelihoodLimits, DivergedWeightsAreRefused) {
  const std::unique_ptr<Ops> ops = make_cpu_ops();
  const Sizes sizes = {3, 2};
  const Machine machine = machine_of(*ops, sizes, random_tensors(sizes, 1.0f, 151));
  const float huge = 1e30f;
  ops->copy_in(machine.generative(1).weight.row(1), &huge, sizeof(huge));
  const std::string message = message_of<DivergenceError>([&] {
    exact_log_likelihood(machine, data_set_of({{1, 0, 1}}));
  });
  EXPECT_THAT(message, HasSubstr("row 1 of generative.1.weight"));
}

// -------------------------------------------------------------------------------- bad arguments

TEST(EvaluateArguments, UnusableOnesAreRefused) {
  const std::unique_ptr<Ops> ops = make_cpu_ops();
  const Sizes sizes = {3, 2};
  const Machine machine = machine_of(*ops, sizes, random_tensors(sizes, 1.0f, 161));
  const DataSet data = data_set_of({{1, 0, 1}});
  const auto usage_error = [&](auto change) {
    EvaluationSettings settings;
    change(settings);
    return message_of<UsageError>([&] { evaluate(machine, data, settings); });
  };
  EXPECT_THAT(usage_error([](auto& s) { s.samples = 0; }), HasSubstr("between 1 and 8388607"));
  EXPECT_THAT(usage_error([](auto& s) { s.samples = 8388608; }), HasSubstr("between 1 and 8388607"));
  EXPECT_THAT(usage_error([](auto& s) { s.memory_bytes = 0; }), HasSubstr("working memory"));
  EXPECT_THAT(usage_error([](auto& s) { s.limit = -1; }), HasSubstr("limit on the rows of test rows is -1"));
}

TEST(EvaluateArguments, DataThatDoesNotFitIsRefused) {
  const std::unique_ptr<Ops> ops = make_cpu_ops();
  const Sizes sizes = {3, 2};
  const Machine machine = machine_of(*ops, sizes, random_tensors(sizes, 1.0f, 171));
  const DataSet wide = data_set_of({{1, 0, 1, 1}});
  const auto sizes_named = ::testing::AllOf(HasSubstr("4 units"), HasSubstr("3 visible units"));
  EXPECT_THAT(message_of<DataError>([&] { evaluate(machine, wide, {}); }), sizes_named);
  EXPECT_THAT(message_of<DataError>([&] { exact_log_likelihood(machine, wide); }), sizes_named);

  const DataSet grey = grey_data(3, {10, 128, 255});
  EXPECT_THAT(message_of<UsageError>([&] { evaluate(machine, grey, {}); }), HasSubstr("binarize"));
  EXPECT_THAT(message_of<UsageError>([&] { exact_log_likelihood(machine, grey); }), HasSubstr("binarize"));

  DataSet empty = data_set_of({{1, 0, 1}});
  empty.rows = 0;
  empty.bytes.clear();
  EXPECT_THAT(message_of<DataError>([&] { evaluate(machine, empty, {}); }), HasSubstr("no rows"));
}

}  // namespace
}  // namespace wakesleep::testing
