// Natural reweighted wake-sleep against Fisher matrices by enumeration and Gaussian elimination in long
// double.
#include "wakesleep/natural_gradient.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "backends.hpp"
#include "reference/mean_updates.hpp"
#include "reference/natural_gradient.hpp"
#include "reference/small_machines.hpp"
#include "temporary_folder.hpp"
#include "trainings.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {
namespace {

using testing::Real;
using testing::RealMatrix;
using testing::RealVector;
using Sizes = std::vector<std::int64_t>;

constexpr FisherForm all_forms[] = {FisherForm::diagonal, FisherForm::woodbury, FisherForm::dense};

// ------------------------------------------------------------------------------------ the reference itself

/// The gradient of log p(states | given) in all parameters, unit by unit, each unit's bias last.
void append_gradient(RealVector& gradient, const testing::NaiveConditional& conditional,
                     const testing::Bits& states, const testing::Bits& given) {
  const std::vector<double> p = conditional.probabilities(given);
  for (std::size_t i = 0; i < conditional.receiving; ++i) {
    for (const Real s : testing::with_bias(given)) gradient.push_back((states[i] - p[i]) * s);
  }
}

// What the algorithm rests on: the Fisher matrix of all generative parameters together has no other entries
// than the blocks of the units, E[p (1 - p) s~ s~^T].
TEST(NaturalGradientReference, TheFisherMatrixOfAMachineHasOneBlockForEachUnit) {
  for (const Sizes& sizes : {Sizes{3, 2}, Sizes{2, 2, 2}}) {
    const testing::NaiveMachine machine(testing::random_tensors(sizes, 1.5f, 7));
    RealMatrix fisher;
    std::vector<RealMatrix> blocks;
    machine.for_each_visible([&](const testing::Bits& x) {
      machine.for_each_hidden(x, [&](const testing::Configuration& h) {
        const Real probability = std::exp(static_cast<Real>(machine.log_joint(h)));
        RealVector gradient;
        std::size_t unit = 0;
        for (std::size_t l = 0; l <= machine.layers(); ++l) {
          const bool top = l == machine.layers();
          const testing::NaiveConditional& conditional = top ? machine.prior : machine.generative[l];
          const testing::Bits given = top ? testing::Bits{} : h[l + 1];
          append_gradient(gradient, conditional, h[l], given);
          for (const Real p : conditional.probabilities(given)) {
            if (unit == blocks.size()) blocks.emplace_back();
            testing::add_outer(blocks[unit++], testing::with_bias(given), probability * p * (1 - p));
          }
        }
        testing::add_outer(fisher, gradient, probability);
      });
    });
    std::size_t begin = 0, inside = 0;
    for (const RealMatrix& block : blocks) {
      for (std::size_t i = 0; i < block.size(); ++i) {
        for (std::size_t j = 0; j < fisher.size(); ++j) {
          const bool own = j >= begin && j < begin + block.size();
          const Real expected = own ? block[i][j - begin] : 0;
          EXPECT_NEAR(static_cast<double>(fisher[begin + i][j]), static_cast<double>(expected), 1e-14);
          inside += own ? 1u : 0u;
        }
      }
      begin += block.size();
    }
    EXPECT_EQ(begin, fisher.size());
    EXPECT_GT(inside, 20u);
  }
}

// ------------------------------------------------------------------------------------ one conditional

class NaturalGradientTest : public testing::BackendTest {};

TrainingSettings settings_of(const Sizes& sizes, FisherForm form) {
  TrainingSettings settings =
      testing::gradient_settings(Algorithm::natural_reweighted_wake_sleep, sizes, 2029);
  settings.fisher = form;
  settings.fisher_damping = 0.1;
  settings.insomnia = 1;
  return settings;
}

/// Random states, pre-activations, weights of rows and integer gradients of one conditional.
struct RandomRows {
  std::vector<testing::Bits> states;
  std::vector<float> logits;
  std::vector<double> weights;
  std::vector<std::int32_t> gradient, bias_gradient;

