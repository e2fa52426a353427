// What only recorded hashes would notice otherwise (docs/testing.md): a whole training repeated by hand, draw
// by draw at the documented addresses, and operations at sizes and values where a narrow buffer shows.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "backends.hpp"
#include "reference/naive_machine.hpp"
#include "trainings.hpp"
#include "wakesleep/trainer.hpp"

namespace wakesleep::testing {
namespace {

// ------------------------------------------------------------------------------------- a training by hand

/// Draws at the addresses of docs/rng.md.
struct AddressedDraws {
  std::uint64_t seed = 0;

  std::uint32_t word(Domain domain, std::uint32_t layer, std::uint32_t row, std::uint32_t step,
                     std::uint32_t group, std::uint32_t index) const {
    return philox4x32_10({{group, row, step, static_cast<std::uint32_t>(domain) << 24 | layer}}, seed)
        .word[index];
  }

  /// In [0, 1), for a unit's state.
  double uniform(Domain domain, std::uint32_t layer, std::uint32_t row, std::uint32_t step,
                 std::uint32_t unit) const {
    return word(domain, layer, row, step, unit / 4, unit % 4) / 4294967296.0;
  }

  Bits states(const std::vector<double>& probabilities, Domain domain, std::uint32_t layer, std::uint32_t row,
              std::uint32_t step) const {
    Bits result;
    for (std::uint32_t unit = 0; unit < probabilities.size(); ++unit) {
      result.push_back(uniform(domain, layer, row, step, unit) < probabilities[unit] ? 1 : 0);
    }
    return result;
  }

  /// The errors in units of 1/127: 127 error to the nearest 1/65536, plus 16 random bits, floored.
  std::vector<double> rounded(const std::vector<double>& errors, Domain domain, std::uint32_t layer,
                              std::uint32_t row, std::uint32_t step) const {
    std::vector<double> result;
    for (std::uint32_t unit = 0; unit < errors.size(); ++unit) {
      const std::uint32_t both = word(domain, layer, row, step, unit / 8, unit % 8 / 2);
      const double half = unit % 2 == 0 ? both & 0xFFFFu : both >> 16;
      const double fixed = std::nearbyint(127 * 65536 * errors[unit]);
      result.push_back(std::floor((fixed + half) / 65536));
    }
    return result;
  }
};

/// weight * (target - probability)
std::vector<double> errors_of(const Bits& target, const std::vector<double>& probabilities,
                              double weight = 1) {
  std::vector<double> errors;
  for (std::size_t i = 0; i < target.size(); ++i) errors.push_back(weight * (target[i] - probabilities[i]));
  return errors;
}

/// Sums over the batch of error times input, by the name of the tensor.
using Gradients = std::map<std::string, std::vector<double>>;

void add_gradient(Gradients& gradients, const std::string& name, const std::vector<double>& errors,
                  const Bits& input) {
  std::vector<double>& bias = gradients[name + ".bias"];
  bias.resize(errors.size());
  for (std::size_t i = 0; i < errors.size(); ++i) bias[i] += errors[i];
  if (input.empty()) return;
  std::vector<double>& weight = gradients[name + ".weight"];
  weight.resize(errors.size() * input.size());
  for (std::size_t i = 0; i < errors.size(); ++i) {
    for (std::size_t j = 0; j < input.size(); ++j) weight[i * input.size() + j] += errors[i] * input[j];
  }
}

/// Any algorithm with plain SGD on grey rows, one row and one unit after the other.
class TrainingByHand {
 public:
  TrainingByHand(const DataSet& data, const TrainingSettings& settings)
      : data_(data), settings_(settings), draws_{settings.seed} {
    begin();
    const std::int64_t steps_per_epoch = (data.rows + settings.batch_size - 1) / settings.batch_size;
    for (std::int64_t step = 0; step < settings.epochs * steps_per_epoch; ++step) {
      const std::int64_t epoch = step / steps_per_epoch;
      const std::int64_t first = step % steps_per_epoch * settings.batch_size;
      const std::vector<std::uint32_t> order = order_of(static_cast<std::uint32_t>(epoch));
      const std::int64_t last = std::min(first + settings.batch_size, data.rows);
      wake({order.begin() + first, order.begin() + last}, static_cast<std::uint32_t>(step),
           static_cast<std::uint32_t>(epoch));
      if (dreams()) sleep(last - first, static_cast<std::uint32_t>(step));
      learn(recognition_gradients_, settings_.recognition_learning_rate * recognition_power_,
            static_cast<double>(last - first));
    }
  }

