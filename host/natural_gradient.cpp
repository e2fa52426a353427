// Fisher blocks, their inverses, and what of these is kept. Equations: docs/math.md.
#include "wakesleep/natural_gradient.hpp"

// One thread, so that the number of processors has no part in the order of sums.
#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <limits>

#include "floating_point.hpp"
#include "state_tensors.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {

namespace {

using Eigen::MatrixXd;
using Eigen::VectorXd;
using Floats = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// s~ = (states, 1) of every row of `states` as they lie in memory: [rows x d].
MatrixXd rows_with_bias(const std::vector<std::uint8_t>& states, std::int64_t rows, std::int64_t units) {
  MatrixXd result = MatrixXd::Ones(rows, units + 1);
  for (std::int64_t j = 0; j < units; ++j) {
    for (std::int64_t r = 0; r < rows; ++r) {
      result(r, j) = states[static_cast<std::size_t>(r * padded_units(units) + j)];
    }
  }
  return result;
}

/// weights[r] p (1 - p) of every row and receiving unit: [rows x receiving]. The error of a state, 0 or 1,
/// has the magnitude p or 1 - p, and which of them it is does not matter.
MatrixXd curvatures(Ops& ops, const PosteriorSamples::Rows& rows, const std::vector<double>& weights) {
  const bool of_errors = rows.errors.data != nullptr;
  const Matrix<const float> kept = of_errors ? rows.errors : rows.logits;
  Floats values(kept.rows, kept.columns);
  ops.copy_out(values.data(), kept.data, static_cast<std::size_t>(values.size()) * sizeof(float));
  MatrixXd result(kept.rows, kept.columns);
  for (std::int64_t i = 0; i < kept.columns; ++i) {
    for (std::int64_t r = 0; r < kept.rows; ++r) {
      const double p = of_errors ? absolute(values(r, i)) : minor_probability(values(r, i));
      result(r, i) = weights[static_cast<std::size_t>(r)] * p * (1.0 - p);
    }
  }
  return result;
}

/// The inverse of a symmetric positive definite matrix, of which the lower half is read. Of a matrix that is
/// not, in double precision, or whose numbers are not finite, all is NaN: the update that it leads to is
/// noted as divergence.
MatrixXd inverse_of(const MatrixXd& matrix) {
  const auto factors = matrix.selfadjointView<Eigen::Lower>().llt();
  if (factors.info() != Eigen::Success) {
    return MatrixXd::Constant(matrix.rows(), matrix.cols(), std::numeric_limits<double>::quiet_NaN());
  }
  return factors.solve(MatrixXd::Identity(matrix.rows(), matrix.cols()));
}

/// (A^T D A + damping)^-1, D = diag(root)^2.
MatrixXd dense_inverse(const MatrixXd& a, const VectorXd& root, double damping) {
  MatrixXd damped = MatrixXd::Identity(a.cols(), a.cols()) * damping;
  damped.selfadjointView<Eigen::Lower>().rankUpdate(a.transpose() * root.asDiagonal());
  return inverse_of(damped);
}

/// Q of the same = (1 - A^T Q A) / damping, from A A^T: Q = D^(1/2) (D^(1/2) A A^T D^(1/2) + damping)^-1
/// D^(1/2).
MatrixXd woodbury_inner(const MatrixXd& a_a, const VectorXd& root, double damping) {
  MatrixXd damped = root.asDiagonal() * a_a * root.asDiagonal();
  damped.diagonal().array() += damping;
  return root.asDiagonal() * inverse_of(damped) * root.asDiagonal();
}

}  // namespace

NaturalGradient::NaturalGradient(Machine& machine, const TrainingSettings& settings)
    : machine_(machine), ops_(machine.ops()), damping_(settings.fisher_damping) {
  for (int index = 0; index < machine.conditionals(); ++index) kept_.push_back(make_kept(index, settings));
}

NaturalGradient::Kept NaturalGradient::make_kept(int index, const TrainingSettings& settings) const {
  const Conditional& conditional = machine_.conditional(index);
  const std::int64_t d = conditional.sending + 1;
  const bool shares_input = index == Machine::recognition_index(1);  // all samples of an image
  const std::int64_t rows = shares_input ? settings.batch_size : rows_of_a_step(settings);
  Kept kept;
  if (conditional.has_input() && !conditional.autoregressive) {  // whose units have inputs of their own
    const bool fewer_rows = rows < d;
    kept.form = settings.fisher == FisherForm::woodbury && !fewer_rows ? FisherForm::dense : settings.fisher;
  }
  if (kept.form == FisherForm::woodbury) kept.row_count = rows;
  const std::int64_t order = kept.form == FisherForm::woodbury ? rows : d;
  if (kept.form != FisherForm::diagonal && order > max_fisher_order) {
    throw UsageError("the " + std::string(name_of(settings.fisher)) +
                     " form of natural gradients would solve systems of " + std::to_string(order) +
                     " equations for every unit of " + machine_.conditional_name(index) +
                     ", but the limit is " + std::to_string(max_fisher_order) +
                     ": choose --fisher diagonal, or woodbury with a batch of fewer rows");
  }
  const std::int64_t numbers = kept.form == FisherForm::diagonal ? d : order * order;
  kept.blocks = Buffer<float>(ops_, conditional.receiving * numbers);
  kept.blocks.fill_zero();
  kept.rows = Buffer<std::uint8_t>(ops_, kept.row_count * padded_units(conditional.sending));
  kept.rows.fill_zero();
  return kept;
}

FisherInverse NaturalGradient::inverse(int index) const {
  const Kept& kept = kept_[static_cast<std::size_t>(index)];
  const std::int64_t sending = machine_.conditional(index).sending;
  FisherInverse inverse;
  inverse.form = kept.form;
  inverse.damping = static_cast<float>(damping_);
  inverse.blocks = kept.blocks.data();
  inverse.rows = {kept.rows.data(), kept.row_count, sending, padded_units(sending)};
  return inverse;
}

