// The logits of a stretch of one row, whichever way its sums are stored.
#pragma once

#include "kernels/cpu/rows.hpp"
#include "kernels/cpu/whole_vectors.hpp"

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

/// Units treated at a time: small enough that a stretch's logits stay in the first-level cache.
inline constexpr std::int64_t stretch_units = 1024;

/// A logit for the units that fill up the last vector: off, at a log-probability that rounds to 0.
inline constexpr float certainly_off = -30.0f;

/// logits[i] = a of the sums, scales and biases of `count` units, whole vectors (high null: low alone).
static inline void logits_of_sums(const std::int32_t* high, const std::int32_t* low, const float* scale,
                                  const float* bias, std::int64_t count, float* logits) {
  if (high == nullptr) {
    for (std::int64_t i = 0; i < count; ++i) logits[i] = pre_activation(low[i], scale[i], bias[i]);
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    logits[i] = pre_activation(join_limbs(high[i], low[i]), scale[i], bias[i]);
  }
}

/// logits[i] = a of unit first + i, for i < count <= stretch_units, and `fill` up to the end of a vector.
static inline void compute_logits(const LogitRow& row, std::int64_t first, std::int64_t count, float fill,
                                  float* logits) {
  const std::int64_t full = full_vectors(count);
  const std::int64_t last = first + full;
  const std::int64_t rest = count - full;
  const float* given = row.kept != nullptr ? row.kept : row.low == nullptr ? row.bias : nullptr;
  if (given != nullptr) {
    for (std::int64_t i = 0; i < full; ++i) logits[i] = given[first + i];
    if (rest > 0) read_vector(given + last, rest, fill, logits + full);
    return;
  }
  const bool limbs = row.high != nullptr;
  logits_of_sums(limbs ? row.high + first : nullptr, row.low + first, row.scale + first, row.bias + first,
                 full, logits);
  if (rest == 0) return;
  alignas(64) std::int32_t high[vector_units];
  alignas(64) std::int32_t low[vector_units];
  alignas(64) float scale[vector_units];
  alignas(64) float bias[vector_units];
  if (limbs) read_vector(row.high + last, rest, 0, high);
  read_vector(row.low + last, rest, 0, low);
  read_vector(row.scale + last, rest, 0.0f, scale);
  read_vector(row.bias + last, rest, fill, bias);
  logits_of_sums(limbs ? high : nullptr, low, scale, bias, whole_vectors(rest), logits + full);
}

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
