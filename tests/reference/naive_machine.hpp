// A Helmholtz machine as the textbook writes it: plain loops, double precision, the standard library's
// functions and no line shared with the engine's arithmetic. Everything is found by visiting every state, so
// keep machines small (about 16 units together). Tests compare the engine with it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "reference/sample_coefficients.hpp"
#include "wakesleep/machine.hpp"

namespace wakesleep::testing {

/// The states of one layer, each 0 or 1, or 0 to 127 of Gaussian visible units.
using Bits = std::vector<std::uint8_t>;
/// The states of all layers: [0] the visible ones, [l] those of hidden layer l.
using Configuration = std::vector<Bits>;

/// State number `index` of a layer of `units`: unit i is bit i.
inline Bits bits_of(std::uint64_t index, std::int64_t units) {
  Bits bits;
  for (std::int64_t i = 0; i < units; ++i) bits.push_back(static_cast<std::uint8_t>(index >> i & 1));
  return bits;
}

inline double naive_sigmoid(double a) { return 1 / (1 + std::exp(-a)); }

/// log sigma(a), also where sigma(a) rounds to 0.
inline double naive_log_sigmoid(double a) {
  return a > 0 ? -std::log1p(std::exp(-a)) : a - std::log1p(std::exp(a));
}

/// p(receiving | sending) = prod_i Bernoulli(sigma(w_i . s + b_i)); a factorial prior has no sending units,
/// and unit i of an autoregressive one receives from units 0 .. i - 1 of its own layer. Gaussian units have
/// the logit as their mean, and states that are 127 times their values.
struct NaiveConditional {
  std::size_t receiving = 0;
  std::size_t sending = 0;
  std::vector<double> weight;  ///< [receiving x sending]
  std::vector<double> bias;    ///< [receiving]
  bool autoregressive = false;
  double deviation = 0;      ///< of Gaussian receiving units; 0: Bernoulli
  double largest_input = 1;  ///< the sending state that stands for 1

  /// What receiving unit i has from sending unit j in the given states.
  double input(std::size_t i, std::size_t j, const Bits& given) const {
    return autoregressive && j >= i ? 0.0 : static_cast<double>(given[j]) / largest_input;
  }

  std::vector<double> logits(const Bits& given) const {
    std::vector<double> result(receiving);
    for (std::size_t i = 0; i < receiving; ++i) {
      result[i] = bias[i];
      for (std::size_t j = 0; j < sending; ++j) result[i] += weight[i * sending + j] * input(i, j, given);
    }
    return result;
  }

  /// Of Gaussian units, their means.
  std::vector<double> probabilities(const Bits& given) const {
    std::vector<double> result = logits(given);
    if (deviation > 0) return result;
    for (double& value : result) value = naive_sigmoid(value);
    return result;
  }

  /// The derivative of the log-probability by the logit, which is `probabilities` of; of Gaussian units that
  /// lie more than 1 from their means, the derivative at 1.
  double error(std::uint8_t state, double probability) const {
    if (deviation == 0) return state - probability;
    return std::clamp(state / 127.0 - probability, -1.0, 1.0) / (deviation * deviation);
  }

  /// The probability that a Gaussian unit's value is rounded to this state.
  double mass(std::uint8_t state, double mean) const {
    const auto below = [&](double value) {
      return 0.5 * std::erfc((mean - value) / deviation / std::sqrt(2));
    };
    const double upper = state == 127 ? 1.0 : below((state + 0.5) / 127);
    return upper - (state == 0 ? 0.0 : below((state - 0.5) / 127));
  }

  /// log p(states | given)
  double log_probability(const Bits& states, const Bits& given) const {
    const std::vector<double> a = logits(given);
    double sum = 0;
    for (std::size_t i = 0; i < receiving; ++i) {
      if (deviation > 0) {
        const double z = (states[i] / 127.0 - a[i]) / deviation;
        sum += -0.5 * z * z - std::log(deviation) - 0.5 * std::log(2 * std::acos(-1.0));
      } else {
        sum += naive_log_sigmoid(states[i] != 0 ? a[i] : -a[i]);
      }
    }
    return sum;
  }
};

/// Mean and variance of the contribution of one row to the gradient of one parameter tensor, in its order.
struct ExpectedUpdate {
  std::vector<double> mean;
  std::vector<double> variance;
};
/// By the tensor's name: generative.{l}.weight, ..., prior.bias.
using ExpectedUpdates = std::map<std::string, ExpectedUpdate>;

/// One gradient for each parameter, in the tensors' order, by the tensor's name.
using Gradients = std::map<std::string, std::vector<double>>;

/// Reweighted wake-sleep's gradient of one image where K is large, g standing for grad log p(x, h) or grad
/// log q(h | x) and w for p(h | x) / q(h | x).
struct LargeSampleGradient {
  Gradients limit;     ///< for K to infinity: the mean of g under the true posterior p(h | x)
  Gradients bias;      ///< K times the bias to first order, -E_q[w^2 (g - limit)]
  Gradients variance;  ///< K times the variance to first order, E_q[(w (g - limit))^2]
};

struct NaiveMachine {
  std::vector<std::int64_t> sizes;            ///< from the visible layer upward
  std::vector<NaiveConditional> recognition;  ///< [l - 1]: q(h_l | h_{l-1})
  std::vector<NaiveConditional> generative;   ///< [l - 1]: p(h_{l-1} | h_l)
  NaiveConditional prior;                     ///< p(h_L)

