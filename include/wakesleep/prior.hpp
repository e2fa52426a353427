// The kinds of distribution that a machine's top layer may have.
#pragma once

namespace wakesleep {

enum class Prior {
  factorial,       ///< p(h_L) = prod_i Bernoulli(sigma(a_i))
  autoregressive,  ///< p(h_L) = prod_i Bernoulli(sigma(a_i + sum_{j < i} A_ij h_Lj)): unit after unit
};

}  // namespace wakesleep
