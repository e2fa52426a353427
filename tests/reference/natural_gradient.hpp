// Fisher information and natural gradients as the textbook writes them: plain loops in long double, and
// Gaussian elimination. No line shared with the engine.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "reference/naive_machine.hpp"

namespace wakesleep::testing {

using Real = long double;
using RealVector = std::vector<Real>;
using RealMatrix = std::vector<RealVector>;

/// x of matrix x = vector, by elimination with the largest pivot of each column.
inline RealVector solve(RealMatrix matrix, RealVector vector) {
  const std::size_t n = vector.size();
  for (std::size_t column = 0; column < n; ++column) {
    std::size_t pivot = column;
    for (std::size_t row = column + 1; row < n; ++row) {
      if (std::fabs(matrix[row][column]) > std::fabs(matrix[pivot][column])) pivot = row;
    }
    std::swap(matrix[column], matrix[pivot]);
    std::swap(vector[column], vector[pivot]);
    for (std::size_t row = column + 1; row < n; ++row) {
      const Real factor = matrix[row][column] / matrix[column][column];
      for (std::size_t j = column; j < n; ++j) matrix[row][j] -= factor * matrix[column][j];
      vector[row] -= factor * vector[column];
    }
  }
  for (std::size_t row = n; row-- > 0;) {
    for (std::size_t j = row + 1; j < n; ++j) vector[row] -= matrix[row][j] * vector[j];
    vector[row] /= matrix[row][row];
  }
  return vector;
}

/// s~ = (states, 1)
inline RealVector with_bias(const Bits& states) {
  RealVector result(states.begin(), states.end());
  result.push_back(1);
  return result;
}

/// matrix += factor s~ s~^T
inline void add_outer(RealMatrix& matrix, const RealVector& s, Real factor) {
  if (matrix.empty()) matrix.assign(s.size(), RealVector(s.size(), 0));
  for (std::size_t i = 0; i < s.size(); ++i) {
    for (std::size_t j = 0; j < s.size(); ++j) matrix[i][j] += factor * s[i] * s[j];
  }
}

/// A Fisher block with damping on its diagonal; of the block only the diagonal if `diagonal`.
inline RealMatrix damped(RealMatrix fisher, Real damping, bool diagonal) {
  for (std::size_t i = 0; i < fisher.size(); ++i) {
    for (std::size_t j = 0; j < fisher.size(); ++j) {
      if (i == j) {
        fisher[i][j] += damping;
      } else if (diagonal) {
        fisher[i][j] = 0;
      }
    }
  }
  return fisher;
}

/// Mean and variance of one image's contribution to the gradient and to the Fisher block of one receiving
/// unit, over all K-tuples of hidden states of all kinds of images; and what follows for the natural
/// gradient.
class UnitMoments {
 public:
  /// One tuple of samples of an image of the kind `kind`.
  void add(std::size_t kind, Real probability, const RealVector& gradient, const RealMatrix& fisher) {
    outcomes_.push_back({kind, probability, gradient, fisher});
    kinds_ = std::max(kinds_, kind + 1);
  }

  /// (F + damping)^-1 g of the means over kinds and tuples.
  RealVector natural_gradient(Real damping, bool diagonal) const {
    return solve(damped(mean_fisher(), damping, diagonal), mean_gradient());
  }
  RealVector mean_gradient() const {
    RealVector sum(outcomes_.at(0).gradient.size(), 0);
    for (const Outcome& o : outcomes_) {
      for (std::size_t j = 0; j < sum.size(); ++j) sum[j] += share(o) * o.gradient[j];
    }
    return sum;
  }
  RealMatrix mean_fisher() const {
    const std::size_t d = outcomes_.at(0).gradient.size();
    RealMatrix sum(d, RealVector(d, 0));
    for (const Outcome& o : outcomes_) {
      for (std::size_t i = 0; i < d; ++i) {
        for (std::size_t j = 0; j < d; ++j) sum[i][j] += share(o) * o.fisher[i][j];
      }
    }
    return sum;
  }

  /// Variance of sqrt(images) (P^ g^ - P g) to first order, for a batch with as many images of every kind, g^
  /// and F^ being means over its images and P = (F + damping)^-1: of P (g_b - F_b u), u = P g, within a kind.
  /// `rounding` is what rounding adds to the variance of an image's gradient.
  RealVector variance(Real damping, bool diagonal, Real rounding) const {
    const RealMatrix block = damped(mean_fisher(), damping, diagonal);
    const RealVector u = natural_gradient(damping, diagonal);
    const std::size_t d = u.size();
    RealVector result(d, 0);
    for (std::size_t j = 0; j < d; ++j) {
      RealVector unit(d, 0);
      unit[j] = 1;
      const RealVector p = solve(block, unit);  // row j of P
      std::vector<Real> first(kinds_, 0), second(kinds_, 0);
      for (const Outcome& o : outcomes_) {
        Real value = 0;
        for (std::size_t i = 0; i < d; ++i) {
          Real change = o.gradient[i];
          for (std::size_t k = 0; k < d; ++k) {
            if (!diagonal || i == k) change -= o.fisher[i][k] * u[k];
          }
          value += p[i] * change;
        }
        first[o.kind] += o.probability * value;
        second[o.kind] += o.probability * value * value;
      }
      for (std::size_t kind = 0; kind < kinds_; ++kind) {
        result[j] += (second[kind] - first[kind] * first[kind]) / static_cast<Real>(kinds_);
      }
      for (const Real of_input : p) result[j] += rounding * of_input * of_input;
    }
    return result;
  }

 private:
  struct Outcome {
    std::size_t kind;
    Real probability;
    RealVector gradient;
    RealMatrix fisher;
  };
  Real share(const Outcome& o) const { return o.probability / static_cast<Real>(kinds_); }
  std::vector<Outcome> outcomes_;
  std::size_t kinds_ = 0;
};

}  // namespace wakesleep::testing
