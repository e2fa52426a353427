// The Helmholtz machine: recognition weights upward, generative weights downward, a prior on top.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "wakesleep/ops.hpp"
#include "wakesleep/prior.hpp"
#include "wakesleep/visible.hpp"

namespace wakesleep {

/// A float32 tensor in host memory, row-major.
struct Tensor {
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};
/// Tensors by name, in the order of their names.
using Tensors = std::map<std::string, Tensor>;

/// Layers 0 .. L with n_0 visible units. For l = 1 .. L:
///   recognition(l):  q(h_l | h_{l-1}) = Bernoulli(sigma(R_l h_{l-1} + c_l)),  R_l [n_l x n_{l-1}]
///   generative(l):   p(h_{l-1} | h_l) = Bernoulli(sigma(G_l h_l + b_{l-1})),  G_l [n_{l-1} x n_l]
///   prior():         p(h_L)           = Bernoulli(sigma(a)), or, where it is autoregressive,
///                                       Bernoulli(sigma(A h_L + a)),         A [n_L x n_L]
/// A is strictly lower triangular, so that each top unit is given those before it. Where the visible units
/// are Gaussian, x = h_0 in [0, 1] stands in memory as fixed-point states (arithmetic.hpp), and
///   generative(1):   p(x | h_1)       = Normal(G_1 h_1 + b_0, deviation^2), a density
class Machine {
 public:
  /// `sizes` from the visible layer upward, at least two. All parameters zero. Throws UsageError, with the
  /// limit named, for fewer than two sizes, a size below 1 or other weight bits than 16, 12 and 8, when sums
  /// could leave the exact range (docs/numerics.md), or Gaussian units have a deviation outside its bounds
  /// (visible.hpp); DeviceError where the device has not the memory.
  Machine(Ops& ops, std::vector<std::int64_t> sizes, int weight_bits, Prior prior = Prior::factorial,
          VisibleUnits visible = {});

  Ops& ops() const { return *ops_; }
  int layers() const { return static_cast<int>(sizes_.size()) - 1; }  ///< L
  std::int64_t size(int layer) const { return sizes_[static_cast<std::size_t>(layer)]; }
  const std::vector<std::int64_t>& sizes() const { return sizes_; }
  std::int64_t widest() const;
  int weight_bits() const { return weight_bits_; }
  const VisibleUnits& visible() const { return visible_; }
  bool has_gaussian_visible() const { return visible_.kind == Visible::gaussian; }
  std::int64_t parameters() const;

  /// Of hidden layer l, 1 .. L: given the layer below, and of the layer below given it. No index is checked.
  const Conditional& recognition(int l) const {
    return parts_[static_cast<std::size_t>(2 * (l - 1))].conditional;
  }
  const Conditional& generative(int l) const {
    return parts_[static_cast<std::size_t>(2 * (l - 1) + 1)].conditional;
  }
  const Conditional& prior() const { return parts_.back().conditional; }

  /// What the prior receives where the top layer's states are `top`: these, or nothing if it is factorial.
  ConstStates prior_input(ConstStates top) const { return prior().autoregressive ? top : ConstStates{}; }
  /// Queues states = rows of the data as visible states (Ops::gather): grey values as fixed point where the
  /// visible units are Gaussian, else binarized by the draws.
  void gather_visible(DataRows data, const std::uint32_t* order, const std::uint32_t* first, const Draw& draw,
                      States states) const;
  /// Queues top ~ p(h_L), one row for each row of the batch, and its log-probability where `score` has a
  /// sink.
  void sample_prior(const Draw& draw, States top, const ScoreSink& score = {}) const;

  /// "recognition.1", "generative.1", ..., "prior": index and name of every conditional, 0 .. 2L.
  int conditionals() const { return static_cast<int>(parts_.size()); }
  const Conditional& conditional(int index) const {
    return parts_[static_cast<std::size_t>(index)].conditional;
  }
  std::string conditional_name(int index) const;
  static int recognition_index(int l) { return 2 * (l - 1); }
  static int generative_index(int l) { return 2 * (l - 1) + 1; }
  int prior_index() const { return conditionals() - 1; }

  /// Visible biases logit(clamp(mean, 1e-4, 1 - 1e-4)), or the mean of Gaussian units; hidden and prior
  /// biases -1; weights uniform within +-sqrt(6 / (n_in + n_out)) / n_in, n_in the sending units (Bornschein
  /// & Bengio 2015), by addressed draws; those of an autoregressive prior 0, so that it begins as the
  /// factorial one. Throws DataError where there is not one finite mean for each visible unit.
  void initialize(const std::vector<double>& visible_means, std::uint64_t seed);

  /// The parameters, named as in model files: recognition.{l}.weight, recognition.{l}.bias,
  /// generative.{l}.weight, generative.{l}.bias, prior.bias, and prior.weight where the prior is
  /// autoregressive. download() blocks.
  Tensors download() const;
  /// Throws DataError naming the tensor that is missing, unknown, of another shape or not finite, or the
  /// weight of an autoregressive prior that is not 0 although it is on or above the diagonal; the parameters
  /// are then what they were. Also throws DataError naming the tensor whose weights are too large for their
  /// integers; it and those before it have then been replaced. Blocks.
  void upload(const Tensors& tensors);

 private:
  struct Part {
    Buffer<float> weight;
    Buffer<float> bias;
    std::unique_ptr<IntegerWeights> integers;
    Conditional conditional;
  };
  /// Of the parameters, by the names of download().
  std::map<std::string, std::vector<std::int64_t>> shapes() const;
  Tensors zeros() const;

  Ops* ops_;
  std::vector<std::int64_t> sizes_;
  int weight_bits_;
  VisibleUnits visible_;
  std::vector<Part> parts_;
};

/// The layer sizes, from the visible layer upward, that a set of model tensors describes. Throws DataError.
std::vector<std::int64_t> sizes_of(const Tensors& tensors);

/// The kind of prior that a set of model tensors describes.
Prior prior_of(const Tensors& tensors);

/// Throws DataError naming row and column of the first element of the square matrix that is not 0 although it
/// is on or above the diagonal.
void check_below_diagonal(const std::string& name, const Tensor& tensor);

/// SHA-256 of the parameters: over name, shape and little-endian values of every tensor in the order of the
/// names (docs/file-format.md), as 64 hexadecimal digits.
std::string hash_of(const Tensors& tensors);

}  // namespace wakesleep