  const Tensors& tensors() const { return tensors_; }

 private:
  bool is(Algorithm algorithm) const { return settings_.algorithm == algorithm; }
  bool draws_samples() const { return !is(Algorithm::wake_sleep) && !is(Algorithm::sparse_wake_sleep); }
  bool dreams() const { return !draws_samples() || is(Algorithm::reweighted_wake_sleep); }
  static std::string name(const char* kind, std::size_t l) { return kind + std::to_string(l); }

  void begin() {
    std::vector<std::int64_t> sizes = {data_.units};
    sizes.insert(sizes.end(), settings_.layers.begin(), settings_.layers.end());
    for (std::size_t l = 1; l < sizes.size(); ++l) {
      fill(name("recognition.", l), Domain::initial_recognition, l, sizes[l], sizes[l - 1]);
      fill(name("generative.", l), Domain::initial_generative, l, sizes[l - 1], sizes[l]);
    }
    tensors_["prior.bias"] = {{sizes.back()},
                              std::vector<float>(static_cast<std::size_t>(sizes.back()), -1.0f)};
    for (std::int64_t unit = 0; unit < data_.units; ++unit) {
      double mean = 0;
      for (std::int64_t row = 0; row < data_.rows; ++row) mean += data_.row(row)[unit];
      mean = std::clamp(mean / (255.0 * static_cast<double>(data_.rows)), 1e-4, 1 - 1e-4);
      tensors_["generative.1.bias"].values[static_cast<std::size_t>(unit)] =
          static_cast<float>(std::log(mean / (1 - mean)));
    }
  }

  void fill(const std::string& conditional, Domain domain, std::size_t l, std::int64_t receiving,
            std::int64_t sending) {
    const double limit =
        std::sqrt(6.0 / static_cast<double>(sending + receiving)) / static_cast<double>(sending);
    Tensor& weight = tensors_[conditional + ".weight"];
    weight.shape = {receiving, sending};
    for (std::uint32_t i = 0; i < receiving; ++i) {
      for (std::uint32_t j = 0; j < sending; ++j) {
        const std::uint32_t word = draws_.word(domain, static_cast<std::uint32_t>(l), i, 0, j / 4, j % 4);
        const double symmetric = (2.0 * (word >> 8) + 1) / 16777216 - 1;
        weight.values.push_back(static_cast<float>(symmetric * limit));
      }
    }
    tensors_[conditional + ".bias"] = {{receiving},
                                       std::vector<float>(static_cast<std::size_t>(receiving), -1.0f)};
  }

  std::vector<std::uint32_t> order_of(std::uint32_t epoch) const {
    std::vector<std::uint32_t> order(static_cast<std::size_t>(data_.rows));
    std::iota(order.begin(), order.end(), 0u);
    const auto key = [&](std::uint32_t row) {
      return std::uint64_t{draws_.word(Domain::shuffle, 0, row, epoch, 0, 1)} << 32 |
             draws_.word(Domain::shuffle, 0, row, epoch, 0, 0);
    };
    std::stable_sort(order.begin(), order.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return key(a) < key(b); });
    return order;
  }

  Bits visible(std::uint32_t row, std::uint32_t epoch) const {
    std::vector<double> probabilities;
    for (std::int64_t unit = 0; unit < data_.units; ++unit)
      probabilities.push_back(data_.row(row)[unit] / 255.0);
    return draws_.states(probabilities, Domain::binarize_dynamic, 0, row, epoch);
  }

  /// A sample of the hidden states upward from x, at row `row` of the step's draws.
  Configuration recognised(const NaiveMachine& machine, const Bits& x, std::uint32_t row,
                           std::uint32_t step) const {
    Configuration h = {x};
    for (std::uint32_t l = 1; l <= machine.layers(); ++l) {
      h.push_back(draws_.states(machine.recognition[l - 1].probabilities(h[l - 1]), Domain::wake_sample, l,
                                row, step));
    }
    return h;
  }

