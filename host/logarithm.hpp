// The natural logarithm for numbers that are reported and compared: the same bits with every C library.
#pragma once

#include <bit>
#include <cstdint>

namespace wakesleep {

/// log x for a normal x > 0, from + - * / alone and with an error of a few units in the last place:
/// x = m 2^k with m in [sqrt(1/2), sqrt(2)), log m = 2 atanh(t) by its series in t = (m - 1) / (m + 1).
inline double natural_logarithm(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x);
  const std::uint64_t shifted = bits - 0x3FE6A09E667F3BCDu;  // zero at sqrt(1/2)
  const std::int64_t k = static_cast<std::int64_t>(shifted) >> 52;
  const double m = std::bit_cast<double>(bits - (static_cast<std::uint64_t>(k) << 52));
  const double t = (m - 1.0) / (m + 1.0);  // at most 0.1716 in magnitude
  const double square = t * t;
  double sum = 0.0;
  for (int n = 23; n >= 3; n -= 2) sum = (sum + 1.0 / static_cast<double>(n)) * square;
  const double exponent = static_cast<double>(k);
  // ln 2 in two parts: the first has few bits, so that its product with k is exact.
  return exponent * 0.693147180369123816490 +
         (2.0 * t + (2.0 * t * sum + exponent * 1.90821492927058770002e-10));
}

}  // namespace wakesleep
