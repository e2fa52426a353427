// Likelihood of a machine: importance-sampled, and exact where the hidden states can be enumerated.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "wakesleep/data.hpp"
#include "wakesleep/machine.hpp"

namespace wakesleep {

struct EvaluationSettings {
  std::int64_t samples = 100;  ///< K
  std::int64_t limit = 0;      ///< use only the first rows; 0: all
  std::uint64_t seed = 1;
  /// Working memory that decides the chunks. What does not grow with them, up to some MiB, comes on top; the
  /// log weights of one image and 64 of its samples at a time are held whatever it is.
  std::int64_t memory_bytes = 256 << 20;
  bool bidirectional = false;  ///< also Evaluation::unnormalized
  std::function<void(std::int64_t rows_done, std::int64_t rows_total)>
      progress;  ///< after each chunk; may be empty
};

/// All values in nats. Of a machine with Gaussian visible units p(x) is a density, in units of x, and a row
/// of bits has the values 0 and 1. With q the recognition model and lw_k = log p(x, h^k) - log q(h^k | x),
/// h^k ~ q(. | x):
struct Evaluation {
  std::int64_t rows = 0;
  std::int64_t samples = 0;
  double log_likelihood = 0;  ///< mean over rows of the estimate log 1/K sum_k exp(lw_k)
  double standard_error = 0;  ///< of that mean over the rows
  double bound = 0;           ///< mean of lw_k: the K = 1 (variational) lower bound
  double bound_standard_error = 0;
  double effective_sample_size = 0;  ///< mean over rows of (sum w)^2 / sum w^2, between 1 and K
  std::vector<double> layer_kl;  ///< l = 1..L: mean of log q(h_l | h_{l-1}) - log p(h_l | h_{l+1}) under q
  /// l = 1..L: units on in 1 % to 99 % of the samples, that is neither almost always off nor almost always
  /// on. A fair coin that knows nothing of the row is one of them; what a layer carries is its layer_kl.
  std::vector<std::int64_t> active_units;
  /// l = 1..L: mean over rows and units of |q(unit is on | h_{l-1}) - p(unit is on | h_{l+1})|, h each row's
  /// first sample.
  std::vector<double> layer_mismatch;
  /// Mean over rows of the estimate of log p~*(x) of a bidirectional Helmholtz machine (partition.hpp),
  /// 2 log 1/K sum_k exp(lw_k / 2), and its standard error; 0 where it was not asked for.
  double unnormalized = 0;
  double unnormalized_standard_error = 0;
};

/// The first recognition layer is multiplied once per row, not K times. The result depends on machine, seed,
/// rows and K alone: any chunking, thread count, device or C library gives the same bits. Throws UsageError
/// when K is outside 1 .. 8,388,607, the limit negative, memory_bytes below 1, or the data grey where the
/// visible units are Bernoulli; DataError when the rows have other units than the visible layer or there are
/// none. Blocks.
Evaluation evaluate(const Machine& machine, const DataSet& data, const EvaluationSettings& settings);

/// Largest n_l + n_{l+1} of two neighbouring hidden layers (and largest n_L + 4) that enumeration accepts.
inline constexpr std::int64_t max_enumerated_units = 24;

/// Exact log p(x) of every row (the first `limit` of them; 0: all), in double precision, by enumerating the
/// states of neighbouring hidden layers pairwise. Uses the integer weights, as sampling does. Throws
/// UsageError naming the limit when the layers are too wide, and as evaluate() of the data.
/// `progress` (may be empty) gets the rows done and the rows in all.
std::vector<double> exact_log_likelihood(
    const Machine& machine, const DataSet& data, std::int64_t limit = 0,
    const std::function<void(std::int64_t, std::int64_t)>& progress = {});

}  // namespace wakesleep
