// Natural gradients (Amari 1998) of factorial conditionals: every receiving unit's gradient times the inverse
// of its own block of the Fisher information matrix. docs/math.md derives why there are no other blocks.
//
// The blocks are made and inverted on the host, in double precision by the Eigen library, and kept in
// float32: outside the bit-for-bit contract (docs/numerics.md).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "wakesleep/machine.hpp"
#include "wakesleep/posterior_samples.hpp"
#include "wakesleep/settings.hpp"

namespace wakesleep {

/// For receiving unit i of a conditional, with s~ = (states of the sending layer, 1) and p_i the probability
/// that the unit is on,
///   F_i = E[p_i (1 - p_i) s~ s~^T]   [d x d], d = sending + 1,
/// and the natural gradient is (F_i + damping)^-1 g_i, until refresh() takes other blocks.
///   diagonal: of F_i its diagonal; keeps d numbers a unit
///   dense:    F_i itself; keeps d^2
///   woodbury: F_i of the R rows of one batch through a system of R instead of d equations, where R < d;
///             keeps R^2. Where R >= d it is dense.
class NaturalGradient {
 public:
  /// Throws UsageError, with the limit named, where a form's system exceeds max_fisher_order. `machine` must
  /// outlive it. Natural gradients are 0 before the first refresh().
  NaturalGradient(Machine& machine, const TrainingSettings& settings);

  /// F_i = sum_r weights[r] p_ri (1 - p_ri) s~_r s~_r^T over the rows of conditional `index`. Blocks.
  void refresh(int index, const PosteriorSamples::Rows& rows, const std::vector<double>& weights);

  /// What is kept of a conditional.
  FisherInverse inverse(int index) const;

  /// fisher.{conditional}.inverse [receiving x d] or [receiving x d x d], or fisher.{conditional}.inner
  /// [receiving x R x R] and fisher.{conditional}.rows [R x sending]. Blocks.
  Tensors download() const;
  /// Throws DataError naming what is missing, unknown, of another shape or no state.
  void upload(const Tensors& tensors);

 private:
  struct Kept {
    FisherForm form = FisherForm::diagonal;
    Buffer<float> blocks;
    Buffer<std::uint8_t> rows;  ///< woodbury, padded as states are
    std::int64_t row_count = 0;
  };
  Kept make_kept(int index, const TrainingSettings& settings) const;
  std::vector<std::int64_t> shape_of_blocks(int index) const;
  std::string name(int index, const char* what) const;

  Machine& machine_;
  Ops& ops_;
  double damping_;
  std::vector<Kept> kept_;  ///< by conditional
};

}  // namespace wakesleep
