// The logits of a stretch of one row, whichever way its sums are stored.
#pragma once

#include "kernels/cpu/rows.hpp"

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

/// Units treated at a time: small enough that a stretch's logits stay in the first-level cache.
inline constexpr std::int64_t stretch_units = 1024;

/// A stretch's length in whole vectors. Loops over it work on local arrays only, so that they need no
/// remainder loop, which costs as much as several vectors.
static inline std::int64_t whole_vectors(std::int64_t count) { return (count + 15) / 16 * 16; }

/// A logit for the units that fill up the last vector: off, at a log-probability that rounds to 0.
inline constexpr float certainly_off = -30.0f;

/// logits[i] = a of unit first + i, for i < count <= stretch_units.
static inline void compute_logits(const LogitRow& row, std::int64_t first, std::int64_t count,
                                  float* logits) {
  if (row.kept != nullptr) {
    for (std::int64_t i = 0; i < count; ++i) logits[i] = row.kept[first + i];
    return;
  }
  const float* bias = row.bias + first;
  if (row.low == nullptr) {
    for (std::int64_t i = 0; i < count; ++i) logits[i] = bias[i];
    return;
  }
  const float* scale = row.scale + first;
  const std::int32_t* low = row.low + first;
  if (row.high == nullptr) {
    for (std::int64_t i = 0; i < count; ++i) logits[i] = pre_activation(low[i], scale[i], bias[i]);
    return;
  }
  const std::int32_t* high = row.high + first;
  for (std::int64_t i = 0; i < count; ++i) {
    logits[i] = pre_activation(join_limbs(high[i], low[i]), scale[i], bias[i]);
  }
}

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
