// The Gaussian distributions of a stretch of one row's units, of fixed-point states.
#pragma once

#include "kernels/cpu/logits.hpp"

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

/// Made as Bernoulli is, so that loops over rows of states take either.
struct Gaussian {
  alignas(64) float means[stretch_units];
  GaussianDensity density;
  float deviation = 0;
  std::int64_t first = 0;
  std::int64_t count = 0;
  std::int64_t vectors = 0;  ///< whole_vectors(count)

  /// Reads the stretch of `units` that begins at `begin`.
  void read(const LogitRow& row, std::int64_t begin, std::int64_t units, bool) {
    deviation = row.deviation;
    density = gaussian_density(deviation);
    first = begin;
    count = units - begin < stretch_units ? units - begin : stretch_units;
    vectors = whole_vectors(count);
    compute_logits(row, first, count, 0.0f, means);
  }

  /// Of unit first + i: the state that a word draws, and the error of a state.
  std::uint32_t draw(std::int64_t i, std::uint32_t word) const {
    return sample_gaussian(means[i], deviation, word);
  }
  float error(std::int64_t i, std::uint32_t state) const { return value_minus_mean(state, means[i]); }

  /// The sum of the states' log-densities. Units from `count` on have none.
  std::int64_t log_probability(const std::uint32_t* states) const {
    // In 16-bit halves, which 32-bit sums over a stretch hold.
    std::int32_t high = 0;
    std::int32_t low = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int32_t of_unit = log_gaussian(states[i], means[i], density);
      high += of_unit >> 16;
      low += of_unit & 0xFFFF;
    }
    return std::int64_t{high} * 65536 + low;
  }
};

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
