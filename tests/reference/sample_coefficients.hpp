// What each algorithm makes of the log weights of an image's samples, as its paper writes it: coefficients of
// grad log p(x, h^k) and of grad log q(h^k | x). Double precision, no line shared with the engine.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace wakesleep::testing {

inline double naive_log_sum_exp(const std::vector<double>& terms) {
  const double largest = *std::max_element(terms.begin(), terms.end());
  double sum = 0;
  for (const double term : terms) sum += std::exp(term - largest);
  return largest + std::log(sum);
}

struct SampleCoefficients {
  double probability = 1;  ///< of these coefficients given the log weights, where chance has a part
  std::vector<double> generative;
  std::vector<double> recognition;
};

/// exp(lw_k) / sum_j exp(lw_j)
inline std::vector<double> self_normalised(const std::vector<double>& log_weights) {
  const double log_sum = naive_log_sum_exp(log_weights);
  std::vector<double> weights;
  for (const double log_weight : log_weights) weights.push_back(std::exp(log_weight - log_sum));
  return weights;
}

/// w_k, and w_k or w_k - 1 / K.
inline SampleCoefficients reweighted_coefficients(const std::vector<double>& log_weights, bool centred) {
  SampleCoefficients result;
  result.generative = result.recognition = self_normalised(log_weights);
  const double mean = 1 / static_cast<double>(log_weights.size());
  for (double& weight : result.recognition) weight -= centred ? mean : 0;
  return result;
}

/// The same with the control variate, for log weights (log p - log q) / 2.
inline SampleCoefficients bidirectional_coefficients(std::vector<double> log_weights) {
  for (double& log_weight : log_weights) log_weight /= 2;
  return reweighted_coefficients(log_weights, true);
}

/// log 1/K sum_j w_j
inline double sample_bound(const std::vector<double>& log_weights) {
  return naive_log_sum_exp(log_weights) - std::log(static_cast<double>(log_weights.size()));
}

/// w_k, and L - L_k - w_k, L_k being L with the geometric mean of the others in the place of w_k.
inline SampleCoefficients vimco_coefficients_of(const std::vector<double>& log_weights) {
  SampleCoefficients result;
  result.generative = self_normalised(log_weights);
  const double bound = sample_bound(log_weights);
  for (std::size_t k = 0; k < log_weights.size(); ++k) {
    std::vector<double> without = log_weights;
    without[k] = 0;
    for (std::size_t j = 0; j < log_weights.size(); ++j) {
      if (j != k) without[k] += log_weights[j] / static_cast<double>(log_weights.size() - 1);
    }
    result.recognition.push_back(bound - sample_bound(without) - result.generative[k]);
  }
  return result;
}

/// Shares of a Metropolis independence chain's K states, which begins at sample 0 and accepts sample k where
/// bit k - 1 of `accepted` is set; with the probability of just these acceptances.
inline SampleCoefficients chain_coefficients(const std::vector<double>& log_weights, std::uint64_t accepted) {
  SampleCoefficients result;
  const double share = 1 / static_cast<double>(log_weights.size());
  result.generative.resize(log_weights.size());
  result.generative[0] = share;
  std::size_t current = 0;
  for (std::size_t k = 1; k < log_weights.size(); ++k) {
    const double acceptance = std::min(1.0, std::exp(log_weights[k] - log_weights[current]));
    const bool accepts = (accepted >> (k - 1) & 1) != 0;
    result.probability *= accepts ? acceptance : 1 - acceptance;
    if (accepts) current = k;
    result.generative[current] += share;
  }
  result.recognition = result.generative;
  return result;
}

}  // namespace wakesleep::testing
