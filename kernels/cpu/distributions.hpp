// What follows from states drawn from a row's distributions or held against them, whichever these are.
#pragma once

#include "kernels/cpu/bernoulli.hpp"
#include "kernels/cpu/gaussian.hpp"

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

/// Calls work(distribution), a Gaussian or a Bernoulli to be read from rows like `row`.
template <class Work>
static inline auto with_distribution(const LogitRow& row, const Work& work) {
  if (row.deviation > 0.0f) {
    Gaussian gaussian;
    return work(gaussian);
  }
  Bernoulli bernoulli;
  return work(bernoulli);
}

/// What `results` asks for of row r. Returns its log-probability, 0 where that is not wanted.
template <class Distribution>
static inline std::int64_t report(const Distribution& distribution, const std::uint32_t* states,
                                  std::int64_t r, const StateResults& results) {
  if (results.errors != nullptr) {
    float* errors = results.errors + r * results.errors_stride + distribution.first;
    const std::int64_t full = full_vectors(distribution.count);
    for (std::int64_t i = 0; i < full; ++i) errors[i] = distribution.error(i, states[i]);
    if (full < distribution.count) {
      alignas(64) float rest[vector_units];
      for (std::int64_t i = full; i < distribution.vectors; ++i)
        rest[i - full] = distribution.error(i, states[i]);
      write_vector(rest, distribution.count - full, errors + full);
    }
  }
  if (!results.scored) return 0;
  const std::int64_t of_row = distribution.log_probability(states);
  if (results.log_probabilities != nullptr) results.log_probabilities[r] += results.sign * of_row;
  return of_row;
}

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
