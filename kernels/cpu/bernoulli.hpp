// The Bernoulli distributions of a stretch of one row's units.
#pragma once

#include "kernels/cpu/logits.hpp"

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

/// What rows of states that share their logits share. Every quantity is a loop of its own: a unit's chain of
/// dependent operations is long, and a processor that finds several short ones within its reach works on
/// several vectors of units at a time.
struct Bernoulli {
  alignas(64) float logits[stretch_units];
  alignas(64) float minor[stretch_units];          ///< minor_probability_for_drawing
  alignas(64) float likelier_nats[stretch_units];  ///< log1p_unit(minor_odds), where scores are wanted
  std::int64_t first = 0;
  std::int64_t count = 0;
  std::int64_t vectors = 0;  ///< whole_vectors(count); units from `count` on are off, at log-probability 0

  /// Reads the stretch of `units` that begins at `begin`.
  void read(const LogitRow& row, std::int64_t begin, std::int64_t units, bool scored) {
    alignas(64) float odds[stretch_units];
    first = begin;
    count = units - begin < stretch_units ? units - begin : stretch_units;
    vectors = whole_vectors(count);
    compute_logits(row, first, count, certainly_off, logits);
    for (std::int64_t i = 0; i < vectors; ++i) odds[i] = minor_odds(logits[i]);
    for (std::int64_t i = 0; i < vectors; ++i) minor[i] = probability_of_odds(odds[i]);
    if (!scored) return;
    for (std::int64_t i = 0; i < vectors; ++i) likelier_nats[i] = log1p_unit(odds[i]);
  }

  /// Of unit first + i: the state that a word draws, and the error of a state.
  std::uint32_t draw(std::int64_t i, std::uint32_t word) const {
    return sample_state(logits[i], minor[i], word);
  }
  float error(std::int64_t i, std::uint32_t state) const {
    return state_minus_probability(state, logits[i], minor[i]);
  }

  /// The sum of the states' log-probabilities.
  std::int64_t log_probability(const std::uint32_t* states) const {
    // Of the magnitudes, at most 2^30, the sum modulo 2^32 and that of their high halves, which lacks less
    // than 2^26 of a stretch.
    static_assert(stretch_units <= 1024);
    std::uint32_t sum = 0;
    std::uint32_t high = 0;
    for (std::int64_t i = 0; i < vectors; ++i) {
      const std::uint32_t of_unit =
          static_cast<std::uint32_t>(-log_bernoulli(states[i], logits[i], likelier_nats[i]));
      sum += of_unit;
      high += of_unit >> 16;
    }
    const std::uint32_t lacking = sum - (high << 16);
    return -(std::int64_t{high} * 65536 + lacking);
  }
};

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