  /// From the tensors of a model. With weight_bits 16, 12 or 8 the weights are rounded as the products see
  /// them (a shift per receiving unit), with 0 they are taken as they are.
  explicit NaiveMachine(const Tensors& tensors, int weight_bits = 0, const VisibleUnits& visible = {}) {
    for (int l = 1; tensors.count("recognition." + std::to_string(l) + ".weight") != 0; ++l) {
      recognition.push_back(conditional_from(tensors, "recognition." + std::to_string(l), weight_bits));
      generative.push_back(conditional_from(tensors, "generative." + std::to_string(l), weight_bits));
    }
    prior = conditional_from(tensors, "prior", weight_bits);
    prior.autoregressive = prior.sending > 0;
    for (const NaiveConditional& g : generative) sizes.push_back(static_cast<std::int64_t>(g.receiving));
    sizes.push_back(static_cast<std::int64_t>(prior.receiving));
    if (visible.kind == Visible::gaussian) {
      generative[0].deviation = visible.deviation;
      recognition[0].largest_input = 127;
    }
  }

  std::size_t layers() const { return generative.size(); }  ///< L

  /// What the prior is given: the top layer itself if it is autoregressive.
  Bits prior_input(const Configuration& h) const { return prior.autoregressive ? h[layers()] : Bits{}; }

  /// log p(h_l | h_{l+1}), the prior's for l = L.
  double log_p(std::size_t l, const Configuration& h) const {
    return l == layers() ? prior.log_probability(h[l], prior_input(h))
                         : generative[l].log_probability(h[l], h[l + 1]);
  }
  /// log q(h_l | h_{l-1}) for l = 1 .. L.
  double log_q(std::size_t l, const Configuration& h) const {
    return recognition[l - 1].log_probability(h[l], h[l - 1]);
  }
  /// log p(x, h)
  double log_joint(const Configuration& h) const {
    double sum = 0;
    for (std::size_t l = 0; l <= layers(); ++l) sum += log_p(l, h);
    return sum;
  }
  /// log q(h | x)
  double log_posterior(const Configuration& h) const {
    double sum = 0;
    for (std::size_t l = 1; l <= layers(); ++l) sum += log_q(l, h);
    return sum;
  }
  /// log p(x, h) - log q(h | x)
  double log_weight(const Configuration& h) const { return log_joint(h) - log_posterior(h); }

  /// Calls visit(configuration) for all states of the hidden layers above the visible states x.
  template <class Visit>
  void for_each_hidden(const Bits& x, Visit visit) const {
    std::int64_t units = 0;
    for (std::size_t l = 1; l <= layers(); ++l) units += sizes[l];
    for (std::uint64_t index = 0; index < std::uint64_t{1} << units; ++index) {
      Configuration h = {x};
      std::uint64_t rest = index;
      for (std::size_t l = 1; l <= layers(); ++l) {
        h.push_back(bits_of(rest, sizes[l]));
        rest >>= sizes[l];
      }
      visit(h);
    }
  }

  /// Calls visit(x) for all visible states.
  template <class Visit>
  void for_each_visible(Visit visit) const {
    const std::uint8_t last = generative[0].deviation > 0 ? 127 : 1;
    Bits x(static_cast<std::size_t>(sizes[0]));
    while (true) {
      visit(x);
      std::size_t unit = 0;
      while (unit < x.size() && x[unit] == last) x[unit++] = 0;
      if (unit == x.size()) return;
      ++x[unit];
    }
  }

  /// The probability that a dream has these states.
  double dream_probability(const Configuration& h) const {
    if (generative[0].deviation == 0) return std::exp(log_joint(h));
    double log_hidden = 0;
    for (std::size_t l = 1; l <= layers(); ++l) log_hidden += log_p(l, h);
    double probability = std::exp(log_hidden);
    const std::vector<double> means = generative[0].logits(h[1]);
    for (std::size_t i = 0; i < means.size(); ++i) probability *= generative[0].mass(h[0][i], means[i]);
    return probability;
  }