  /// What the samples of an image count. `last` becomes the sample at which a chain ends.
  SampleCoefficients coefficients_of(const std::vector<double>& log_weights, std::uint32_t image,
                                     std::uint32_t step, std::size_t& last) const {
    if (is(Algorithm::vimco)) return vimco_coefficients_of(log_weights);
    if (is(Algorithm::bidirectional_helmholtz)) return bidirectional_coefficients(log_weights);
    if (!is(Algorithm::joint_stochastic_approximation)) {
      SampleCoefficients result = reweighted_coefficients(log_weights, settings_.control_variate);
      for (double& weight : result.recognition) weight *= settings_.insomnia;
      return result;
    }
    std::uint64_t accepted = 0;
    last = 0;
    for (std::uint32_t k = 1; k < log_weights.size(); ++k) {
      const double word = draws_.uniform(Domain::chain_acceptance, 0, image, step, k);
      if (word < std::exp(log_weights[k] - log_weights[last])) {
        accepted |= std::uint64_t{1} << (k - 1);
        last = k;
      }
    }
    return chain_coefficients(log_weights, accepted);
  }

  void wake(const std::vector<std::uint32_t>& rows, std::uint32_t step, std::uint32_t epoch) {
    const NaiveMachine machine(tensors_, settings_.weight_bits);
    const std::uint32_t count = draws_samples() ? static_cast<std::uint32_t>(settings_.samples) : 1;
    std::vector<std::vector<Configuration>> samples(rows.size());
    std::vector<SampleCoefficients> coefficients;
    double largest_sum = 0;
    for (std::uint32_t r = 0; r < rows.size(); ++r) {
      const Bits x = visible(rows[r], epoch);
      std::vector<double> log_weights;
      for (std::uint32_t k = 0; k < count; ++k) {
        const bool goes_on =
            is(Algorithm::joint_stochastic_approximation) && k == 0 && epoch >= settings_.fresh_epochs;
        samples[r].push_back(goes_on ? chains_.at(rows[r]) : recognised(machine, x, r * count + k, step));
        samples[r].back()[0] = x;  // which may have been binarized anew
        log_weights.push_back(machine.log_weight(samples[r].back()));
      }
      std::size_t last = 0;
      coefficients.push_back(coefficients_of(log_weights, r, step, last));
      chains_[rows[r]] = samples[r][last];
      double sum = 0;
      for (const double c : coefficients.back().recognition) sum += std::fabs(c);
      largest_sum = std::max(largest_sum, sum);
    }
    recognition_power_ = 1;
    while (is(Algorithm::vimco) && recognition_power_ < largest_sum) recognition_power_ *= 2;
    Gradients gradients;
    recognition_gradients_.clear();
    for (std::uint32_t r = 0; r < rows.size(); ++r) {
      for (std::uint32_t k = 0; k < count; ++k) {
        add_generative(gradients, machine, samples[r][k], coefficients[r].generative[k], r * count + k, step);
      }
      for (double& c : coefficients[r].recognition) c /= recognition_power_;
      if (draws_samples()) add_recognition(machine, samples[r], coefficients[r].recognition, r, step);
    }
    if (is(Algorithm::sparse_wake_sleep)) add_penalties(gradients, samples, machine.layers());
    learn(gradients, settings_.generative_learning_rate, static_cast<double>(rows.size()));
  }

  /// lambda (rho - m) for every hidden unit, in units of 1 / (127 rows), to both of its biases.
  void add_penalties(Gradients& gradients, const std::vector<std::vector<Configuration>>& samples,
                     std::size_t top) {
    const double rows = static_cast<double>(samples.size()), memory = settings_.activation_memory;
    activation_.resize(top + 1);
    for (std::size_t l = 1; l <= top; ++l) {
      activation_[l].resize(samples[0][0][l].size(), settings_.target_activation);
      std::vector<double> terms;
      for (std::size_t i = 0; i < activation_[l].size(); ++i) {
        double on = 0;
        for (const std::vector<Configuration>& of_row : samples) on += of_row[0][l][i];
        activation_[l][i] = memory * activation_[l][i] + (1 - memory) * on / rows;
        const double term = settings_.sparsity * (settings_.target_activation - activation_[l][i]);
        terms.push_back(std::round(127 * rows * term));
      }
      add_gradient(gradients, l == top ? "prior" : name("generative.", l + 1), terms, {});
      add_gradient(recognition_gradients_, name("recognition.", l), terms, {});
    }
  }

