// The exact likelihood, where there are few enough hidden states to visit them all. In double precision: it
// is the yardstick of the estimate and outside the bit-for-bit contract.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "data_bits.hpp"
#include "floating_point.hpp"
#include "visible_rows.hpp"
#include "wakesleep/arithmetic.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/evaluate.hpp"

namespace wakesleep {
namespace {

/// The prior is a table of its own, of 2^n_L entries.
constexpr std::int64_t max_enumerated_top = max_enumerated_units - 4;

void check_enumerable(const Machine& machine) {
  const auto refuse = [](const std::string& what, std::int64_t units, std::int64_t limit) {
    throw UsageError("the exact likelihood would enumerate " + what + " of " + std::to_string(units) +
                     " units, but the limit is " + std::to_string(limit) +
                     ": use the importance-sampled estimate instead");
  };
  const int top = machine.layers();
  for (int l = 1; l < top; ++l) {
    const std::int64_t units = machine.size(l) + machine.size(l + 1);
    if (units > max_enumerated_units) {
      refuse("hidden layers " + std::to_string(l) + " and " + std::to_string(l + 1), units,
             max_enumerated_units);
    }
  }
  if (machine.size(top) > max_enumerated_top) {
    refuse("hidden layer " + std::to_string(top), machine.size(top), max_enumerated_top);
  }
}

/// A generative conditional or the prior, with the weights that sampling uses: integers, and a power of two
/// for each receiving unit.
struct IntegerConditional {
  std::int64_t receiving = 0;
  std::int64_t sending = 0;
  std::vector<std::int32_t>
      weight;                 ///< [sending x receiving], so that one sending unit's weights lie together
  std::vector<double> scale;  ///< [receiving], 2^-s
  std::vector<double> bias;   ///< [receiving]
};

IntegerConditional integer_conditional(const Tensors& tensors, const std::string& name, int weight_bits) {
  IntegerConditional result;
  const std::vector<float>& bias = tensors.at(name + ".bias").values;
  result.receiving = static_cast<std::int64_t>(bias.size());
  result.bias.assign(bias.begin(), bias.end());
  const auto found = tensors.find(name + ".weight");
  if (found == tensors.end()) return result;  // a factorial prior

  const std::vector<float>& weight = found->second.values;
  result.sending = found->second.shape[1];
  result.weight.resize(weight.size());
  result.scale.resize(bias.size());
  for (std::int64_t i = 0; i < result.receiving; ++i) {
    const float* row = weight.data() + i * result.sending;
    float largest = 0;
    for (std::int64_t j = 0; j < result.sending; ++j) {
      largest = is_finite(row[j]) ? std::max(largest, absolute(row[j])) : infinity;
    }
    const std::int32_t shift = weight_shift(largest, weight_bits);
    if (shift == shift_overflow) {
      throw DivergenceError("row " + std::to_string(i) + " of " + name + ".weight is too large for " +
                            std::to_string(weight_bits) +
                            "-bit integer weights: the machine has diverged, use an earlier checkpoint");
    }
    for (std::int64_t j = 0; j < result.sending; ++j) {
      result.weight[static_cast<std::size_t>(j * result.receiving + i)] =
          integer_weight(row[j], power_of_two(shift));
    }
    result.scale[static_cast<std::size_t>(i)] = std::ldexp(1.0, -shift);
  }
  return result;
}

std::size_t state_count(std::int64_t units) { return std::size_t{1} << units; }

/// table[s] = constant + the coefficients of the units that are on in s (unit i is bit i), for all states s.
void fill_linear(double constant, const std::vector<double>& coefficients, std::vector<double>& table) {
  table[0] = constant;
  std::size_t filled = 1;
  for (const double coefficient : coefficients) {
    for (std::size_t s = 0; s < filled; ++s) table[filled + s] = table[s] + coefficient;
    filled *= 2;
  }
}

/// log sum exp, one term at a time.
class LogSum {
 public:
  void add(double term) {
    if (term <= largest_) {
      sum_ += std::exp(term - largest_);
    } else {
      sum_ = sum_ * std::exp(largest_ - term) + 1;
      largest_ = term;
    }
  }
  double value() const { return largest_ + std::log(sum_); }

