// Errors of standard_normal against the inverse of the normal distribution function in double precision, by
// bisection on the complementary error function.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "wakesleep/arithmetic.hpp"

namespace wakesleep::reference {

/// The deviate at which the distribution function is (word + 1/2) / 2^32.
inline double exact_normal(std::uint32_t word) {
  const bool upper = word >= 0x80000000u;
  const double p = ((upper ? ~word : word) + 0.5) / 4294967296.0;
  double below = -8, above = 0;
  while (above - below > 1e-15 * (1 - below)) {
    const double middle = (below + above) / 2;
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? below : above) = middle;
  }
  return upper ? -above : above;
}

/// Words by the tail that they lie in: the lesser of a word and its complement.
struct NormalRange {
  const char* name;
  std::uint32_t first, last;
  double bound;  ///< largest error that docs/numerics.md states
};

inline std::vector<NormalRange> normal_ranges() {
  return {{"p from 2^-2 to 2^-1", 0x40000000u, 0x7FFFFFFFu, 3e-7},
          {"p from 2^-25 to 2^-2", 0x80u, 0x3FFFFFFFu, 2e-6},
          {"p below 2^-25", 0u, 0x7Fu, 2.5e-3}};
}

struct LargestNormalError {
  double error = 0;
  std::uint32_t tail = 0;
  std::uint64_t values = 0;
};

/// Over about `count` words at equal distances in the logarithm, and the first and last.
inline LargestNormalError largest_normal_error(const NormalRange& range, int count) {
  LargestNormalError largest;
  const double ratio = (range.last + 1.0) / (range.first + 1.0);
  for (int i = 0; i <= count; ++i) {
    const double place = (range.first + 1.0) * std::pow(ratio, static_cast<double>(i) / count) - 1;
    const std::uint32_t tail = place >= range.last ? range.last : static_cast<std::uint32_t>(place);
    const double error = std::fabs(static_cast<double>(standard_normal(tail)) - exact_normal(tail));
    ++largest.values;
    if (error > largest.error) {
      largest.error = error;
      largest.tail = tail;
    }
  }
  return largest;
}

}  // namespace wakesleep::reference
