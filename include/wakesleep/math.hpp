// Elementary functions of the engine: one fixed sequence of IEEE operations each, with `fma` written where it
// is meant, so that every compiler and device gives the same bits. No library function stands behind them
// except fma, which is exact by definition. Both compilers must leave contraction off (see CMakeLists.txt).
// Largest errors over the whole float range: docs/numerics.md, measured by bench/function_errors.cpp and
// bounded by tests/math_test.cpp.
#pragma once

#include <cstdint>

#include "wakesleep/portable.hpp"

namespace wakesleep {

// The compiler's own names instead of <cmath>'s overloads, for the reason given in portable.hpp.
WAKESLEEP_HOST_DEVICE float fma(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
WAKESLEEP_HOST_DEVICE float absolute(float x) { return __builtin_fabsf(x); }
WAKESLEEP_HOST_DEVICE float square_root(float x) { return __builtin_sqrtf(x); }
inline constexpr float infinity = __builtin_huge_valf();
inline constexpr float not_a_number = __builtin_nanf("");

WAKESLEEP_HOST_DEVICE std::uint32_t float_bits(float x) { return __builtin_bit_cast(std::uint32_t, x); }
WAKESLEEP_HOST_DEVICE float float_from_bits(std::uint32_t bits) { return __builtin_bit_cast(float, bits); }

/// 2^n for n in [-126, 127].
WAKESLEEP_HOST_DEVICE float power_of_two(std::int32_t n) {
  return float_from_bits(static_cast<std::uint32_t>(n + 127) << 23);
}

/// Nearest integer of x, ties to even, for 0 <= x: adding 2^23 leaves no room for a fraction. From 2^23 on
/// there is none.
WAKESLEEP_HOST_DEVICE float round_nonnegative(float x) {
  if constexpr (rint_is_an_instruction) return __builtin_rintf(x);
  const float no_fraction = x < 8388608.0f ? 8388608.0f : 0.0f;
  return (x + no_fraction) - no_fraction;
}

/// Nearest integer of x, ties to even, for |x| <= 2^22: adding 1.5 * 2^23 leaves no room for a fraction, and
/// the rounded value stands in the low bits of the sum.
WAKESLEEP_HOST_DEVICE std::int32_t integer_to_even(float x) {
  constexpr float no_fraction = 12582912.0f;
  return static_cast<std::int32_t>(float_bits(x + no_fraction)) - 0x4B400000;
}

/// e^x = e^r 2^n: x = n ln 2 + r, |r| <= ln 2 / 2, e^r by a polynomial of degree 7, that of expf in Moshier's
/// Cephes library. For |x| <= 2^20. `n_bits` are the bits of n + 1.5 * 2^23: its low bits hold n.
WAKESLEEP_HOST_DEVICE float exp_fraction(float x, std::uint32_t& n_bits) {
  constexpr float no_fraction = 12582912.0f;
  const float shifted = fma(x, 1.44269504088896341f, no_fraction);
  const float n = shifted - no_fraction;
  const float r = fma(n, -1.42860677e-6f, fma(n, -0.693145752f, x));
  float p = fma(r, 1.9875691500e-4f, 1.3981999507e-3f);
  p = fma(r, p, 8.3334519073e-3f);
  p = fma(r, p, 4.1665795894e-2f);
  p = fma(r, p, 1.6666665459e-1f);
  p = fma(r, p, 5.0000001201e-1f);
  n_bits = float_bits(shifted);
  return fma(r * r, p, r) + 1.0f;
}

/// e^x for x in [-104, 90]: 2^n in two factors, so that a subnormal result is rounded once and 2^128 becomes
/// infinity.
WAKESLEEP_HOST_DEVICE float exp_in_range(float x) {
  std::uint32_t n_bits = 0;
  const float fraction = exp_fraction(x, n_bits);
  const std::int32_t n = static_cast<std::int32_t>(n_bits) - 0x4B400000;
  const std::int32_t half = n >> 1;
  return (fraction * power_of_two(half)) * power_of_two(n - half);
}

/// The same bits for x in [-87, 0], where the result is normal: n is added to the exponent.
WAKESLEEP_HOST_DEVICE float exp_normal(float x) {
  std::uint32_t n_bits = 0;
  const float fraction = exp_fraction(x, n_bits);
  return float_from_bits(float_bits(fraction) + (n_bits << 23));
}

/// e^x for x <= 0; zero below -104, where it rounds to zero.
WAKESLEEP_HOST_DEVICE float exp_nonpositive(float x) { return exp_in_range(x < -104.0f ? -104.0f : x); }

/// e^x for every x. NaN gives NaN.
WAKESLEEP_HOST_DEVICE float exp(float x) { return x > 90.0f ? infinity : exp_nonpositive(x); }

/// log(1 + e) for e = 0 or in [2^-64, 1]: 2 atanh(t), t = e / (2 + e) <= 1/3, by its series.
WAKESLEEP_HOST_DEVICE float log1p_unit(float e) {
  const float t = quotient(e, 2.0f + e);
  const float s = t * t;
  float p = fma(s, 1.0f / 15.0f, 1.0f / 13.0f);
  p = fma(s, p, 1.0f / 11.0f);
  p = fma(s, p, 1.0f / 9.0f);
  p = fma(s, p, 1.0f / 7.0f);
  p = fma(s, p, 1.0f / 5.0f);
  p = fma(s, p, 1.0f / 3.0f);
  const float twice = t + t;
  return fma(twice * s, p, twice);
}

/// Natural logarithm: x = m 2^k with m in [sqrt(1/2), sqrt(2)), log m by a polynomial in m - 1, that of logf
/// in the Cephes library. log 0 = -infinity, log of a negative number or NaN is NaN.
WAKESLEEP_HOST_DEVICE float log(float x) {
  if (!(x > 0.0f)) return x == 0.0f ? -infinity : not_a_number;
  if (x == infinity) return x;
  const bool subnormal = x < 1.17549435e-38f;
  const std::uint32_t bits = float_bits(subnormal ? x * 8388608.0f : x);
  const std::uint32_t shifted = bits - 0x3F3504F3u;  // zero at sqrt(1/2)
  const std::int32_t k = (static_cast<std::int32_t>(shifted) >> 23) - (subnormal ? 23 : 0);
  const float f = float_from_bits((shifted & 0x007FFFFFu) + 0x3F3504F3u) - 1.0f;
  const float z = f * f;
  float p = fma(f, 7.0376836292e-2f, -1.1514610310e-1f);
  p = fma(f, p, 1.1676998740e-1f);
  p = fma(f, p, -1.2420140846e-1f);
  p = fma(f, p, 1.4249322787e-1f);
  p = fma(f, p, -1.6668057665e-1f);
  p = fma(f, p, 2.0000714765e-1f);
  p = fma(f, p, -2.4999993993e-1f);
  p = fma(f, p, 3.3333331174e-1f);
  const float n = static_cast<float>(k);
  float y = fma(f * z, p, n * -2.12194440e-4f);
  y = fma(z, -0.5f, y);
  return fma(n, 0.693359375f, f + y);
}

/// sigma(-|a|) in [0, 1/2]: the probability of the less likely state. Both tails are as fine as float32
/// allows.
WAKESLEEP_HOST_DEVICE float minor_probability(float a) {
  const float e = exp_nonpositive(-absolute(a));
  return e / (1.0f + e);
}

/// min(x, limit) of numbers that are not negative, and limit where x is NaN. Such numbers compare as their
/// bits do, and integers have a minimum that compilers see through.
WAKESLEEP_HOST_DEVICE float at_most(float x, float limit) {
  const std::uint32_t bits = float_bits(x);
  return float_from_bits(bits < float_bits(limit) ? bits : float_bits(limit));
}

/// The odds of the less likely state, e^-|a|, for drawing, learning and scoring; cut at |a| = 30. Below e^-30
/// a threshold of 2^-32, a rounded delta and a log-probability of 2^-20 nats are the same, zero.
WAKESLEEP_HOST_DEVICE float minor_odds(float a) { return exp_normal(-at_most(absolute(a), 30.0f)); }

/// Odds, 0 or in [2^-64, 1], as a probability.
WAKESLEEP_HOST_DEVICE float probability_of_odds(float odds) { return quotient(odds, 1.0f + odds); }

/// sigma(-min(|a|, 30)), for drawing.
WAKESLEEP_HOST_DEVICE float minor_probability_for_drawing(float a) {
  return probability_of_odds(minor_odds(a));
}

/// sigma(a) = 1 / (1 + e^-a).
WAKESLEEP_HOST_DEVICE float sigmoid(float a) {
  const float minor = minor_probability(a);
  return a <= 0.0f ? minor : 1.0f - minor;
}

}  // namespace wakesleep