  void add_generative(Gradients& gradients, const NaiveMachine& machine, const Configuration& h,
                      double weight, std::uint32_t row, std::uint32_t step) const {
    const auto top = static_cast<std::uint32_t>(machine.layers());
    const auto add = [&](const std::string& conditional, std::uint32_t layer,
                         const std::vector<double>& probabilities, const Bits& input) {
      add_gradient(gradients, conditional,
                   draws_.rounded(errors_of(h[layer], probabilities, weight),
                                  Domain::wake_generative_rounding, layer, row, step),
                   input);
    };
    for (std::uint32_t l = 1; l <= top; ++l) {
      add(name("generative.", l), l - 1, machine.generative[l - 1].probabilities(h[l]), h[l]);
    }
    add("prior", top, machine.prior.probabilities({}), {});
  }

  /// The first layer's samples have their input in common, and one row of errors; above, each has its own.
  void add_recognition(const NaiveMachine& machine, const std::vector<Configuration>& samples,
                       const std::vector<double>& coefficients, std::uint32_t image, std::uint32_t step) {
    const auto count = static_cast<std::uint32_t>(samples.size());
    for (std::uint32_t l = 1; l <= machine.layers(); ++l) {
      std::vector<double> shared(samples[0][l].size());
      for (std::uint32_t k = 0; k < count; ++k) {
        const Configuration& h = samples[k];
        const std::vector<double> errors =
            errors_of(h[l], machine.recognition[l - 1].probabilities(h[l - 1]), coefficients[k]);
        for (std::size_t i = 0; i < errors.size(); ++i) shared[i] += errors[i];
        if (l == 1) continue;
        add_gradient(recognition_gradients_, name("recognition.", l),
                     draws_.rounded(errors, Domain::wake_recognition_rounding, l, image * count + k, step),
                     h[l - 1]);
      }
      if (l > 1) continue;
      add_gradient(recognition_gradients_, name("recognition.", 1),
                   draws_.rounded(shared, Domain::wake_recognition_rounding, 1, image, step), samples[0][0]);
    }
  }

  void sleep(std::int64_t rows, std::uint32_t step) {
    const NaiveMachine machine(tensors_, settings_.weight_bits);
    const auto top = static_cast<std::uint32_t>(machine.layers());
    const double share = is(Algorithm::reweighted_wake_sleep) ? 1 - settings_.insomnia : 1;
    for (std::uint32_t r = 0; r < rows; ++r) {
      Bits h = draws_.states(machine.prior.probabilities({}), Domain::sleep_sample, top, r, step);
      for (std::uint32_t l = top; l >= 1; --l) {
        const Bits below =
            draws_.states(machine.generative[l - 1].probabilities(h), Domain::sleep_sample, l - 1, r, step);
        add_gradient(recognition_gradients_, name("recognition.", l),
                     draws_.rounded(errors_of(h, machine.recognition[l - 1].probabilities(below), share),
                                    Domain::sleep_rounding, l, r, step),
                     below);
        h = below;
      }
    }
  }

  void learn(const Gradients& gradients, double rate, double rows) {
    for (const auto& [tensor, gradient] : gradients) {
      const bool is_weight = tensor.find(".weight") != std::string::npos;
      const double kept = is_weight ? 1 - rate * settings_.weight_decay : 1;
      std::vector<float>& values = tensors_.at(tensor).values;
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<float>(kept * values[i] + rate * gradient[i] / (127 * rows));
      }
    }
  }

  const DataSet& data_;
  const TrainingSettings& settings_;
  AddressedDraws draws_;
  Tensors tensors_;
  Gradients recognition_gradients_;                ///< of the step
  double recognition_power_ = 1;                   ///< that they were divided by
  std::map<std::uint32_t, Configuration> chains_;  ///< by the row of the data
  std::vector<std::vector<double>> activation_;    ///< by layer: running means
};

