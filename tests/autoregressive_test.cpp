// The autoregressive prior: its samples against logits and random words found by their addresses, its
// distribution and every algorithm's mean update against enumeration in double precision.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "backends.hpp"
#include "reference/mean_updates.hpp"
#include "reference/naive_machine.hpp"
#include "reference/small_machines.hpp"
#include "refusals.hpp"
#include "temporary_folder.hpp"
#include "trainings.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/memory_plan.hpp"
#include "wakesleep/model_file.hpp"

namespace wakesleep {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using Sizes = std::vector<std::int64_t>;

constexpr double hair = 2e-6;  // float32 errors of a logit and of sigma, generously

class AutoregressiveTest : public testing::BackendTest {
 protected:
  static TrainingSettings settings_of(Algorithm algorithm, const Sizes& sizes) {
    TrainingSettings settings = testing::gradient_settings(algorithm, sizes, 2029);
    settings.prior = Prior::autoregressive;
    settings.samples = 2;
    settings.insomnia = 1;
    return settings;
  }

  /// The top layer's states that `machine` draws, rows x units, and their log-probabilities.
  struct Drawn {
    std::vector<testing::Bits> rows;
    std::vector<std::int64_t> log_probabilities;
  };
  Drawn draw(const Machine& machine, std::int64_t rows) {
    const std::int64_t units = machine.size(machine.layers()), stride = padded_units(units);
    Buffer<std::uint8_t> states = testing::to_device(
        ops(), std::vector<std::uint8_t>(static_cast<std::size_t>(rows * stride), std::uint8_t{0xAA}));
    Buffer<std::int64_t> log_probabilities(ops(), rows);
    log_probabilities.fill_zero();
    machine.sample_prior(address, {states.data(), rows, units, stride}, {log_probabilities.data(), 1});
    const std::vector<std::uint8_t> host = testing::to_host(states);
    Drawn drawn{{}, testing::to_host(log_probabilities)};
    for (std::int64_t r = 0; r < rows; ++r) {
      drawn.rows.emplace_back(host.begin() + r * stride, host.begin() + r * stride + units);
    }
    return drawn;
  }

  /// The logits that the dense product gives the prior's units for given states.
  std::vector<float> dense_logits(const Machine& machine, const std::vector<testing::Bits>& rows) {
    const auto count = static_cast<std::int64_t>(rows.size());
    const std::int64_t units = machine.size(machine.layers()), stride = padded_units(units);
    std::vector<std::uint8_t> host(static_cast<std::size_t>(count * stride), std::uint8_t{0xAA});
    for (std::size_t r = 0; r < rows.size(); ++r) {
      std::copy(rows[r].begin(), rows[r].end(), host.begin() + static_cast<std::ptrdiff_t>(r) * stride);
    }
    const Buffer<std::uint8_t> input = testing::to_device(ops(), host);
    Buffer<std::uint8_t> unused(ops(), count * stride);
    Buffer<float> logits(ops(), count * units);
    Conditional dense = machine.prior();
    dense.autoregressive = false;
    ops().sample(dense, {input.data(), count, units, stride}, {}, 1, {unused.data(), count, units, stride},
                 {}, {logits.data(), count, units, units});
    return testing::to_host(logits);
  }

  static std::uint32_t word_of(std::int64_t row, std::int64_t unit) {
    return philox4x32_10(
               draw_counter(static_cast<std::uint32_t>(unit / 4), 100 + static_cast<std::uint32_t>(row), 9,
                            domain_word(Domain::sleep_sample, 4)),
               5)
        .word[unit % 4];
  }