 private:
  double largest_ = -1e300;  // finite, so that the difference from the first term is a number
  double sum_ = 0;
};

/// Calls visit(s, logits) for every state s of the sending layer, in the order of a Gray code: one unit
/// changes at a time, and its column is added to or taken from the integer sums, which are exact and so never
/// drift.
template <class Visit>
void for_each_sending_state(const IntegerConditional& conditional, Visit visit) {
  const auto receiving = static_cast<std::size_t>(conditional.receiving);
  std::vector<std::int64_t> sums(receiving, 0);
  std::vector<double> logits = conditional.bias;
  const std::size_t states = state_count(conditional.sending);
  for (std::size_t n = 0; n < states; ++n) {
    const std::size_t state = n ^ (n >> 1);
    if (n > 0) {
      const auto unit = static_cast<std::size_t>(std::countr_zero(n));
      const std::int64_t sign = (state >> unit & 1) != 0 ? 1 : -1;
      const std::int32_t* column = conditional.weight.data() + unit * receiving;
      for (std::size_t i = 0; i < receiving; ++i) {
        sums[i] += sign * column[i];
        logits[i] = static_cast<double>(sums[i]) * conditional.scale[i] + conditional.bias[i];
      }
    }
    visit(state, logits);
  }
}

/// sum_i log(1 + exp(logit_i)): log p(state | .) = sum of the logits of the units that are on, minus this.
/// As log(1 + e^a) = max(a, 0) + log(1 + e^-|a|), and that factor is at most 2, many factors share a
/// logarithm.
double log_bernoulli_normalizer(const std::vector<double>& logits) {
  constexpr std::size_t factors_a_logarithm = 512;
  double sum = 0;
  double product = 1;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    sum += std::max(logits[i], 0.0);
    product *= 1 + std::exp(-std::fabs(logits[i]));
    if ((i + 1) % factors_a_logarithm == 0 || i + 1 == logits.size()) {
      sum += std::log(product);
      product = 1;
    }
  }
  return sum;
}

/// log p(h_L) for all states. An autoregressive prior sends to itself: its logits given a state are that
/// state's own.
std::vector<double> prior_table(const IntegerConditional& prior) {
  std::vector<double> table(state_count(prior.receiving));
  if (prior.sending == 0) {
    fill_linear(-log_bernoulli_normalizer(prior.bias), prior.bias, table);
    return table;
  }
  for_each_sending_state(prior, [&](std::size_t state, const std::vector<double>& logits) {
    table[state] = -log_bernoulli_normalizer(logits);
    for (std::size_t i = 0; i < logits.size(); ++i) {
      if ((state >> i & 1) != 0) table[state] += logits[i];
    }
  });
  return table;
}

/// From log p(h_{l+1}) for all states to log p(h_l) for all states: about 2^(n_l + n_{l+1}) exponentials.
std::vector<double> push_down(const IntegerConditional& conditional, const std::vector<double>& log_p_above) {
  std::vector<LogSum> sums(state_count(conditional.receiving));
  std::vector<double> joint(sums.size());
  for_each_sending_state(conditional, [&](std::size_t above, const std::vector<double>& logits) {
    fill_linear(log_p_above[above] - log_bernoulli_normalizer(logits), logits, joint);
    for (std::size_t s = 0; s < sums.size(); ++s) sums[s].add(joint[s]);
  });
  std::vector<double> log_p(sums.size());
  std::transform(sums.begin(), sums.end(), log_p.begin(), [](const LogSum& sum) { return sum.value(); });
  return log_p;
}

/// The values of a row as the machine sees them.
std::vector<double> values_of_row(const DataSet& data, std::int64_t r) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < data.units; ++i) {
    values.push_back(data.grey ? fixed_point_of_grey(data.row(r)[i]) / double{largest_fixed_point_state}
                               : (bit_is_on(data.row(r), i) ? 1.0 : 0.0));
  }
  return values;
}