  /// log p(x)
  double log_likelihood(const Bits& x) const {
    std::vector<double> terms;
    for_each_hidden(x, [&](const Configuration& h) { terms.push_back(log_joint(h)); });
    return naive_log_sum_exp(terms);
  }

  /// E[value(configuration)] under q(h | x).
  template <class Value>
  double expectation_under_recognition(const Bits& x, Value value) const {
    double sum = 0;
    for_each_hidden(x, [&](const Configuration& h) { sum += std::exp(log_posterior(h)) * value(h); });
    return sum;
  }

  /// E[value(configuration)] under p(x, h).
  template <class Value>
  double expectation_under_generation(Value value) const {
    double sum = 0;
    for_each_visible([&](const Bits& x) {
      for_each_hidden(x, [&](const Configuration& h) { sum += std::exp(log_joint(h)) * value(h); });
    });
    return sum;
  }

  /// The variational bound E_q[log p(x, h) - log q(h | x)].
  double bound(const Bits& x) const {
    return expectation_under_recognition(x, [&](const Configuration& h) { return log_weight(h); });
  }

  /// E_q[log q(h_l | h_{l-1}) - log p(h_l | h_{l+1})]
  double layer_kl(const Bits& x, std::size_t l) const {
    return expectation_under_recognition(x,
                                         [&](const Configuration& h) { return log_q(l, h) - log_p(l, h); });
  }

  /// The wake phase's gradient of the generative weights and of the prior, (h_{l-1} - sigma(.)) h_l^T under
  /// q(h | x): mean over the rows and draws; the variance is over draws, averaged over the rows. The mean
  /// over a batch of B rows that repeats `rows` equally often thus has this mean and variance / B (rounding
  /// of deltas not included).
  ExpectedUpdates expected_wake(const std::vector<Bits>& rows) const {
    ExpectedUpdates total;
    for (const Bits& x : rows) {
      ExpectedUpdates row;
      for_each_hidden(x, [&](const Configuration& h) {
        const double probability = std::exp(log_posterior(h));
        for (std::size_t l = 1; l <= layers(); ++l) {
          add_moments(row, "generative." + std::to_string(l), generative[l - 1], h[l - 1], h[l], probability);
        }
        add_moments(row, "prior", prior, h[layers()], prior_input(h), probability);
      });
      centre_moments(row);
      add_share(total, row, 1.0 / static_cast<double>(rows.size()));
    }
    return total;
  }

  /// The sleep phase's gradient of the recognition weights, (h_l - sigma(.)) h_{l-1}^T under p(x, h): mean
  /// and variance of one dream's contribution (rounding of deltas not included).
  ExpectedUpdates expected_sleep() const {
    ExpectedUpdates dream;
    for_each_visible([&](const Bits& x) {
      for_each_hidden(x, [&](const Configuration& h) {
        const double probability = dream_probability(h);
        for (std::size_t l = 1; l <= layers(); ++l) {
          add_moments(dream, "recognition." + std::to_string(l), recognition[l - 1], h[l], h[l - 1],
                      probability);
        }
      });
    });
    centre_moments(dream);
    return dream;
  }

  /// The gradient of one image that weighs its samples: sum_k g_k grad log p(x, h^k) of the generative
  /// weights and the prior, sum_k r_k grad log q(h^k | x) of the recognition weights, h^k ~ q(. | x), g and r
  /// from coefficients(log weights), a vector of SampleCoefficients with all that may happen. Mean over the
  /// rows, over all K-tuples of hidden states and over what may happen; the variance averaged over the rows
  /// (rounding of deltas not included).
  template <class Coefficients>
  ExpectedUpdates expected_over_tuples(const std::vector<Bits>& rows, int samples,
                                       const Coefficients& coefficients) const {
    ExpectedUpdates total;
    for (const Bits& x : rows) {
      const std::vector<Draw> draws = all_draws(x);
      ExpectedUpdates row;
      for_each_tuple(draws, samples, [&](const Tuple& tuple) {
        for (const SampleCoefficients& c : coefficients(tuple.log_weights)) {
          add_tuple(row, draws, tuple, c);
        }
      });
      centre_moments(row);
      add_share(total, row, 1.0 / static_cast<double>(rows.size()));
    }
    return total;
  }