class FaultGapsTest : public BackendTest {};

TrainingSettings settings_by_hand(const std::vector<std::int64_t>& layers, int bits) {
  TrainingSettings settings;
  settings.layers = layers;
  settings.weight_bits = bits;
  settings.batch_size = 3;
  settings.epochs = 5;
  settings.seed = 0x1234567890ABCDEFull;
  settings.optimizer = OptimizerKind::sgd;
  settings.schedule = Schedule::constant;
  settings.binarization = Binarization::dynamic;
  settings.generative_learning_rate = 0.5;
  settings.recognition_learning_rate = 0.25;
  settings.weight_decay = 0.05;
  return settings;
}

void expect_training_by_hand(Ops& ops, const TrainingSettings& settings) {
  const DataSet data = grey_rows(8, 13);  // the last batch of an epoch has two rows
  Trainer trainer(ops, data, settings);
  while (!trainer.finished()) trainer.run_epoch();
  const Tensors found = trainer.machine().download();
  const TrainingByHand by_hand(data, settings);
  ASSERT_EQ(found.size(), by_hand.tensors().size());
  for (const auto& [name, tensor] : by_hand.tensors()) {
    const std::vector<float>& values = found.at(name).values;
    ASSERT_EQ(values.size(), tensor.values.size()) << name;
    for (std::size_t i = 0; i < values.size(); ++i) {
      EXPECT_NEAR(values[i], tensor.values[i], 1e-5) << name << "[" << i << "]";
    }
  }
}

// A draw at another address, or one row more or less, changes a parameter by rate / (127 rows) = 4e-4 at
// least. The roundings of single and double precision, over 15 steps, come to 1e-6.
TEST_P(FaultGapsTest, ATrainingIsTheOneDoneByHandAtTheDocumentedAddresses) {
  using Layers = std::vector<std::int64_t>;
  for (const auto& [layers, bits] :
       {std::pair<Layers, int>{{5, 3}, 16}, {{9}, 8}, {{2, 11, 4}, 12}, {{7, 6}, 8}}) {
    expect_training_by_hand(ops(), settings_by_hand(layers, bits));
  }
}

// Two epochs, because importance weights agree less closely: log-probabilities are rounded to 2^-20 nats, so
// that about one delta in 10,000 would be rounded to the other side.
TEST_P(FaultGapsTest, AReweightedTrainingIsTheOneDoneByHandAtTheDocumentedAddresses) {
  const struct {
    std::vector<std::int64_t> layers;
    int bits;
    std::int64_t samples;
    double insomnia;
    bool control_variate;
  } trainings[] = {{{5, 3}, 16, 3, 0.5, false},
                   {{9}, 8, 2, 1, true},
                   {{2, 7, 4}, 12, 4, 0.25, true},
                   {{6, 3}, 8, 5, 0, false}};
  for (const auto& training : trainings) {
    SCOPED_TRACE(::testing::Message() << "K = " << training.samples);
    TrainingSettings settings = settings_by_hand(training.layers, training.bits);
    settings.algorithm = Algorithm::reweighted_wake_sleep;
    settings.samples = training.samples;
    settings.insomnia = training.insomnia;
    settings.control_variate = training.control_variate;
    settings.epochs = 2;
    expect_training_by_hand(ops(), settings);
  }
}

// ------------------------------------------------------------------------------------ operations at limits

TEST_P(FaultGapsTest, TheOtherAlgorithmsAreThoseDoneByHandAtTheDocumentedAddresses) {
  using enum Algorithm;
  const struct {
    Algorithm algorithm;
    std::vector<std::int64_t> layers;
    int bits;
    std::int64_t samples, epochs, fresh_epochs;
  } trainings[] = {{vimco, {5, 3}, 16, 3, 2, 1},
                   {vimco, {9}, 8, 5, 2, 1},
                   {bidirectional_helmholtz, {2, 7, 4}, 12, 4, 2, 1},
                   {joint_stochastic_approximation, {5, 3}, 16, 3, 3, 1},
                   {joint_stochastic_approximation, {6, 4, 3}, 12, 6, 4, 2},
                   {joint_stochastic_approximation, {9}, 8, 2, 2, 3},
                   {sparse_wake_sleep, {7, 6}, 8, 1, 5, 1},
                   {sparse_wake_sleep, {2, 11, 4}, 16, 1, 5, 1}};
  for (const auto& training : trainings) {
    SCOPED_TRACE(::testing::Message() << name_of(training.algorithm) << ", K = " << training.samples);
    TrainingSettings settings = settings_by_hand(training.layers, training.bits);
    settings.algorithm = training.algorithm;
    settings.samples = training.samples;
    settings.epochs = training.epochs;
    settings.fresh_epochs = training.fresh_epochs;
    settings.sparsity = 0.4;
    settings.activation_memory = 0.75;
    expect_training_by_hand(ops(), settings);
  }
}