  RandomRows(std::int64_t rows, std::int64_t sending, std::int64_t receiving, std::uint64_t seed)
      : states(testing::random_rows(static_cast<std::size_t>(rows), sending, seed)) {
    std::mt19937_64 generator(seed + 1);
    logits = testing::random_values(static_cast<std::size_t>(rows * receiving), 4.0f, generator);
    for (const float value : testing::random_values(static_cast<std::size_t>(rows), 1.0f, generator)) {
      weights.push_back((1.0 + value) / static_cast<double>(rows));
    }
    const auto integers = [&](std::int64_t count) {
      std::vector<std::int32_t> result;
      for (std::int64_t i = 0; i < count; ++i) {
        result.push_back(static_cast<std::int32_t>(generator() >> 48) - 32768);
      }
      return result;
    };
    gradient = integers(receiving * sending);
    bias_gradient = integers(receiving);
  }

  static Real probability(float logit) { return 1 / (1 + std::exp(-static_cast<Real>(logit))); }
  /// Of receiving states that are on and off in turn.
  std::vector<float> errors() const {
    std::vector<float> result;
    for (const float logit : logits) {
      result.push_back(static_cast<float>(static_cast<Real>(result.size() % 2) - probability(logit)));
    }
    return result;
  }

  RealMatrix fisher(std::size_t unit) const {
    RealMatrix sum;
    const std::size_t receiving = bias_gradient.size();
    for (std::size_t r = 0; r < states.size(); ++r) {
      const Real p = probability(logits[r * receiving + unit]);
      testing::add_outer(sum, testing::with_bias(states[r]), weights[r] * p * (1 - p));
    }
    return sum;
  }
  RealVector mean_gradient(std::size_t unit, Real mean) const {
    const std::size_t sending = gradient.size() / bias_gradient.size();
    RealVector result;
    for (std::size_t j = 0; j < sending; ++j) result.push_back(mean * gradient[unit * sending + j]);
    result.push_back(mean * bias_gradient[unit]);
    return result;
  }
};

/// What the blocks' variances come from.
enum class From { logits, errors };

/// The natural gradient of the rows as the engine makes it: unit by unit, each unit's bias last.
std::vector<std::vector<float>> natural_gradient_of(Machine& machine, int index, NaturalGradient& natural,
                                                    const RandomRows& rows, From from, float mean) {
  Ops& ops = machine.ops();
  const Conditional& c = machine.conditional(index);
  const auto count = static_cast<std::int64_t>(rows.states.size());
  const std::int64_t stride = padded_units(c.sending);
  std::vector<std::uint8_t> padded(static_cast<std::size_t>(count * stride), 9);  // padding holds anything
  for (std::int64_t r = 0; r < count; ++r) {
    const testing::Bits& row = rows.states[static_cast<std::size_t>(r)];
    std::copy(row.begin(), row.end(), padded.begin() + r * stride);
  }
  const Buffer<std::uint8_t> states = testing::to_device(ops, padded);
  const Buffer<float> values = testing::to_device(ops, from == From::logits ? rows.logits : rows.errors());
  const Matrix<const float> kept = {values.data(), count, c.receiving, c.receiving};
  PosteriorSamples::Rows given;
  given.input = {states.data(), count, c.sending, stride};
  (from == From::logits ? given.logits : given.errors) = kept;
  natural.refresh(index, given, rows.weights);
  Rates rates;
  rates.mean = mean;
  const Buffer<Rates> device_rates = testing::to_device(ops, std::vector<Rates>{rates});
  const Buffer<std::int32_t> gradient = testing::to_device(ops, rows.gradient);
  const Buffer<std::int32_t> bias_gradient = testing::to_device(ops, rows.bias_gradient);
  Buffer<float> result(ops, c.receiving * c.sending), bias_result(ops, c.receiving);
  ops.natural_gradient(c, natural.inverse(index), device_rates.data(), gradient.data(), bias_gradient.data(),
                       result.data(), bias_result.data());
  const std::vector<float> weights = testing::to_host(result), biases = testing::to_host(bias_result);
  std::vector<std::vector<float>> units;
  for (std::int64_t i = 0; i < c.receiving; ++i) {
    units.emplace_back(weights.begin() + i * c.sending, weights.begin() + (i + 1) * c.sending);
    units.back().push_back(biases[static_cast<std::size_t>(i)]);
  }
  return units;
}

// Layers of awkward sizes, systems of the rows and of the units, and batches shorter than what was reserved
// for.
TEST_P(NaturalGradientTest, IsTheGradientTimesTheInverseOfTheUnitsFisherBlock) {
  const float mean = 1.0f / (127 * 40);
  for (const FisherForm form : all_forms) {
    for (const Sizes& sizes : {Sizes{1, 1}, Sizes{31, 3}, Sizes{33, 65}, Sizes{97, 5}}) {
      TrainingSettings settings = settings_of(sizes, form);
      settings.batch_size = 40;
      settings.samples = 1;
      Machine machine(ops(), sizes, 16);
      NaturalGradient natural(machine, settings);
      for (int index = 0; index < machine.conditionals(); ++index) {
        for (const auto& [count, from] : {std::pair<std::int64_t, From>{40, From::logits},
                                          {40, From::errors},
                                          {13, From::errors},
                                          {1, From::logits}}) {
          SCOPED_TRACE(::testing::Message() << name_of(form) << " " << sizes[0] << "-" << sizes[1] << " "
                                            << machine.conditional_name(index) << ", " << count << " rows of "
                                            << (from == From::logits ? "logits" : "errors"));
          const Conditional& c = machine.conditional(index);
          const RandomRows rows(count, c.sending, c.receiving, 5 + static_cast<std::uint64_t>(count));
          const auto found = natural_gradient_of(machine, index, natural, rows, from, mean);
          for (std::size_t i = 0; i < found.size(); ++i) {
            const RealMatrix block =
                testing::damped(rows.fisher(i), settings.fisher_damping, form == FisherForm::diagonal);
            const RealVector expected = testing::solve(block, rows.mean_gradient(i, mean));
            Real largest = 0;
            for (const Real value : expected) largest = std::max(largest, std::fabs(value));
            ASSERT_EQ(found[i].size(), expected.size());
            for (std::size_t j = 0; j < expected.size(); ++j) {
              ASSERT_NEAR(found[i][j], static_cast<double>(expected[j]), 3e-5 * static_cast<double>(largest))
                  << "unit " << i << ", input " << j;
            }
          }
        }
      }
    }
  }
}

TEST_P(NaturalGradientTest, TooLargeASystemIsRefusedWithTheLimit) {
  const Sizes sizes = {600, 3};
  Machine machine(ops(), sizes, 16);
  const auto message = [&](FisherForm form, std::int64_t batch_size) -> std::string {
    TrainingSettings settings = settings_of(sizes, form);
    settings.batch_size = batch_size;
    settings.samples = 2;
    try {
      NaturalGradient natural(machine, settings);
      return "accepted";
    } catch (const UsageError& error) {
      return error.what();
    }
  };
  EXPECT_EQ(message(FisherForm::diagonal, 100), "accepted");
  EXPECT_THAT(message(FisherForm::dense, 100),
              ::testing::AllOf(::testing::HasSubstr("601 equations"), ::testing::HasSubstr("recognition.1"),
                               ::testing::HasSubstr("the limit is 512")));
  EXPECT_EQ(message(FisherForm::woodbury, 512), "accepted");
  EXPECT_THAT(message(FisherForm::woodbury, 513), ::testing::HasSubstr("513 equations"));
}

// ------------------------------------------------------------------------------------ the update of a step

/// By conditional ("generative.1", "prior"), the moments of its units.
using MachineMoments = std::map<std::string, std::vector<testing::UnitMoments>>;

/// A conditional with the layers that it joins; no layer gives a factorial prior its states, and its own
/// layer those of an autoregressive one.
struct Joined {
  std::string name;
  const testing::NaiveConditional& conditional;
  std::size_t receiving, sending;
  bool recognition, prior;
};
std::vector<Joined> joined(const testing::NaiveMachine& machine) {
  std::vector<Joined> all;
  for (std::size_t l = 1; l <= machine.layers(); ++l) {
    all.push_back({"generative." + std::to_string(l), machine.generative[l - 1], l - 1, l, false, false});
    all.push_back({"recognition." + std::to_string(l), machine.recognition[l - 1], l, l - 1, true, false});
  }
  all.push_back({"prior", machine.prior, machine.layers(), machine.layers(), false, true});
  return all;
}

/// What unit i is given: of an autoregressive prior the units before it alone.
testing::Bits given_to(const Joined& j, std::size_t i, const testing::Configuration& states) {
  if (j.prior && !j.conditional.autoregressive) return {};
  testing::Bits given = states[j.sending];
  if (j.prior) std::fill(given.begin() + static_cast<std::ptrdiff_t>(i), given.end(), std::uint8_t{0});
  return given;
}

/// What a tuple of samples of an image makes of a unit: its gradient, and its part of the Fisher block, in
/// which samples count w_k for the generative side and 1 / K for the recognition side.
void add_tuple(MachineMoments& moments, const testing::NaiveMachine& machine, std::size_t kind,
               Real probability, const std::vector<testing::Configuration>& samples,
               const std::vector<double>& weights) {
  for (const Joined& j : joined(machine)) {
    std::vector<testing::UnitMoments>& units = moments[j.name];
    units.resize(j.conditional.receiving);
    for (std::size_t i = 0; i < units.size(); ++i) {
      RealVector gradient;
      RealMatrix fisher;
      for (std::size_t k = 0; k < samples.size(); ++k) {
        const testing::Bits given = given_to(j, i, samples[k]);
        const RealVector s = testing::with_bias(given);
        const Real p = j.conditional.probabilities(given)[i];
        gradient.resize(s.size());
        for (std::size_t a = 0; a < s.size(); ++a) {
          gradient[a] += weights[k] * (samples[k][j.receiving][i] - p) * s[a];
        }
        const Real share = j.recognition ? 1 / static_cast<Real>(samples.size()) : weights[k];
        testing::add_outer(fisher, s, share * p * (1 - p));
      }
      units[i].add(kind, probability, gradient, fisher);
    }
  }
}

/// Over all pairs of samples (K = 2) of all kinds of images.
MachineMoments moments_of_pairs(const testing::NaiveMachine& machine,
                                const std::vector<testing::Bits>& kinds) {
  MachineMoments moments;
  for (std::size_t kind = 0; kind < kinds.size(); ++kind) {
    machine.for_each_hidden(kinds[kind], [&](const testing::Configuration& first) {
      machine.for_each_hidden(kinds[kind], [&](const testing::Configuration& second) {
        const Real probability =
            std::exp(static_cast<Real>(machine.log_posterior(first) + machine.log_posterior(second)));
        const std::vector<double> weights =
            testing::self_normalised({machine.log_weight(first), machine.log_weight(second)});
        add_tuple(moments, machine, kind, probability, {first, second}, weights);
      });
    });
  }
  return moments;
}

// Gradient and Fisher blocks of a batch of 60,000 images are near their expectations, and so is the change of
// the parameters in one step near (F + damping)^-1 g with the enumerated F and g: within six standard
// deviations, to first order in both deviations (UnitMoments::variance), and a twentieth more for the second
// order. A false alarm in 2e-9 of all seeds for each of the 256 comparisons; the seed is fixed, so a failure
// is a fault.
TEST_P(NaturalGradientTest, MeanUpdateIsTheInverseOfTheEnumeratedFisherMatrixTimesTheGradient) {
  const std::size_t images = 60000;
  for (const auto& [sizes, prior] : {std::pair<Sizes, Prior>{{4, 3}, Prior::factorial},
                                     {{3, 3, 2}, Prior::factorial},
                                     {{3, 4}, Prior::autoregressive}}) {
    const Tensors before = prior == Prior::autoregressive
                               ? testing::random_autoregressive_tensors(sizes, 1.5f, 7)
                               : testing::random_tensors(sizes, 1.5f, 7);
    const std::vector<testing::Bits> kinds = testing::random_rows(3, sizes[0], 3);
    std::vector<testing::Bits> rows;
    for (std::size_t r = 0; r < images; ++r) rows.push_back(kinds[r % kinds.size()]);
    const DataSet data = testing::data_set_of(rows);
    const testing::NaiveMachine machine(before, 16);
    const MachineMoments moments = moments_of_pairs(machine, kinds);
    for (const FisherForm form : {FisherForm::diagonal, FisherForm::dense}) {
      TrainingSettings settings = settings_of(sizes, form);
      settings.prior = prior;
      settings.samples = 2;
      const Real damping = static_cast<Real>(settings.fisher_damping);
      const Tensors change = testing::change_in_one_step(ops(), before, sizes, settings, data);
      std::size_t compared = 0, unlike_the_gradient = 0, unlike_the_other_form = 0;
      for (const Joined& j : joined(machine)) {
        const bool always_diagonal = j.conditional.autoregressive;
        const bool diagonal = form == FisherForm::diagonal || always_diagonal;
        for (std::size_t i = 0; i < moments.at(j.name).size(); ++i) {
          const testing::UnitMoments& unit = moments.at(j.name)[i];
          const RealVector expected = unit.natural_gradient(damping, diagonal);
          const RealVector variance = unit.variance(damping, diagonal, 2 * testing::rounding_variance);
          const RealVector plain = unit.mean_gradient(), other = unit.natural_gradient(damping, !diagonal);
          for (std::size_t a = 0; a < expected.size(); ++a) {
            const bool bias = a + 1 == expected.size();
            const std::vector<float>& values = change.at(j.name + (bias ? ".bias" : ".weight")).values;
            const double found = bias ? values[i] : values[i * (expected.size() - 1) + a];
            const double deviation =
                std::sqrt(static_cast<double>(variance[a]) / static_cast<double>(images));
            const double allowed = 1.05 * 6 * deviation + 1e-6;
            EXPECT_LT(std::fabs(found - static_cast<double>(expected[a])), allowed)
                << name_of(form) << " " << j.name << " unit " << i << " input " << a << ": " << found
                << ", expected " << static_cast<double>(expected[a]) << " +- " << deviation;
            if (always_diagonal) continue;
            ++compared;
            unlike_the_gradient +=
                std::fabs(static_cast<double>(plain[a] - expected[a])) > 2 * allowed ? 1u : 0u;
            unlike_the_other_form +=
                std::fabs(static_cast<double>(other[a] - expected[a])) > 2 * allowed ? 1u : 0u;
          }
        }
      }
      EXPECT_GT(compared, 30u);
      EXPECT_GT(unlike_the_gradient, compared / 2);  // the places are told apart
      EXPECT_GT(unlike_the_other_form, compared / 4);
    }
  }
}

std::string conditional_of(const std::string& tensor) { return tensor.substr(0, tensor.rfind('.')); }

// Of the same samples, both forms have the same blocks. What rounding makes of (g - A^T Q A g) / damping is
// of the size of a unit's whole gradient, and biases have less of it than weights.
TEST_P(NaturalGradientTest, WoodburyAndDenseAreTheSameStep) {
  const Sizes sizes = {65, 33, 40};
  const DataSet data = testing::data_set_of(testing::random_rows(9, 65, 2));
  const Tensors before = testing::random_tensors(sizes, 0.5f, 1);
  const auto change = [&](FisherForm form, double damping) {
    TrainingSettings settings = settings_of(sizes, form);
    settings.samples = 3;
    settings.control_variate = true;
    settings.fisher_damping = damping;
    return testing::change_in_one_step(ops(), before, sizes, settings, data);
  };
  for (const double damping : {0.01, 1.0}) {
    const Tensors dense = change(FisherForm::dense, damping),
                  woodbury = change(FisherForm::woodbury, damping);
    const Tensors diagonal = change(FisherForm::diagonal, damping);
    std::map<std::string, float> largest_of;
    for (const auto& [name, tensor] : dense) {
      float& largest = largest_of[conditional_of(name)];
      for (const float value : tensor.values) largest = std::max(largest, std::fabs(value));
    }
    for (const auto& [name, tensor] : dense) {
      float largest = 0, to_woodbury = 0, to_diagonal = 0;
      for (std::size_t i = 0; i < tensor.values.size(); ++i) {
        largest = std::max(largest, std::fabs(tensor.values[i]));
        to_woodbury = std::max(to_woodbury, std::fabs(tensor.values[i] - woodbury.at(name).values[i]));
        to_diagonal = std::max(to_diagonal, std::fabs(tensor.values[i] - diagonal.at(name).values[i]));
      }
      EXPECT_LT(to_woodbury, 1e-4f * largest_of.at(conditional_of(name))) << name;
      EXPECT_EQ(to_diagonal > 1e-2f * largest, name != "prior.bias") << name;
    }
  }
}

// What is clipped is the gradient: by the factor that reweighted wake-sleep, whose step is the gradient
// itself, shows for the same samples.
TEST_P(NaturalGradientTest, AGradientIsClippedBeforeTheInverseMultipliesIt) {
  const Sizes sizes = {33, 17, 9};
  const DataSet data = testing::data_set_of(testing::random_rows(20, 33, 2));
  const Tensors before = testing::random_tensors(sizes, 0.5f, 1);
  const double limit = 0.05;
  const auto change = [&](Algorithm algorithm, double clip_gradient) {
    TrainingSettings settings = settings_of(sizes, FisherForm::dense);
    settings.algorithm = algorithm;
    settings.samples = 3;
    settings.clip_gradient = clip_gradient;
    return testing::change_in_one_step(ops(), before, sizes, settings, data);
  };
  std::map<std::string, double> largest;  // by conditional
  for (const auto& [name, tensor] : change(Algorithm::reweighted_wake_sleep, 0)) {
    double& of_conditional = largest[conditional_of(name)];
    for (const float g : tensor.values) of_conditional = std::max(of_conditional, std::fabs(double{g}));
  }
  const Tensors free = change(Algorithm::natural_reweighted_wake_sleep, 0);
  for (const auto& [name, clipped] : change(Algorithm::natural_reweighted_wake_sleep, limit)) {
    const double factor = limit / largest.at(conditional_of(name));
    EXPECT_LT(factor, 0.9) << name;
    for (std::size_t i = 0; i < clipped.values.size(); ++i) {
      ASSERT_NEAR(clipped.values[i], factor * free.at(name).values[i], 3e-6) << name << "[" << i << "]";
    }
  }
}

/// The inverse block of every unit times the change of its weights and bias, which ends with the bias.
std::vector<RealVector> multiplied(const Tensor& inverse, const Tensor* weight_change,
                                   const Tensor& bias_change) {
  const bool dense = inverse.shape.size() == 3;
  const auto d = static_cast<std::size_t>(inverse.shape.at(1));
  std::vector<RealVector> units;
  for (std::size_t i = 0; i < bias_change.values.size(); ++i) {
    RealVector change, product(d, 0);
    for (std::size_t j = 0; j + 1 < d; ++j) change.push_back(weight_change->values[i * (d - 1) + j]);
    change.push_back(bias_change.values[i]);
    for (std::size_t a = 0; a < d; ++a) {
      if (!dense) product[a] = inverse.values[i * d + a] * change[a];
      for (std::size_t j = 0; dense && j < d; ++j)
        product[a] += inverse.values[(i * d + a) * d + j] * change[j];
    }
    units.push_back(product);
  }
  return units;
}

// Of the same samples and dreams, whose generative weights stand still while the recognition weights are
// looked at. Reweighted wake-sleep in turn is held against its phases alone: rounding takes every delta by
// less than a quantum, with mean 0, to a neighbour, in each of three steps that count 1, 0.3 and 0.7, so that
// their difference has at most the standard deviation of a quantum for each of (K + 1) deltas of an image.
TEST_P(NaturalGradientTest, TheInverseMultipliesWakeAndSleepInTheirShares) {
  const Sizes sizes = {37, 19, 5};
  const std::int64_t images = 211, samples = 3;
  const double insomnia = 0.3;
  const DataSet data = testing::data_set_of(testing::random_rows(images, 37, 2));
  const Tensors before = testing::random_tensors(sizes, 0.7f, 1);
  for (const bool recognition : {true, false}) {
    const auto after_one_step = [&](Algorithm algorithm, double share) {
      TrainingSettings settings = settings_of(sizes, FisherForm::dense);
      settings.algorithm = algorithm;
      settings.samples = samples;
      settings.insomnia = share;
      settings.batch_size = images;
      (recognition ? settings.generative_learning_rate : settings.recognition_learning_rate) =
          testing::no_learning;
      Model start = Trainer(ops(), data, settings).snapshot();
      start.tensors = before;
      Trainer trainer(ops(), data, start);
      trainer.run_steps(1);
      Model after = trainer.snapshot();
      for (auto& [name, tensor] : after.tensors) {
        for (std::size_t i = 0; i < tensor.values.size(); ++i) tensor.values[i] -= before.at(name).values[i];
      }
      return after;
    };
    const Model natural = after_one_step(Algorithm::natural_reweighted_wake_sleep, insomnia);
    const Tensors gradient = after_one_step(Algorithm::reweighted_wake_sleep, insomnia).tensors;
    const Tensors wake = after_one_step(Algorithm::reweighted_wake_sleep, 1).tensors;
    const Tensors sleep = after_one_step(Algorithm::reweighted_wake_sleep, 0).tensors;
    const double allowed = 6 * std::sqrt(static_cast<double>((samples + 1) * images)) / (127.0 * images);
    std::size_t compared = 0, wake_counts = 0;
    for (const auto& [bias_name, bias_change] : gradient) {
      if (!bias_name.ends_with(".bias") || testing::is_recognition(bias_name) != recognition) continue;
      const std::string conditional = conditional_of(bias_name), weight_name = conditional + ".weight";
      const bool has_weights = gradient.contains(weight_name);
      const Tensor& inverse = natural.algorithm.at("fisher." + conditional + ".inverse");
      const std::vector<RealVector> expected =
          multiplied(inverse, has_weights ? &gradient.at(weight_name) : nullptr, bias_change);
      for (std::size_t i = 0; i < expected.size(); ++i) {
        for (std::size_t a = 0; a < expected[i].size(); ++a) {
          const bool bias = a + 1 == expected[i].size();
          const std::string& name = bias ? bias_name : weight_name;
          const std::size_t at = bias ? i : i * (expected[i].size() - 1) + a;
          ASSERT_NEAR(natural.tensors.at(name).values[at], static_cast<double>(expected[i][a]), 5e-5)
              << name << "[" << at << "]";
          ++compared;
          if (!recognition) continue;
          const double of_wake = wake.at(name).values[at], of_sleep = sleep.at(name).values[at];
          ASSERT_NEAR(gradient.at(name).values[at], insomnia * of_wake + (1 - insomnia) * of_sleep, allowed)
              << name << "[" << at << "]";
          wake_counts += std::fabs((1 - 2 * insomnia) * (of_wake - of_sleep)) > 2 * allowed ? 1u : 0u;
        }
      }
    }
    EXPECT_EQ(compared, recognition ? 19u * 38 + 5 * 20 : 37u * 20 + 19 * 6 + 5);
    EXPECT_EQ(wake_counts > compared / 10, recognition);  // exchanged shares are told apart
  }
}

// ------------------------------------------------------------------------------------ trainings

const DataSet& small_data() {
  static const DataSet data = binarize(testing::grey_rows(37, 33), Binarization::fixed, 128, 1);
  return data;
}

/// Three steps an epoch, the last one short, and a refresh in the middle of an epoch.
TrainingSettings training_settings(FisherForm form) {
  TrainingSettings settings = settings_of({33, 19, 21}, form);
  settings.batch_size = 16;
  settings.samples = 2;
  settings.insomnia = 0.5;
  settings.epochs = 4;
  settings.fisher_refresh = 5;
  settings.optimizer = OptimizerKind::momentum;
  settings.generative_learning_rate = settings.recognition_learning_rate = 0.02;
  return settings;
}

TEST_P(NaturalGradientTest, BlocksStayFromOneRefreshToTheNext) {
  for (const FisherForm form : all_forms) {
    Trainer trainer(ops(), small_data(), training_settings(form));
    std::string last;
    for (std::int64_t step = 0; step < 12; ++step) {
      trainer.run_steps(1);
      const std::string blocks = hash_of(trainer.snapshot().algorithm);
      EXPECT_EQ(blocks != last, step % 5 == 0) << name_of(form) << ", step " << step;
      last = blocks;
    }
  }
}

/// Not one element is off by more than what the sums' rounding explains, where the parameters move along what
/// the checkpoint holds.
TEST_P(NaturalGradientTest, StepsBetweenRefreshesFollowTheKeptInverse) {
  TrainingSettings settings = training_settings(FisherForm::diagonal);
  settings.optimizer = OptimizerKind::sgd;
  settings.insomnia = 1;
  Trainer natural(ops(), small_data(), settings);
  natural.run_steps(2);
  const Model before = natural.snapshot();
  natural.run_steps(1);
  const Model after = natural.snapshot();
  Model plain = before;
  plain.algorithm.clear();
  plain.settings.algorithm = Algorithm::reweighted_wake_sleep;
  Trainer reweighted(ops(), small_data(), plain);
  reweighted.run_steps(1);
  const Tensors gradient_step = reweighted.machine().download();
  for (const auto& [name, tensor] : before.tensors) {
    const std::string conditional = name.substr(0, name.rfind('.'));
    const bool bias = name.ends_with("bias");
    const Tensor& inverse = before.algorithm.at("fisher." + conditional + ".inverse");
    const std::int64_t d = inverse.shape.at(1);
    for (std::size_t i = 0; i < tensor.values.size(); ++i) {
      const auto at = static_cast<std::int64_t>(i);
      const std::int64_t place = bias ? at * d + d - 1 : at / (d - 1) * d + at % (d - 1);
      const float step = gradient_step.at(name).values[i] - tensor.values[i];
      const float expected = step * inverse.values[static_cast<std::size_t>(place)];
      EXPECT_NEAR(after.tensors.at(name).values[i] - tensor.values[i], expected, 2e-6f)
          << name << "[" << i << "]";
    }
  }
}

TEST_P(NaturalGradientTest, ResumesFromACheckpointFileWithTheBlocksThatItHad) {
  const testing::TemporaryFolder folder;
  const std::string path = (folder.path() / "checkpoint.safetensors").string();
  for (const FisherForm form : all_forms) {
    const TrainingSettings settings = training_settings(form);
    Trainer untouched(ops(), small_data(), settings);
    while (!untouched.finished()) untouched.run_epoch();
    const Model expected = untouched.snapshot();
    for (const std::int64_t stop : {1, 4, 5, 6, 11}) {
      Trainer first(ops(), small_data(), settings);
      first.run_steps(stop);
      save_model(path, first.snapshot());
      Trainer second(ops(), small_data(), load_model(path));
      while (!second.finished()) second.run_epoch();
      const Model found = second.snapshot();
      EXPECT_EQ(hash_of(found.tensors), hash_of(expected.tensors)) << name_of(form) << " at step " << stop;
      EXPECT_EQ(hash_of(found.algorithm), hash_of(expected.algorithm))
          << name_of(form) << " at step " << stop;
    }
    Model without = expected;
    without.algorithm.erase(without.algorithm.begin());
    EXPECT_THROW(Trainer(ops(), small_data(), without), DataError);
    Model with_more = expected;
    with_more.algorithm["fisher.recognition.9.inverse"] = {{1}, {1.0f}};
    EXPECT_THROW(Trainer(ops(), small_data(), with_more), DataError);
    if (form != FisherForm::woodbury) continue;
    Model damaged = expected;
    damaged.algorithm.at("fisher.recognition.1.rows").values[3] = 0.5f;
    EXPECT_THROW(Trainer(ops(), small_data(), damaged), DataError);
  }
}

// The blocks are made by the same code on the host, and what is done with them has one order of operations.
TEST_P(NaturalGradientTest, OnOneMachineEveryBackendTrainsTheSameModel) {
  CpuOptions plain;
  plain.threads = 1;
  plain.route = CpuRoute::reference;
  plain.instructions = CpuInstructions::baseline;
  const std::unique_ptr<Ops> reference = make_cpu_ops(plain);
  for (const FisherForm form : all_forms) {
    const auto trained = [&](Ops& on) {
      Trainer trainer(on, small_data(), training_settings(form));
      while (!trainer.finished()) trainer.run_epoch();
      return hash_of(trainer.machine().download());
    };
    EXPECT_EQ(trained(ops()), trained(*reference)) << name_of(form);
  }
}

// Parameters that leave the finite numbers are divergence, also by way of the blocks made of them.
TEST_P(NaturalGradientTest, DivergenceIsNoticed) {
  for (const FisherForm form : all_forms) {
    TrainingSettings settings = training_settings(form);
    settings.generative_learning_rate = 1e30;
    Trainer trainer(ops(), small_data(), settings);
    EXPECT_THROW(while (!trainer.finished()) trainer.run_epoch(), DivergenceError) << name_of(form);
  }
}

WAKESLEEP_ON_EVERY_BACKEND(NaturalGradientTest);

}  // namespace
}  // namespace wakesleep
