// VIMCO, the bidirectional Helmholtz machine and joint stochastic approximation against exact expectations by
// enumeration in double precision, and against the distribution that a chain must have.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "backends.hpp"
#include "reference/mean_updates.hpp"
#include "reference/naive_machine.hpp"
#include "reference/small_machines.hpp"
#include "temporary_folder.hpp"
#include "trainings.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {
namespace {

using Coefficients = std::vector<testing::SampleCoefficients>;
using Sizes = std::vector<std::int64_t>;

TrainingSettings settings_of(Algorithm algorithm, const Sizes& sizes, std::int64_t samples) {
  TrainingSettings settings = testing::gradient_settings(algorithm, sizes, 2028);
  settings.samples = samples;
  return settings;
}

/// All that the algorithm may make of the log weights.
Coefficients coefficients_of(Algorithm algorithm, const std::vector<double>& log_weights) {
  if (algorithm == Algorithm::vimco) return {testing::vimco_coefficients_of(log_weights)};
  if (algorithm == Algorithm::bidirectional_helmholtz) {
    return {testing::bidirectional_coefficients(log_weights)};
  }
  Coefficients all;
  for (std::uint64_t accepted = 0; accepted < std::uint64_t{1} << (log_weights.size() - 1); ++accepted) {
    all.push_back(testing::chain_coefficients(log_weights, accepted));
  }
  return all;
}

// ------------------------------------------------------------------------------------ the reference itself

std::vector<double>& parameters(testing::NaiveMachine& machine, const std::string& tensor) {
  const auto layer = [&](std::size_t begin) {
    return static_cast<std::size_t>(std::stoi(tensor.substr(begin))) - 1;
  };
  testing::NaiveConditional& conditional = tensor.rfind("prior", 0) == 0     ? machine.prior
                                           : testing::is_recognition(tensor) ? machine.recognition[layer(12)]
                                                                             : machine.generative[layer(11)];
  return tensor.ends_with("weight") ? conditional.weight : conditional.bias;
}

// VIMCO's coefficients give an unbiased gradient of the K-sample bound: the expectation that the engine is
// held against below is the numerical gradient of the enumerated bound.
TEST(VimcoReference, ExpectedUpdateIsTheGradientOfTheSampleBound) {
  const double step = 1e-5;
  for (const Sizes& sizes : {Sizes{4, 3}, Sizes{3, 2, 2}}) {
    for (const int samples : {2, 3}) {
      testing::NaiveMachine machine(testing::random_tensors(sizes, 1.5f, 7));
      const testing::Bits x = testing::random_rows(1, sizes[0], 3)[0];
      const auto coefficients = [](const std::vector<double>& log_weights) {
        return coefficients_of(Algorithm::vimco, log_weights);
      };
      std::size_t compared = 0;
      for (const auto& [name, update] : machine.expected_over_tuples({x}, samples, coefficients)) {
        std::vector<double>& values = parameters(machine, name);
        ASSERT_EQ(values.size(), update.mean.size()) << name;
        for (std::size_t i = 0; i < values.size(); ++i) {
          const double value = values[i];
          values[i] = value + step;
          const double above = machine.expected_bound(x, samples);
          values[i] = value - step;
          const double below = machine.expected_bound(x, samples);
          values[i] = value;
          EXPECT_NEAR(update.mean[i], (above - below) / (2 * step), 1e-8) << name << "[" << i << "]";
          ++compared;
        }
      }
      EXPECT_GT(compared, 25u);
    }
  }
}

// ------------------------------------------------------------------------------------ mean updates

class PosteriorAlgorithmsTest : public testing::BackendTest {};

struct Enumerated {
  Algorithm algorithm;
  Sizes sizes;
  int samples;
};
const std::vector<Enumerated> enumerated = {
    {Algorithm::vimco, {4, 3}, 2},
    {Algorithm::vimco, {4, 3}, 3},
    {Algorithm::vimco, {3, 3, 2}, 2},
    {Algorithm::bidirectional_helmholtz, {4, 3}, 2},
    {Algorithm::bidirectional_helmholtz, {3, 3, 2}, 3},
    {Algorithm::joint_stochastic_approximation, {4, 3}, 2},
    {Algorithm::joint_stochastic_approximation, {4, 3}, 3},
    {Algorithm::joint_stochastic_approximation, {3, 3, 2}, 2},
};
constexpr std::int64_t images = 60000;

/// What rounding may add to the variance of an image's gradient: deltas are rounded sample by sample, VIMCO's
/// at 1 / 2^s of their size, s of the largest sum of magnitudes that a tuple of samples can have.
double rounding_of(const Enumerated& e, double largest_sum) {
  const double scale = e.algorithm == Algorithm::vimco ? std::exp2(std::ceil(std::log2(largest_sum))) : 1;
  return e.samples * testing::rounding_variance * std::max(1.0, scale * scale);
}

// No sleep phase is in the way, and both directions learn from the same samples: one step shows all. A false
// alarm in 2e-9 of all seeds for each of the 299 comparisons: in 6e-7; the seed is fixed, so a failure is a
// fault.
TEST_P(PosteriorAlgorithmsTest, MeanUpdateIsItsExpectationOverAllTuplesOfSamples) {
  for (const Enumerated& e : enumerated) {
    SCOPED_TRACE(::testing::Message() << name_of(e.algorithm) << ", " << e.sizes.size() - 1
                                      << " hidden layers, K = " << e.samples);
    const Tensors before = testing::random_tensors(e.sizes, 1.5f, 7);
    const std::vector<testing::Bits> kinds = testing::random_rows(3, e.sizes[0], 3);
    std::vector<testing::Bits> rows;
    for (std::size_t r = 0; r < images; ++r) rows.push_back(kinds[r % kinds.size()]);
    double largest_sum = 0;
    const auto coefficients = [&](const std::vector<double>& log_weights) {
      const Coefficients all = coefficients_of(e.algorithm, log_weights);
      for (const testing::SampleCoefficients& c : all) {
        double sum = 0;
        for (const double value : c.recognition) sum += std::fabs(value);
        largest_sum = std::max(largest_sum, sum);
      }
      return all;
    };
    const testing::ExpectedUpdates expected =
        testing::NaiveMachine(before, 16).expected_over_tuples(kinds, e.samples, coefficients);
    const Tensors change = testing::change_in_one_step(
        ops(), before, e.sizes, settings_of(e.algorithm, e.sizes, e.samples), testing::data_set_of(rows));
    for (const bool recognition : {false, true}) {
      testing::expect_mean(change, expected, recognition, rounding_of(e, largest_sum), images);
    }
  }
}

// ------------------------------------------------------------------------------------ chains

/// The hidden states that a checkpoint remembers for an image: sixteen a number, the first its highest bit.
testing::Bits remembered(const Tensors& chains, int layer, std::int64_t row, std::int64_t units) {
  const Tensor& tensor = chains.at("chain." + std::to_string(layer));
  testing::Bits bits;
  for (std::int64_t u = 0; u < units; ++u) {
    const float number = tensor.values.at(static_cast<std::size_t>(row * tensor.shape.at(1) + u / 16));
    bits.push_back(static_cast<std::uint8_t>(static_cast<int>(number) >> (15 - u % 16) & 1));
  }
  return bits;
}

/// Chi-square of the counts against the expected ones as a standard normal z (Wilson & Hilferty 1931). States
/// expected fewer than 10 times are taken together.
double z_of_counts(const std::map<testing::Configuration, double>& counts,
                   const std::map<testing::Configuration, double>& expected) {
  double chi_square = 0, rare = 0, rare_expected = 0, cells = 0;
  for (const auto& [state, number] : expected) {
    const auto found = counts.find(state);
    const double count = found == counts.end() ? 0 : found->second;
    if (number < 10) {
      rare += count;
      rare_expected += number;
      continue;
    }
    chi_square += (count - number) * (count - number) / number;
    ++cells;
  }
  if (rare_expected > 0) {
    chi_square += (rare - rare_expected) * (rare - rare_expected) / rare_expected;
    ++cells;
  }
  const double freedom = cells - 1, variance = 2 / (9 * freedom);
  return (std::cbrt(chi_square / freedom) - (1 - variance)) / std::sqrt(variance);
}

// Where parameters stand still, the last states of independent chains are samples of p(h | x) once the chains
// have forgotten their beginning: a Metropolis independence chain does at the rate 1 - 1 / max_h(p / q) a
// proposal (Mengersen & Tweedie, 1996). z below 6 but for 1e-9 of all seeds, for each of 6 images; the seed
// is fixed.
TEST_P(PosteriorAlgorithmsTest, ChainsHaveTheTruePosteriorAsTheirStationaryDistribution) {
  const std::int64_t chains = 3000, epochs = 18, samples = 16;
  for (const Sizes& sizes : {Sizes{4, 3}, Sizes{3, 3, 2}}) {
    const Tensors tensors = testing::random_tensors(sizes, 1.0f, 12);
    const testing::NaiveMachine machine(tensors, 16);
    const std::vector<testing::Bits> kinds = testing::random_rows(3, sizes[0], 5);
    std::vector<testing::Bits> rows;
    for (std::size_t r = 0; r < 3 * chains; ++r) rows.push_back(kinds[r % 3]);
    TrainingSettings settings = settings_of(Algorithm::joint_stochastic_approximation, sizes, samples);
    settings.generative_learning_rate = settings.recognition_learning_rate = testing::no_learning;
    settings.batch_size = 3 * chains;
    settings.epochs = epochs;
    Trainer trainer(ops(), testing::data_set_of(rows), settings);
    trainer.machine().upload(tensors);
    while (!trainer.finished()) trainer.run_epoch();
    const Tensors memory = trainer.snapshot().algorithm;
    for (std::size_t kind = 0; kind < 3; ++kind) {
      std::map<testing::Configuration, double> counts, of_posterior, of_proposal;
      for (std::int64_t r = static_cast<std::int64_t>(kind); r < 3 * chains; r += 3) {
        testing::Configuration h = {kinds[kind]};
        for (int l = 1; l < static_cast<int>(sizes.size()); ++l) {
          h.push_back(remembered(memory, l, r, sizes[static_cast<std::size_t>(l)]));
        }
        counts[h] += 1;
      }
      const double log_p = machine.log_likelihood(kinds[kind]);
      double largest_ratio = 0;
      machine.for_each_hidden(kinds[kind], [&](const testing::Configuration& h) {
        of_posterior[h] = static_cast<double>(chains) * std::exp(machine.log_joint(h) - log_p);
        of_proposal[h] = static_cast<double>(chains) * std::exp(machine.log_posterior(h));
        largest_ratio = std::max(largest_ratio, std::exp(machine.log_weight(h) - log_p));
      });
      const double proposals = static_cast<double>(epochs * (samples - 1));
      ASSERT_LT(std::pow(1 - 1 / largest_ratio, proposals), 1e-4) << "more epochs are needed";
      EXPECT_LT(z_of_counts(counts, of_posterior), 6);
      EXPECT_GT(z_of_counts(counts, of_proposal), 8);  // the two are told apart
    }
  }
}

TEST_P(PosteriorAlgorithmsTest, AcceptanceRateIsTheEnumeratedOneAndCountsAnew) {
  const Sizes sizes = {4, 3};
  const std::int64_t chains = 20000;
  const Tensors tensors = testing::random_tensors(sizes, 1.5f, 12);
  const testing::NaiveMachine machine(tensors, 16);
  const testing::Bits x = testing::random_rows(1, 4, 3)[0];
  double expected = 0;
  machine.for_each_hidden(x, [&](const testing::Configuration& from) {
    machine.for_each_hidden(x, [&](const testing::Configuration& to) {
      expected += std::exp(machine.log_posterior(from) + machine.log_posterior(to)) *
                  std::min(1.0, std::exp(machine.log_weight(to) - machine.log_weight(from)));
    });
  });
  TrainingSettings settings = settings_of(Algorithm::joint_stochastic_approximation, sizes, 2);
  settings.generative_learning_rate = settings.recognition_learning_rate = testing::no_learning;
  settings.batch_size = chains;
  settings.epochs = 2;
  settings.fresh_epochs = 2;
  const std::vector<testing::Bits> rows(static_cast<std::size_t>(chains), x);
  Trainer trainer(ops(), testing::data_set_of(rows), settings);
  trainer.machine().upload(tensors);
  const double deviation = std::sqrt(expected * (1 - expected) / static_cast<double>(chains));
  for (int epoch = 0; epoch < 2; ++epoch) {
    trainer.run_epoch();
    const auto diagnostics = trainer.diagnostics();
    ASSERT_EQ(diagnostics.size(), 1u);
    EXPECT_EQ(diagnostics[0].first, "acceptance_rate");
    EXPECT_NEAR(diagnostics[0].second, expected, 6 * deviation);
  }
  EXPECT_TRUE(trainer.diagnostics().empty());  // nothing has been proposed since
}

/// A short last batch; chains begin anew in the first two epochs and go on in the two after.
TrainingSettings chain_settings() {
  TrainingSettings settings;
  settings.algorithm = Algorithm::joint_stochastic_approximation;
  settings.layers = {17, 33};
  settings.samples = 5;
  settings.batch_size = 16;
  settings.epochs = 4;
  settings.fresh_epochs = 2;
  return settings;
}

TEST_P(PosteriorAlgorithmsTest, ChainsGoOnFromACheckpointFileWhereTheyStopped) {
  const TrainingSettings settings = chain_settings();
  const DataSet data = binarize(testing::grey_rows(37, 33), Binarization::fixed, 128, 1);
  Trainer untouched(ops(), data, settings);
  while (!untouched.finished()) untouched.run_epoch();
  const Model expected = untouched.snapshot();
  const testing::TemporaryFolder folder;
  const std::string path = (folder.path() / "checkpoint.safetensors").string();
  for (const std::int64_t stop : {1, 5, 6, 7, 10, 11}) {
    Trainer first(ops(), data, settings);
    first.run_steps(stop);
    save_model(path, first.snapshot());
    Trainer second(ops(), data, load_model(path));
    while (!second.finished()) second.run_epoch();
    const Model found = second.snapshot();
    EXPECT_EQ(hash_of(found.tensors), hash_of(expected.tensors)) << "resumed at step " << stop;
    EXPECT_EQ(hash_of(found.algorithm), hash_of(expected.algorithm)) << "resumed at step " << stop;
  }
  Model without = untouched.snapshot();
  without.algorithm.erase("chain.2");
  EXPECT_THROW(Trainer(ops(), data, without), DataError);
  Model damaged = untouched.snapshot();
  damaged.algorithm.at("chain.1").values[3] = 0.5f;
  EXPECT_THROW(Trainer(ops(), data, damaged), DataError);
}

TEST_P(PosteriorAlgorithmsTest, FreshChainsForgetAndOthersRemember) {
  const DataSet data = binarize(testing::grey_rows(37, 33), Binarization::fixed, 128, 1);
  const auto trained = [&](std::int64_t fresh_epochs, std::int64_t epochs) {
    TrainingSettings settings = chain_settings();
    settings.schedule = Schedule::constant;
    settings.fresh_epochs = fresh_epochs;
    settings.epochs = epochs;
    Trainer trainer(ops(), data, settings);
    while (!trainer.finished()) trainer.run_epoch();
    return hash_of(trainer.machine().download());
  };
  EXPECT_EQ(trained(1, 1), trained(2, 1));  // the first epoch is fresh either way
  EXPECT_NE(trained(1, 2), trained(2, 2));
  EXPECT_EQ(trained(2, 2), trained(3, 2));
  EXPECT_NE(trained(2, 3), trained(3, 3));
}

WAKESLEEP_ON_EVERY_BACKEND(PosteriorAlgorithmsTest);

}  // namespace
}  // namespace wakesleep
