// Errors of the engine's elementary functions against double precision, in units in the last place of the
// result.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "wakesleep/math.hpp"

namespace wakesleep::reference {

struct Function {
  std::string name;
  float (*engine)(float);
  double (*exact)(double);
  float lowest, highest;  ///< the range that it is defined on
  double bound;           ///< largest error that docs/numerics.md states, in ulp
};

inline std::vector<Function> elementary_functions() {
  const float most = std::numeric_limits<float>::infinity();
  return {
      {"exp", [](float x) { return wakesleep::exp(x); }, [](double x) { return std::exp(x); }, -most, most,
       1.1},
      {"log", [](float x) { return wakesleep::log(x); }, [](double x) { return std::log(x); }, 0.0f, most,
       1.0},
      {"log1p_unit", [](float x) { return log1p_unit(x); }, [](double x) { return std::log1p(x); }, 0.0f,
       1.0f, 2.0},
      {"sigmoid", [](float x) { return sigmoid(x); },
       [](double x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }, -most, most,
       2.5},
      {"minor_probability", [](float x) { return minor_probability(x); },
       [](double x) { return std::exp(-std::fabs(x)) / (1 + std::exp(-std::fabs(x))); }, -most, most, 2.5},
  };
}

/// |found - exact| in units in the last place of the float nearest to `exact` (at least the smallest
/// subnormal).
inline double error_in_ulp(float found, double exact) {
  const float nearest = static_cast<float>(exact);
  if (!std::isfinite(nearest))
    return found == nearest ? 0.0 : (std::isnan(nearest) && std::isnan(found) ? 0.0 : 1e30);
  if (!std::isfinite(found)) {
    // Infinity is right where the next float above the largest would be nearer.
    return std::fabs(exact) > 3.4028235677973366e38 ? 0.0 : 1e30;
  }
  int exponent = 0;
  std::frexp(nearest, &exponent);
  const double ulp = std::ldexp(1.0, std::max(exponent - 24, -149));
  return std::fabs(static_cast<double>(found) - exact) / ulp;
}

struct LargestError {
  double ulp = 0;
  float at = 0;
  std::uint64_t values = 0;
};

/// Over the floats of the function's range whose bit patterns are first, first + stride, ...
inline LargestError largest_error(const Function& function, std::uint64_t first, std::uint64_t stride) {
  LargestError largest;
  for (std::uint64_t bits = first; bits < (std::uint64_t{1} << 32); bits += stride) {
    const float x = float_from_bits(static_cast<std::uint32_t>(bits));
    if (!(x >= function.lowest && x <= function.highest)) continue;
    const double error = error_in_ulp(function.engine(x), function.exact(x));
    ++largest.values;
    if (error > largest.ulp) {
      largest.ulp = error;
      largest.at = x;
    }
  }
  return largest;
}

}  // namespace wakesleep::reference