  static constexpr Draw address{5, Domain::sleep_sample, 4, 100, 9, nullptr, SampleAddress::row};
};

// ------------------------------------------------------------------------------------ the operations

TEST_P(AutoregressiveTest, EveryUnitIsDrawnGivenThoseBeforeIt) {
  std::int64_t decided = 0, undecided = 0;
  for (const auto& [units, rows, bits] : {std::tuple<std::int64_t, std::int64_t, int>{1, 5, 16},
                                          {2, 1, 8},
                                          {31, 17, 12},
                                          {33, 16, 16},
                                          {130, 33, 8},
                                          {200, 19, 16},
                                          {1030, 3, 12}}) {
    SCOPED_TRACE(::testing::Message() << units << " units, " << rows << " rows, " << bits << " bits");
    const Sizes sizes = {3, units};
    const Tensors tensors = testing::random_autoregressive_tensors(sizes, units > 100 ? 0.3f : 1.5f, 31);
    const Machine machine = testing::machine_of(ops(), sizes, tensors, bits);
    const testing::NaiveMachine naive(tensors, bits);
    const Drawn drawn = draw(machine, rows);
    const std::vector<float> logits = dense_logits(machine, drawn.rows);
    for (std::int64_t r = 0; r < rows; ++r) {
      const testing::Bits& states = drawn.rows[static_cast<std::size_t>(r)];
      const std::vector<double> expected = naive.prior.logits(states);
      for (std::int64_t u = 0; u < units; ++u) {
        const auto unit = static_cast<std::size_t>(u);
        // To the last bit the state that the dense product's logit gives.
        ASSERT_EQ(states[unit], sample_state(logits[static_cast<std::size_t>(r * units + u)], word_of(r, u)))
            << "row " << r << " unit " << u;
        const double x = word_of(r, u) / 4294967296.0, p = testing::naive_sigmoid(expected[unit]);
        if (std::fabs(x - p) < hair) {
          ++undecided;
          continue;
        }
        ASSERT_EQ(states[unit], x < p) << "row " << r << " unit " << u;
        ++decided;
      }
      EXPECT_NEAR(
          static_cast<double>(drawn.log_probabilities[static_cast<std::size_t>(r)]) * nats_per_log_unit,
          naive.prior.log_probability(states, states), 1e-5 * static_cast<double>(units));
    }
  }
  EXPECT_GT(decided, 10000);
  EXPECT_LT(undecided, 5);
}

TEST_P(AutoregressiveTest, WithWeightsOfZeroItDrawsTheStatesOfTheFactorialPrior) {
  for (const std::int64_t units : {1, 33, 200}) {
    const Sizes sizes = {3, units};
    Tensors tensors = testing::random_tensors(sizes, 2.0f, 32);
    const Machine factorial = testing::machine_of(ops(), sizes, tensors);
    tensors["prior.weight"] = {{units, units}, std::vector<float>(static_cast<std::size_t>(units * units))};
    const Machine autoregressive = testing::machine_of(ops(), sizes, tensors);
    const Drawn expected = draw(factorial, 37), found = draw(autoregressive, 37);
    EXPECT_EQ(found.rows, expected.rows);
    EXPECT_EQ(found.log_probabilities, expected.log_probabilities);
  }
}

// Pearson's chi-squared over the 8 states of three units: 7 degrees of freedom, one false alarm in a million.
TEST_P(AutoregressiveTest, StatesHaveTheirEnumeratedFrequencies) {
  const Sizes sizes = {2, 3};
  const Tensors tensors = testing::random_autoregressive_tensors(sizes, 2.0f, 33);
  const testing::NaiveMachine naive(tensors, 16);
  const std::int64_t rows = 20000;
  std::vector<double> counts(8);
  for (const testing::Bits& h : draw(testing::machine_of(ops(), sizes, tensors), rows).rows) {
    counts[h[0] + 2u * h[1] + 4u * h[2]] += 1;
  }
  double chi_squared = 0, as_if_factorial = 0, sum = 0;
  for (std::size_t s = 0; s < 8; ++s) {
    const testing::Bits h = testing::bits_of(s, 3);
    const double expected = static_cast<double>(rows) * std::exp(naive.prior.log_probability(h, h));
    chi_squared += (counts[s] - expected) * (counts[s] - expected) / expected;
    const double alone =
        static_cast<double>(rows) * std::exp(naive.prior.log_probability(h, testing::Bits(3)));
    as_if_factorial += (counts[s] - alone) * (counts[s] - alone) / alone;
    sum += expected;
  }
  EXPECT_NEAR(sum, static_cast<double>(rows), 1e-6);
  EXPECT_LT(chi_squared, 41);
  EXPECT_GT(as_if_factorial, 410);  // the weights matter
}

TEST_P(AutoregressiveTest, GradientsAreKeptBelowTheDiagonal) {
  for (const std::int64_t units : {1, 2, 33, 130}) {
    std::vector<std::int32_t> gradient(static_cast<std::size_t>(units * units));
    for (std::size_t i = 0; i < gradient.size(); ++i) gradient[i] = static_cast<std::int32_t>(i) - 7;
    const Buffer<std::int32_t> buffer = testing::to_device(ops(), gradient);
    ops().keep_below_diagonal(buffer.data(), units);
    for (std::int64_t i = 0; i < units; ++i) {
      for (std::int64_t j = i; j < units; ++j) gradient[static_cast<std::size_t>(i * units + j)] = 0;
    }
    EXPECT_EQ(testing::to_host(buffer), gradient) << units;
  }
}

// ------------------------------------------------------------------------------------ mean updates

constexpr std::int64_t images = 60000;

DataSet repeated(const std::vector<testing::Bits>& kinds) {
  std::vector<testing::Bits> rows;
  for (std::size_t r = 0; r < images; ++r) rows.push_back(kinds[r % kinds.size()]);
  return testing::data_set_of(rows);
}

// |z| < 6 for each of 82 parameters: a false alarm in 2e-7 of all seeds; the seed is fixed, so a failure is a
// fault. Parameters that do not learn are expected to change by exactly 0, which is within the deviation of
// rounding; that they are 0 is tested below.
TEST_P(AutoregressiveTest, WakeSleepsMeanUpdatesAreTheirExpectations) {
  const Sizes sizes = {4, 3, 4};
  const Tensors before = testing::random_autoregressive_tensors(sizes, 1.5f, 34);
  const testing::NaiveMachine machine(before, 16);
  const std::vector<testing::Bits> kinds = testing::random_rows(6, sizes[0], 3);
  TrainingSettings settings = settings_of(Algorithm::wake_sleep, sizes);
  settings.recognition_learning_rate = testing::no_learning;
  testing::expect_mean(testing::change_in_one_step(ops(), before, sizes, settings, repeated(kinds)),
                       machine.expected_wake(kinds), false, testing::rounding_variance, images);
  settings.recognition_learning_rate = 1;
  settings.generative_learning_rate = testing::no_learning;
  testing::expect_mean(testing::change_in_one_step(ops(), before, sizes, settings, repeated(kinds)),
                       machine.expected_sleep(), true, testing::rounding_variance, images);
}

/// The same with the penalty of sparse wake-sleep on the biases of the hidden units, whose running means
/// begin at the target. What an image adds to a mean varies by half at most, and may vary with all else.
testing::ExpectedUpdates with_penalty(testing::ExpectedUpdates updates, const testing::NaiveMachine& machine,
                                      const std::vector<testing::Bits>& kinds,
                                      const TrainingSettings& settings) {
  const double strength = settings.sparsity, target = settings.target_activation;
  const double renewed = 1 - settings.activation_memory;
  for (std::size_t l = 1; l <= machine.layers(); ++l) {
    const bool top = l == machine.layers();
    for (const std::string& name : {"recognition." + std::to_string(l) + ".bias",
                                    top ? "prior.bias" : "generative." + std::to_string(l + 1) + ".bias"}) {
      const auto found = updates.find(name);
      for (std::size_t j = 0; found != updates.end() && j < found->second.mean.size(); ++j) {
        double on = 0;
        for (const testing::Bits& x : kinds) {
          on += machine.expectation_under_recognition(x, [&](const testing::Configuration& h) {
            return static_cast<double>(h[l][j]);
          }) / static_cast<double>(kinds.size());
        }
        found->second.mean[j] += strength * renewed * (target - on);
        double& variance = found->second.variance[j];
        variance = std::pow(std::sqrt(variance) + strength * renewed / 2, 2);
      }
    }
  }
  return updates;
}

// Another 82 comparisons.
TEST_P(AutoregressiveTest, SparseWakeSleepsMeanUpdatesAreTheirExpectations) {
  const Sizes sizes = {4, 3, 4};
  const Tensors before = testing::random_autoregressive_tensors(sizes, 1.5f, 34);
  const testing::NaiveMachine machine(before, 16);
  const std::vector<testing::Bits> kinds = testing::random_rows(6, sizes[0], 3);
  TrainingSettings settings = settings_of(Algorithm::sparse_wake_sleep, sizes);
  settings.sparsity = 0.8;
  settings.target_activation = 0.1;
  settings.activation_memory = 0.25;
  for (const bool recognition : {false, true}) {
    settings.recognition_learning_rate = recognition ? 1 : testing::no_learning;
    settings.generative_learning_rate = recognition ? testing::no_learning : 1;
    const testing::ExpectedUpdates plain =
        recognition ? machine.expected_sleep() : machine.expected_wake(kinds);
    testing::expect_mean(testing::change_in_one_step(ops(), before, sizes, settings, repeated(kinds)),
                         with_penalty(plain, machine, kinds, settings), recognition,
                         testing::rounding_variance, images);
  }
}

/// All that an algorithm with K samples may make of their log weights.
std::vector<testing::SampleCoefficients> coefficients_of(Algorithm algorithm,
                                                         const std::vector<double>& log_weights) {
  switch (algorithm) {
    case Algorithm::vimco:
      return {testing::vimco_coefficients_of(log_weights)};
    case Algorithm::bidirectional_helmholtz:
      return {testing::bidirectional_coefficients(log_weights)};
    case Algorithm::joint_stochastic_approximation:
      return {testing::chain_coefficients(log_weights, 0), testing::chain_coefficients(log_weights, 1)};
    default:
      return {testing::reweighted_coefficients(log_weights, false)};
  }
}

// The same for 4 x 60 parameters of two samples an image: a false alarm in 5e-7 of all seeds. What VIMCO
// rounds is 1 / 2^s of its size, s of the largest sum of magnitudes that a pair of samples can have.
TEST_P(AutoregressiveTest, MeanUpdatesOfSeveralSamplesAreTheirExpectations) {
  const Sizes sizes = {4, 4};
  const Tensors before = testing::random_autoregressive_tensors(sizes, 1.5f, 35);
  const testing::NaiveMachine machine(before, 16);
  const std::vector<testing::Bits> kinds = testing::random_rows(3, sizes[0], 3);
  for (const Algorithm algorithm :
       {Algorithm::reweighted_wake_sleep, Algorithm::vimco, Algorithm::bidirectional_helmholtz,
        Algorithm::joint_stochastic_approximation}) {
    SCOPED_TRACE(name_of(algorithm));
    double largest_sum = 1;
    const testing::ExpectedUpdates expected =
        machine.expected_over_tuples(kinds, 2, [&](const std::vector<double>& log_weights) {
          const auto all = coefficients_of(algorithm, log_weights);
          for (const testing::SampleCoefficients& c : all) {
            largest_sum = std::max(largest_sum, std::fabs(c.recognition[0]) + std::fabs(c.recognition[1]));
          }
          return all;
        });
    const Tensors change =
        testing::change_in_one_step(ops(), before, sizes, settings_of(algorithm, sizes), repeated(kinds));
    const double scale = std::exp2(std::ceil(std::log2(largest_sum)));
    for (const bool recognition : {false, true}) {
      testing::expect_mean(change, expected, recognition, 2 * testing::rounding_variance * scale * scale,
                           images);
    }
  }
}

// ------------------------------------------------------------------------------------ trainings

DataSet binary_rows(std::int64_t rows, std::int64_t units) {
  return binarize(testing::grey_rows(rows, units), Binarization::fixed, 128, 3);
}

const std::vector<Algorithm> algorithms = {Algorithm::wake_sleep,
                                           Algorithm::reweighted_wake_sleep,
                                           Algorithm::joint_stochastic_approximation,
                                           Algorithm::sparse_wake_sleep,
                                           Algorithm::bidirectional_helmholtz,
                                           Algorithm::vimco,
                                           Algorithm::natural_reweighted_wake_sleep};

TrainingSettings small_settings(Algorithm algorithm, OptimizerKind optimizer) {
  TrainingSettings settings;
  settings.algorithm = algorithm;
  settings.prior = Prior::autoregressive;
  settings.layers = {9, 6};
  settings.samples = 3;
  settings.batch_size = 8;
  settings.epochs = 3;
  settings.optimizer = optimizer;
  settings.weight_decay = 0.01;
  settings.generative_learning_rate = settings.recognition_learning_rate =
      optimizer == OptimizerKind::adam ? 0.01 : 0.1;
  settings.fisher = FisherForm::dense;
  settings.fisher_refresh = 4;
  return settings;
}

TEST_P(AutoregressiveTest, EveryAlgorithmAndOptimizerLearnsBelowTheDiagonalAloneAndResumesExactly) {
  const DataSet data = binary_rows(30, 21);
  for (const Algorithm algorithm : algorithms) {
    for (const OptimizerKind optimizer : {OptimizerKind::sgd, OptimizerKind::momentum, OptimizerKind::adam}) {
      SCOPED_TRACE(std::string(name_of(algorithm)) + ", " + name_of(optimizer));
      TrainingSettings settings = small_settings(algorithm, optimizer);
      settings.clip_gradient = optimizer == OptimizerKind::momentum ? 0.2 : 0;
      Trainer untouched(ops(), data, settings);
      while (!untouched.finished()) untouched.run_epoch();
      const Tensors learnt = untouched.machine().download();
      const std::vector<float>& weights = learnt.at("prior.weight").values;
      std::size_t moved = 0;
      for (std::size_t i = 0; i < 6; ++i) {
        for (std::size_t j = 0; j < 6; ++j) {
          const float weight = weights[i * 6 + j];
          if (j >= i) {
            EXPECT_EQ(float_bits(weight), 0u) << i << ", " << j;
          } else if (weight != 0) {
            ++moved;
          }
        }
      }
      EXPECT_EQ(moved, 15u);

      Trainer first(ops(), data, settings);
      first.run_steps(5);
      Trainer second(ops(), data, first.snapshot());
      while (!second.finished()) second.run_epoch();
      EXPECT_EQ(hash_of(second.machine().download()), hash_of(learnt));
    }
  }
}

// Where the generative weights stand still, so does the prior at 0: then both machines dream the same.
TEST_P(AutoregressiveTest, ItBeginsAsTheFactorialPrior) {
  const DataSet data = binary_rows(30, 21);
  for (const Algorithm algorithm : {Algorithm::wake_sleep, Algorithm::reweighted_wake_sleep}) {
    Tensors trained[2];
    for (const Prior prior : {Prior::factorial, Prior::autoregressive}) {
      TrainingSettings settings = small_settings(algorithm, OptimizerKind::sgd);
      settings.generative_learning_rate = testing::no_learning;
      settings.prior = prior;
      Trainer trainer(ops(), data, settings);
      trainer.run_steps(8);
      trained[prior == Prior::factorial ? 0 : 1] = trainer.machine().download();
    }
    EXPECT_EQ(trained[1].erase("prior.weight"), 1u);
    EXPECT_EQ(hash_of(trained[0]), hash_of(trained[1]));
  }
}

TEST_P(AutoregressiveTest, NoMemoryOfTheBackendIsAllocatedAfterTheFirstStep) {
  const DataSet data = binary_rows(30, 21);
  for (const Algorithm algorithm : {Algorithm::wake_sleep, Algorithm::reweighted_wake_sleep}) {
    Trainer trainer(ops(), data, small_settings(algorithm, OptimizerKind::adam));
    trainer.run_epoch([] { return true; });
    const std::size_t allocations = ops().memory_use().allocations;
    while (!trainer.finished()) trainer.run_epoch();
    EXPECT_EQ(ops().memory_use().allocations, allocations) << name_of(algorithm);
  }
}

TEST_P(AutoregressiveTest, ItsWeightsAreInTheMemoryPlan) {
  TrainingSettings settings = small_settings(Algorithm::wake_sleep, OptimizerKind::adam);
  settings.layers = {9, 200};
  const MemoryPlan with = plan_memory(ops(), {21, 9, 200}, settings, 100);
  settings.prior = Prior::factorial;
  const MemoryPlan without = plan_memory(ops(), {21, 9, 200}, settings, 100);
  EXPECT_GE(with.parameters - without.parameters, 4 * 200 * 200);
  EXPECT_GE(with.fixed - without.fixed, 2 * 4 * 200 * 200);  // the moments of Adam
}

WAKESLEEP_ON_EVERY_BACKEND(AutoregressiveTest);

// ------------------------------------------------------------------------------------ what is refused

TEST(Autoregressive, WeightsOnOrAboveTheDiagonalAreRefusedByRowAndColumn) {
  const std::unique_ptr<Ops> ops = make_cpu_ops({});
  const Sizes sizes = {4, 3};
  const Tensors good = testing::random_autoregressive_tensors(sizes, 1.0f, 36);
  for (const auto& [place, words] :
       {std::pair<std::size_t, const char*>{0, "row 0, column 0"}, {5, "row 1, column 2"}}) {
    Tensors bad = good;
    bad["prior.weight"].values[place] = 1e-30f;
    EXPECT_THAT(testing::message_of<DataError>([&] { testing::machine_of(*ops, sizes, bad); }),
                AllOf(HasSubstr("prior.weight"), HasSubstr(words)));
  }
  Machine factorial(*ops, sizes, 16);
  EXPECT_THAT(testing::message_of<DataError>([&] { factorial.upload(good); }),
              HasSubstr("\"prior.weight\" belongs to no layer"));
}

TEST(Autoregressive, ModelsAreReadBackAndRefusedForTheirFault) {
  const testing::TemporaryFolder folder;
  const std::string path = folder / "model.safetensors";
  const std::unique_ptr<Ops> ops = make_cpu_ops({});
  Trainer trainer(*ops, binary_rows(30, 21), small_settings(Algorithm::wake_sleep, OptimizerKind::adam));
  trainer.run_epoch();
  const Model model = trainer.snapshot();
  save_model(path, model);
  const Model read = load_model(path);
  EXPECT_EQ(read.settings.prior, Prior::autoregressive);
  EXPECT_EQ(read.sizes, model.sizes);
  EXPECT_EQ(hash_of(read.tensors), hash_of(model.tensors));
  EXPECT_EQ(hash_of(read.optimizer), hash_of(model.optimizer));

  const auto refused = [&](const auto& change, const std::string& words) {
    Model bad = model;
    change(bad);
    EXPECT_THAT(testing::message_of<DataError>([&] { save_model(path, bad); }), HasSubstr(words));
  };
  refused([](Model& m) { m.tensors["prior.weight"].values[1] = 1; },
          "tensor prior.weight is not 0 at row 0, column 1");
  refused([](Model& m) { m.optimizer["optimizer.prior.weight.second"].values[7] = 1; },
          "tensor optimizer.prior.weight.second is not 0 at row 1, column 1");
  refused([](Model& m) { m.tensors["prior.weight"].shape = {4, 9}; }, "where [6, 6] follows");
  refused([](Model& m) { m.settings.prior = Prior::factorial; }, "its setting prior is factorial");
  refused([](Model& m) { m.tensors.erase("prior.weight"); }, "its setting prior is autoregressive");
}

}  // namespace
}  // namespace wakesleep