  /// Reweighted wake-sleep's: g_k = w_k = softmax_k(log p(x, h^k) - log q(h^k | x)), r_k = w_k - 1 / K if
  /// `centred`, else w_k.
  ExpectedUpdates expected_reweighted(const std::vector<Bits>& rows, int samples, bool centred) const {
    return expected_over_tuples(rows, samples, [&](const std::vector<double>& log_weights) {
      return std::vector<SampleCoefficients>{reweighted_coefficients(log_weights, centred)};
    });
  }

  /// The K-sample bound E[log 1/K sum_k w_k], h^k ~ q(. | x).
  double expected_bound(const Bits& x, int samples) const {
    double sum = 0;
    for_each_tuple(all_draws(x), samples,
                   [&](const Tuple& tuple) { sum += tuple.probability * sample_bound(tuple.log_weights); });
    return sum;
  }

  /// The gradient of reweighted wake-sleep where K is large.
  LargeSampleGradient large_sample_gradient(const Bits& x) const {
    const std::vector<Draw> draws = all_draws(x);
    const double log_p = log_likelihood(x);
    LargeSampleGradient result;
    for (const auto& [name, gradient] : draws[0].gradients) {
      std::vector<double>& limit = result.limit[name];
      std::vector<double>& bias = result.bias[name];
      std::vector<double>& variance = result.variance[name];
      for (std::vector<double>* values : {&limit, &bias, &variance}) values->resize(gradient.size());
      for (std::size_t i = 0; i < gradient.size(); ++i) {
        for (const Draw& draw : draws) {
          limit[i] += draw.probability * std::exp(draw.log_weight - log_p) * draw.gradients.at(name)[i];
        }
        for (const Draw& draw : draws) {
          const double weight = std::exp(draw.log_weight - log_p);
          const double deviation = weight * (draw.gradients.at(name)[i] - limit[i]);
          bias[i] -= draw.probability * weight * deviation;
          variance[i] += draw.probability * deviation * deviation;
        }
      }
    }
    return result;
  }

 private:
  /// One state of the hidden layers as a sample.
  struct Draw {
    double probability = 0;  ///< q(h | x)
    double log_weight = 0;   ///< log p(x, h) - log q(h | x)
    Gradients gradients;     ///< of log p(x, h) and log q(h | x)
  };

  std::vector<Draw> all_draws(const Bits& x) const {
    std::vector<Draw> draws;
    for_each_hidden(x, [&](const Configuration& h) {
      Draw draw{std::exp(log_posterior(h)), log_weight(h), {}};
      for (std::size_t l = 1; l <= layers(); ++l) {
        add_gradient(draw.gradients, "generative." + std::to_string(l), generative[l - 1], h[l - 1], h[l]);
        add_gradient(draw.gradients, "recognition." + std::to_string(l), recognition[l - 1], h[l], h[l - 1]);
      }
      add_gradient(draw.gradients, "prior", prior, h[layers()], prior_input(h));
      draws.push_back(draw);
    });
    return draws;
  }

  static void add_gradient(Gradients& gradients, const std::string& name, const NaiveConditional& conditional,
                           const Bits& target, const Bits& given) {
    const std::vector<double> p = conditional.probabilities(given);
    for (std::size_t i = 0; i < conditional.receiving; ++i) {
      const double error = conditional.error(target[i], p[i]);
      gradients[name + ".bias"].push_back(error);
      for (std::size_t j = 0; j < conditional.sending; ++j) {
        gradients[name + ".weight"].push_back(error * conditional.input(i, j, given));
      }
    }
  }

  /// K samples, by their place among all draws.
  struct Tuple {
    std::vector<std::size_t> places;
    std::vector<double> log_weights;
    double probability = 1;
  };

  template <class Visit>
  static void for_each_tuple(const std::vector<Draw>& draws, int samples, const Visit& visit) {
    std::vector<std::size_t> places(static_cast<std::size_t>(samples));
    for (bool more = true; more; more = next_tuple(places, draws.size())) {
      Tuple tuple{places, {}, 1};
      for (const std::size_t place : places) {
        tuple.log_weights.push_back(draws[place].log_weight);
        tuple.probability *= draws[place].probability;
      }
      visit(tuple);
    }
  }

  /// The next of all tuples of numbers below `count`; false after the last.
  static bool next_tuple(std::vector<std::size_t>& tuple, std::size_t count) {
    for (std::size_t& number : tuple) {
      if (++number < count) return true;
      number = 0;
    }
    return false;
  }