void NaturalGradient::refresh(int index, const PosteriorSamples::Rows& rows,
                              const std::vector<double>& weights) {
  const FloatingPointScope scope;
  Kept& kept = kept_[static_cast<std::size_t>(index)];
  const ConstStates& input = rows.input;
  std::vector<std::uint8_t> states(static_cast<std::size_t>(input.rows * input.stride));
  ops_.copy_out(states.data(), input.data, states.size());
  const MatrixXd curvature = curvatures(ops_, rows, weights);
  const MatrixXd a = rows_with_bias(states, curvature.rows(), input.columns);
  const auto each_unit = [&](std::int64_t order, const auto& inverse) {
    for (std::int64_t i = 0; i < curvature.cols(); ++i) {
      const MatrixXd of_unit = inverse(curvature.col(i).cwiseSqrt());
      Floats block = Floats::Zero(order, order);  // fewer rows than a batch has fill a part
      block.topLeftCorner(of_unit.rows(), of_unit.cols()) = of_unit.cast<float>();
      ops_.copy_in(kept.blocks.data() + i * order * order, block.data(),
                   static_cast<std::size_t>(block.size()) * sizeof(float));
    }
  };
  switch (kept.form) {
    case FisherForm::diagonal: {
      const MatrixXd diagonal = curvature.transpose() * a;  // s^2 = s
      const Floats inverse = (diagonal.array() + damping_).inverse().matrix().cast<float>();
      kept.blocks.copy_in(inverse.data());
      break;
    }
    case FisherForm::dense:
      each_unit(a.cols(), [&](const VectorXd& root) { return dense_inverse(a, root, damping_); });
      break;
    case FisherForm::woodbury: {
      const MatrixXd a_a = a * a.transpose();
      each_unit(kept.row_count, [&](const VectorXd& root) { return woodbury_inner(a_a, root, damping_); });
      states.resize(static_cast<std::size_t>(kept.rows.size()));
      kept.rows.copy_in(states.data());
      break;
    }
  }
}

// ------------------------------------------------------------------------------------ checkpoints

std::string NaturalGradient::name(int index, const char* what) const {
  return "fisher." + machine_.conditional_name(index) + "." + what;
}

std::vector<std::int64_t> NaturalGradient::shape_of_blocks(int index) const {
  const Kept& kept = kept_[static_cast<std::size_t>(index)];
  const Conditional& conditional = machine_.conditional(index);
  const std::int64_t d = conditional.sending + 1;
  switch (kept.form) {
    case FisherForm::diagonal:
      return {conditional.receiving, d};
    case FisherForm::dense:
      return {conditional.receiving, d, d};
    case FisherForm::woodbury:
      break;
  }
  return {conditional.receiving, kept.row_count, kept.row_count};
}

Tensors NaturalGradient::download() const {
  Tensors tensors;
  for (int index = 0; index < machine_.conditionals(); ++index) {
    const Kept& kept = kept_[static_cast<std::size_t>(index)];
    const bool has_rows = kept.form == FisherForm::woodbury;
    Tensor& blocks = tensors[name(index, has_rows ? "inner" : "inverse")];
    blocks.shape = shape_of_blocks(index);
    blocks.values.resize(static_cast<std::size_t>(kept.blocks.size()));
    kept.blocks.copy_out(blocks.values.data());
    if (!has_rows) continue;
    const std::int64_t units = machine_.conditional(index).sending;
    std::vector<std::uint8_t> states(static_cast<std::size_t>(kept.rows.size()));
    kept.rows.copy_out(states.data());
    Tensor& rows = tensors[name(index, "rows")];
    rows.shape = {kept.row_count, units};
    for (std::int64_t r = 0; r < kept.row_count; ++r) {
      const auto row = states.begin() + r * padded_units(units);
      rows.values.insert(rows.values.end(), row, row + units);
    }
  }
  return tensors;
}

void NaturalGradient::upload(const Tensors& tensors) {
  std::size_t used = 0;
  const auto find = [&](const std::string& wanted, const std::vector<std::int64_t>& shape) -> const Tensor& {
    ++used;
    return state_tensor(tensors, wanted, shape, "the Fisher blocks");
  };
  for (int index = 0; index < machine_.conditionals(); ++index) {
    Kept& kept = kept_[static_cast<std::size_t>(index)];
    const bool has_rows = kept.form == FisherForm::woodbury;
    kept.blocks.copy_in(
        find(name(index, has_rows ? "inner" : "inverse"), shape_of_blocks(index)).values.data());
    if (!has_rows) continue;
    const std::int64_t units = machine_.conditional(index).sending;
    const Tensor& rows = find(name(index, "rows"), {kept.row_count, units});
    std::vector<std::uint8_t> states(static_cast<std::size_t>(kept.rows.size()));
    for (std::int64_t r = 0; r < kept.row_count; ++r) {
      for (std::int64_t j = 0; j < units; ++j) {
        const float state = rows.values[static_cast<std::size_t>(r * units + j)];
        if (state != 0.0f && state != 1.0f) {
          throw DataError("\"" + name(index, "rows") + "\" holds " + std::to_string(state) +
                          ", which is no state; use an earlier checkpoint");
        }
        states[static_cast<std::size_t>(r * padded_units(units) + j)] = static_cast<std::uint8_t>(state);
      }
    }
    kept.rows.copy_in(states.data());
  }
  if (used != tensors.size()) {
    throw DataError(
        "the checkpoint holds more than the Fisher blocks of its machine: this checkpoint does not "
        "continue this run");
  }
}

}  // namespace wakesleep