TEST_P(FaultGapsTest, WideGreyRowsTakeADrawOfTheirOwnForEveryUnit) {
  const std::int64_t units = 2500;  // the CPU makes words for 1,024 units at a time
  std::vector<std::uint8_t> grey(static_cast<std::size_t>(units));
  for (std::size_t i = 0; i < grey.size(); ++i) grey[i] = static_cast<std::uint8_t>(i % 256);
  auto data = to_device(ops(), grey);
  auto first = to_device(ops(), std::vector<std::uint32_t>{0});
  Buffer<std::uint8_t> states(ops(), padded_units(units));
  Draw draw;
  draw.seed = 3;
  draw.domain = Domain::binarize_dynamic;
  ops().gather({data.data(), 1, units, units, true}, nullptr, first.data(), draw,
               {states.data(), 1, units, padded_units(units)});
  const std::vector<std::uint8_t> found = to_host(states);
  const AddressedDraws draws{3};
  for (std::uint32_t unit = 0; unit < units; ++unit) {
    EXPECT_EQ(found[unit], draws.uniform(Domain::binarize_dynamic, 0, 0, 0, unit) < grey[unit] / 255.0)
        << "unit " << unit;
  }
}

TEST_P(FaultGapsTest, BiasGradientsOfLargestDeltasAreExact) {
  const std::int64_t rows = 1000, units = 300, stride = padded_units(units);
  std::vector<std::int8_t> deltas(static_cast<std::size_t>(rows * stride));
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t u = 0; u < units; ++u) {
      deltas[static_cast<std::size_t>(r * stride + u)] = u % 2 == 0 ? 127 : -127;
    }
  }
  auto device_deltas = to_device(ops(), deltas);
  auto gradient = to_device(ops(), std::vector<std::int32_t>(static_cast<std::size_t>(units), -1));
  ops().gradient({device_deltas.data(), rows, units, stride}, {}, nullptr, gradient.data());
  const std::vector<std::int32_t> found = to_host(gradient);
  for (std::int64_t u = 0; u < units; ++u) {
    EXPECT_EQ(found[static_cast<std::size_t>(u)], u % 2 == 0 ? 127000 : -127000) << "unit " << u;
  }
}

TEST_P(FaultGapsTest, ScoresAreAddedWithTheirSign) {
  const std::int64_t rows = 3, units = 5;
  const float logit = 0.75f;
  auto bias = to_device(ops(), std::vector<float>(static_cast<std::size_t>(units), logit));
  Conditional prior;
  prior.bias = bias.data();
  prior.receiving = units;
  Buffer<std::uint8_t> target(ops(), rows * padded_units(units));
  target.fill_zero();
  for (const int sign : {1, -1}) {
    auto sums = to_device(ops(), std::vector<std::int64_t>{100, 200, 300});
    ops().score(prior, {}, {target.data(), rows, units, padded_units(units)}, {sums.data(), sign, nullptr});
    const std::vector<std::int64_t> found = to_host(sums);
    const double nats = static_cast<double>(units) * naive_log_sigmoid(-double{logit});
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t added = found[static_cast<std::size_t>(r)] - 100 * (r + 1);
      EXPECT_NEAR(static_cast<double>(added) * nats_per_log_unit, sign * nats, 1e-5) << "row " << r;
    }
  }
}

WAKESLEEP_ON_EVERY_BACKEND(FaultGapsTest);

}  // namespace
}  // namespace wakesleep::testing
