// The kinds of units that a machine's visible layer may have.
#pragma once

namespace wakesleep {

enum class Visible {
  bernoulli,  ///< x_i is 0 or 1, p(x_i | h_1) = Bernoulli(sigma(a_i))
  gaussian,   ///< x_i in [0, 1], p(x_i | h_1) = Normal(a_i, deviation^2), a density
};

struct VisibleUnits {
  Visible kind = Visible::bernoulli;
  float deviation = 0.1f;  ///< of Gaussian units, in units of x
};

}  // namespace wakesleep