/// log p(x | a) = precision (x . a) + log_of_values(x) - log_normalizer(a), with a the visible units' logits.
class VisibleDistribution {
 public:
  explicit VisibleDistribution(const Machine& machine) : gaussian_(machine.has_gaussian_visible()) {
    if (!gaussian_) return;
    const double deviation = machine.visible().deviation;
    precision_ = 1 / (deviation * deviation);
    log_normalizer_of_unit_ = std::log(deviation) + 0.5 * std::log(2 * 3.14159265358979323846);
  }

  double precision() const { return precision_; }
  double log_of_values(const std::vector<double>& x) const {
    return gaussian_ ? -0.5 * precision_ * sum_of_squares(x) : 0.0;
  }
  double log_normalizer(const std::vector<double>& logits) const {
    if (!gaussian_) return log_bernoulli_normalizer(logits);
    return 0.5 * precision_ * sum_of_squares(logits) +
           static_cast<double>(logits.size()) * log_normalizer_of_unit_;
  }

 private:
  static double sum_of_squares(const std::vector<double>& values) {
    return std::inner_product(values.begin(), values.end(), values.begin(), 0.0);
  }
  bool gaussian_;
  double precision_ = 1;
  double log_normalizer_of_unit_ = 0;
};

/// log p(x) for one x, where log_weight[s] = log p(h_1 = s) - log_normalizer(logits given s): what remains of
/// log p(x | h_1) is precision x . (W h_1 + b), linear in h_1, and what x alone decides.
double log_likelihood_of(const std::vector<double>& x, const IntegerConditional& visible,
                         const VisibleDistribution& distribution, const std::vector<double>& log_weight,
                         std::vector<double>& x_dot_logits) {
  double constant = distribution.log_of_values(x);
  std::vector<double> coefficients(static_cast<std::size_t>(visible.sending), 0.0);
  for (std::size_t unit = 0; unit < x.size(); ++unit) {
    if (x[unit] == 0) continue;
    const double factor = x[unit] * distribution.precision();
    constant += factor * visible.bias[unit];
    for (std::size_t j = 0; j < coefficients.size(); ++j) {
      const std::size_t at = j * static_cast<std::size_t>(visible.receiving) + unit;
      coefficients[j] += factor * (visible.weight[at] * visible.scale[unit]);
    }
  }
  fill_linear(constant, coefficients, x_dot_logits);
  LogSum sum;
  for (std::size_t s = 0; s < log_weight.size(); ++s) sum.add(log_weight[s] + x_dot_logits[s]);
  return sum.value();
}

}  // namespace

// Cost: 2^(n_l + n_{l+1}) exponentials for each pair of hidden layers, 2^n_1 n_0 once for the normalizers of
// the visible layer, and 2^n_1 for each row. Memory: at most 256 MiB, where a layer of 23 units stands below
// one of a single unit.
std::vector<double> exact_log_likelihood(const Machine& machine, const DataSet& data, std::int64_t limit,
                                         const std::function<void(std::int64_t, std::int64_t)>& progress) {
  const FloatingPointScope scope;
  check_enumerable(machine);
  const std::int64_t rows = rows_to_use(machine, data, limit);
  const Tensors tensors = machine.download();

  std::vector<double> table = prior_table(integer_conditional(tensors, "prior", machine.weight_bits()));
  const auto generative = [&](int l) {
    return integer_conditional(tensors, "generative." + std::to_string(l), machine.weight_bits());
  };
  for (int l = machine.layers(); l > 1; --l) table = push_down(generative(l), table);

  const IntegerConditional visible = generative(1);
  const VisibleDistribution distribution(machine);
  for_each_sending_state(visible, [&](std::size_t state, const std::vector<double>& logits) {
    table[state] -= distribution.log_normalizer(logits);
  });
  std::vector<double> scratch(table.size());
  std::vector<double> result;
  for (std::int64_t r = 0; r < rows; ++r) {
    result.push_back(log_likelihood_of(values_of_row(data, r), visible, distribution, table, scratch));
    if (progress) progress(r + 1, rows);
  }
  return result;
}

}  // namespace wakesleep