  /// Adds the moments of the gradient that one tuple of samples gives.
  static void add_tuple(ExpectedUpdates& updates, const std::vector<Draw>& draws, const Tuple& tuple,
                        const SampleCoefficients& coefficients) {
    const double probability = tuple.probability * coefficients.probability;
    for (const auto& [name, first] : draws[0].gradients) {
      const std::vector<double>& of_samples =
          name.rfind("recognition", 0) == 0 ? coefficients.recognition : coefficients.generative;
      std::vector<double> gradient(first.size());
      for (std::size_t k = 0; k < tuple.places.size(); ++k) {
        const std::vector<double>& of_sample = draws[tuple.places[k]].gradients.at(name);
        for (std::size_t i = 0; i < gradient.size(); ++i) gradient[i] += of_samples[k] * of_sample[i];
      }
      ExpectedUpdate& update = with_size(updates[name], gradient.size());
      for (std::size_t i = 0; i < gradient.size(); ++i) {
        update.mean[i] += probability * gradient[i];
        update.variance[i] += probability * gradient[i] * gradient[i];
      }
    }
  }

  static void add_share(ExpectedUpdates& total, const ExpectedUpdates& part, double share) {
    for (const auto& [name, update] : part) {
      ExpectedUpdate& sum = with_size(total[name], update.mean.size());
      for (std::size_t i = 0; i < update.mean.size(); ++i) {
        sum.mean[i] += share * update.mean[i];
        sum.variance[i] += share * update.variance[i];
      }
    }
  }

  static NaiveConditional conditional_from(const Tensors& tensors, const std::string& name, int weight_bits) {
    NaiveConditional conditional;
    const Tensor& bias = tensors.at(name + ".bias");
    conditional.receiving = bias.values.size();
    conditional.bias.assign(bias.values.begin(), bias.values.end());
    if (tensors.count(name + ".weight") == 0) return conditional;  // a factorial prior
    const Tensor& weight = tensors.at(name + ".weight");
    conditional.sending = static_cast<std::size_t>(weight.shape.at(1));
    conditional.weight.assign(weight.values.begin(), weight.values.end());
    if (weight_bits != 0) round_weights(conditional, weight_bits);
    return conditional;
  }

  /// w becomes rint(w 2^s) 2^-s with the largest s in [-30, 30] for which the row's largest magnitude fits.
  static void round_weights(NaiveConditional& conditional, int weight_bits) {
    const double limit = weight_bits == 16 ? 32639 : weight_bits == 12 ? 2047 : 127;
    for (std::size_t i = 0; i < conditional.receiving; ++i) {
      double* row = conditional.weight.data() + i * conditional.sending;
      double largest = 0;
      for (std::size_t j = 0; j < conditional.sending; ++j) largest = std::max(largest, std::fabs(row[j]));
      int shift = 30;
      while (shift > -30 && std::nearbyint(std::ldexp(largest, shift)) > limit) --shift;
      for (std::size_t j = 0; j < conditional.sending; ++j) {
        row[j] = std::ldexp(std::nearbyint(std::ldexp(row[j], shift)), -shift);
      }
    }
  }

  static ExpectedUpdate& with_size(ExpectedUpdate& update, std::size_t size) {
    update.mean.resize(size);
    update.variance.resize(size);
    return update;
  }

  /// Adds the first and second moments of the delta rule's update of one conditional.
  static void add_moments(ExpectedUpdates& updates, const std::string& name,
                          const NaiveConditional& conditional, const Bits& target, const Bits& given,
                          double probability) {
    const std::vector<double> p = conditional.probabilities(given);
    ExpectedUpdate& bias = with_size(updates[name + ".bias"], conditional.receiving);
    for (std::size_t i = 0; i < conditional.receiving; ++i) {
      const double delta = conditional.error(target[i], p[i]);
      bias.mean[i] += probability * delta;
      bias.variance[i] += probability * delta * delta;
    }
    if (conditional.sending == 0) return;
    ExpectedUpdate& weight =
        with_size(updates[name + ".weight"], conditional.receiving * conditional.sending);
    for (std::size_t i = 0; i < conditional.receiving; ++i) {
      for (std::size_t j = 0; j < conditional.sending; ++j) {
        const double product = conditional.error(target[i], p[i]) * conditional.input(i, j, given);
        weight.mean[i * conditional.sending + j] += probability * product;
        weight.variance[i * conditional.sending + j] += probability * product * product;
      }
    }
  }

  /// Turns second moments into variances.
  static void centre_moments(ExpectedUpdates& updates) {
    for (auto& [name, update] : updates) {
      for (std::size_t i = 0; i < update.mean.size(); ++i) {
        update.variance[i] = std::max(0.0, update.variance[i] - update.mean[i] * update.mean[i]);
      }
    }
  }
};

}  // namespace wakesleep::testing
