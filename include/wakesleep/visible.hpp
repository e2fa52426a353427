// The kinds of units that a machine's visible layer may have.
#pragma once

namespace wakesleep {

enum class Visible {
  bernoulli,  ///< x_i is 0 or 1, p(x_i | h_1) = Bernoulli(sigma(a_i))
  gaussian,   ///< x_i in [0, 1], p(x_i | h_1) = Normal(a_i, deviation^2), a density
};

/// What the deviation of Gaussian units may be, bounds included.
inline constexpr double smallest_visible_deviation = 0.03125;
inline constexpr double largest_visible_deviation = 1.0;

struct VisibleUnits {
  Visible kind = Visible::bernoulli;
  float deviation = 0.1f;  ///< of Gaussian units, in units of x, within the bounds above
};

}  // namespace wakesleep
