// What an operation asks of the shapes that it is called with (the contracts of wakesleep/ops.hpp). Every
// backend calls the function of an operation first, so that all refuse the same, with an InternalError of the
// same sentence; what only one backend asks for, such as aligned rows, it checks itself. Of an empty batch,
// the other views may be empty, too.
#pragma once

#include <cstdint>
#include <string>

#include "wakesleep/arithmetic.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/ops.hpp"

namespace wakesleep {

/// What is counted in the operands of an operation: "units of the " "output". Made into text for a refusal
/// alone, since operations of a step allocate nothing.
struct Counted {
  const char* what;
  const char* name;
  Counted(const char* all, const char* rest = "") : what(all), name(rest) {}
};

/// Refuses what does not fit in the operands of one operation: "sample was called with 7 units of the output,
/// expected 5, the receiving units of the conditional".
class Operands {
 public:
  explicit Operands(const char* operation) : operation_(operation) {}

  void require(bool fits, const char* found_and_expected) const {
    if (!fits) refuse(found_and_expected);
  }
  void equal(std::int64_t found, Counted what, std::int64_t expected, const char* of) const {
    if (found != expected) refuse(counted(found, what) + std::to_string(expected) + ", the " + of);
  }
  void at_least(std::int64_t found, Counted what, std::int64_t least) const {
    if (found < least) refuse(counted(found, what) + std::to_string(least) + " or more");
  }
  void within(std::int64_t found, Counted what, std::int64_t least, std::int64_t most,
              const char* why) const {
    if (found >= least && found <= most) return;
    refuse(counted(found, what) + std::to_string(least) + " to " + std::to_string(most) + ", " + why);
  }
  void multiple(std::int64_t found, Counted what, std::int64_t divisor, const char* of) const {
    at_least(divisor, of, 1);
    if (found % divisor != 0) {
      refuse(counted(found, what) + "a multiple of " + std::to_string(divisor) + ", the " + of);
    }
  }

  // ---------------------------------------------------------------- views
  /// Its rows do not overlap.
  template <class T>
  void view(const Matrix<T>& matrix, const char* name) const {
    if (matrix.rows > 1) at_least(matrix.stride, {"as the stride of the ", name}, matrix.columns);
  }
  template <class T>
  void units(const Matrix<T>& matrix, const char* name, std::int64_t expected, const char* of) const {
    equal(matrix.columns, {"units of the ", name}, expected, of);
    view(matrix, name);
  }
  template <class T>
  void receiving(const Matrix<T>& matrix, const char* name, const Conditional& conditional) const {
    units(matrix, name, conditional.receiving, receiving_units);
  }
  /// Bits, or a grey byte for every unit.
  void row_bytes(std::int64_t found, std::int64_t units, bool grey) const {
    at_least(found, "bytes of a row", grey ? units : (units + 7) / 8);
  }

  // ---------------------------------------------------------------- what several operations are called with
  void weight(const Conditional& conditional) const {
    if (!conditional.has_input()) {
      require(conditional.weight.rows == 0, "weights, expected none of a conditional that has no input");
      return;
    }
    equal(conditional.weight.rows, "rows of the weights", conditional.receiving, receiving_units);
    equal(conditional.weight.columns, "columns of the weights", conditional.sending, sending_units);
    view(conditional.weight, "weights");
  }
  void weight_and_integers(const Conditional& conditional) const {
    const IntegerWeights* integers = conditional.integers;
    require(conditional.has_input() == (integers != nullptr),
            conditional.has_input() ? "no integer weights, expected those of a conditional that has an input"
                                    : "integer weights, expected none of a conditional that has no input");
    weight(conditional);
    if (integers == nullptr) return;
    equal(integers->receiving, "receiving units of the integer weights", conditional.receiving,
          receiving_units);
    equal(integers->sending, "sending units of the integer weights", conditional.sending, sending_units);
    equal(integers->largest_input, "as the largest input of the integer weights", conditional.largest_input,
          "largest input of the conditional");
  }
  /// What is multiplied; a prior's input is ignored.
  void input(const Conditional& conditional, const ConstStates& input) const {
    weight_and_integers(conditional);
    if (conditional.has_input()) units(input, "input", conditional.sending, sending_units);
  }
  void kept_logits(const Matrix<const float>& logits, const Conditional& conditional, std::int64_t rows,
                   const char* of) const {
    if (logits.data == nullptr) return;
    require(conditional.has_input(), "kept logits of a prior, expected none");
    require(!conditional.is_gaussian(), "kept logits of Gaussian units, expected none");
    equal(logits.rows, "rows of the kept logits", rows, of);
    receiving(logits, "kept logits", conditional);
  }
  void kept_errors(const Matrix<const float>& errors, std::int64_t rows, const char* rows_of,
                   std::int64_t columns, const char* units_of) const {
    if (errors.data == nullptr) return;
    equal(errors.rows, "rows of the errors", rows, rows_of);
    units(errors, "errors", columns, units_of);
  }
  void whole_images(std::int64_t rows, const char* what, const SampleWeights& weights) const {
    if (weights.per_sample()) multiple(rows, what, weights.samples, "samples of an image");
  }

 private:
  static constexpr const char* receiving_units = "receiving units of the conditional";
  static constexpr const char* sending_units = "sending units of the conditional";

  static std::string counted(std::int64_t found, Counted what) {
    return std::to_string(found) + " " + what.what + what.name + ", expected ";
  }
  [[noreturn]] void refuse(const std::string& found_and_expected) const {
    throw InternalError(std::string(operation_) + " was called with " + found_and_expected);
  }

  const char* operation_;
};

// ---------------------------------------------------------------- weights
inline void require_shapes_of_integer_weights(std::int64_t receiving, std::int64_t sending,
                                              std::int32_t largest_input) {
  const Operands operands("make_integer_weights");
  operands.at_least(receiving, "receiving units", 0);
  operands.at_least(sending, "sending units", 0);
  operands.at_least(largest_input, "as the largest input", 1);
}

inline void require_shapes_of_draw_weights(const Conditional& conditional) {
  Operands("draw_weights").weight(conditional);
}

inline void require_shapes_of_quantize(const Conditional& conditional) {
  Operands("quantize").weight_and_integers(conditional);
}

inline void require_shapes_of_reserve(const Conditional& conditional) {
  Operands("reserve").weight_and_integers(conditional);
}

inline void require_shapes_of_scratch_bytes_per_row(const Conditional& conditional) {
  Operands("scratch_bytes_per_row").weight_and_integers(conditional);
}

inline void require_size_of_upload(std::size_t bytes, std::size_t held) {
  Operands("send").within(static_cast<std::int64_t>(bytes), "bytes", 0, static_cast<std::int64_t>(held),
                          "as many as the upload was made for");
}

// ---------------------------------------------------------------- the step
inline void require_shapes_of_gather(const DataRows& data, const States& states) {
  if (states.rows == 0) return;
  const Operands operands("gather");
  operands.units(states, "states", data.units, "units of the data");
  operands.within(states.rows, "rows of the states", 0, data.rows, "as many as the data has");
  operands.row_bytes(data.row_bytes, data.units, data.grey);
}

inline void require_shapes_of_sample(const Conditional& conditional, const ConstStates& input,
                                     std::int64_t samples, const States& output,
                                     const Matrix<const float>& logits, const Matrix<const float>& errors) {
  const Operands operands("sample");
  operands.require(!conditional.autoregressive,
                   "an autoregressive prior, expected a conditional whose units are drawn at once");
  if (output.rows == 0) return;
  operands.receiving(output, "output", conditional);
  operands.multiple(output.rows, "rows of the output", samples, "samples of a row");
  operands.input(conditional, input);
  if (conditional.has_input()) {
    operands.multiple(output.rows, "rows of the output", input.rows, "rows of the input");
  }
  operands.kept_logits(logits, conditional, input.rows, "rows of the input");
  operands.kept_errors(errors, output.rows, "rows of the output", output.columns, "units of the output");
}

inline void require_shapes_of_sample_in_order(const Conditional& conditional, const States& output) {
  const Operands operands("sample_in_order");
  operands.require(conditional.autoregressive,
                   "a conditional whose units are drawn at once, expected an autoregressive prior");
  if (output.rows == 0) return;
  operands.receiving(output, "output", conditional);
  operands.equal(conditional.sending, "sending units of an autoregressive prior", conditional.receiving,
                 "number of its receiving units");
  operands.weight_and_integers(conditional);
}

inline void require_shapes_of_delta(const Conditional& conditional, const ConstStates& input,
                                    const ConstStates& target, const Deltas& deltas,
                                    const SampleWeights& weights, const Matrix<const float>& logits) {
  const Operands operands("delta");
  if (deltas.rows == 0) {
    operands.equal(target.rows, "rows of the target", 0, "rows of the deltas");
    return;
  }
  operands.receiving(target, "target", conditional);
  operands.receiving(deltas, "deltas", conditional);
  if (logits.data != nullptr) {
    operands.weight_and_integers(conditional);
    operands.kept_logits(logits, conditional, deltas.rows, "rows of the deltas");
  } else {
    operands.input(conditional, input);
    if (conditional.has_input()) {
      operands.equal(input.rows, "rows of the input", deltas.rows, "rows of the deltas");
    }
  }
  if (target.rows <= deltas.rows) {
    operands.multiple(deltas.rows, "rows of the deltas", target.rows, "rows of the target");
    operands.whole_images(deltas.rows, "rows of the deltas", weights);
  } else if (conditional.is_gaussian()) {
    operands.equal(target.rows, "rows of the target", deltas.rows,
                   "rows of the deltas, which samples of Gaussian units do not share");
  } else if (!weights.per_sample()) {
    operands.equal(target.rows, "rows of the target", deltas.rows,
                   "rows of the deltas, which samples share only if each has a weight");
  } else {
    operands.equal(target.rows, "rows of the target", deltas.rows * weights.samples,
                   "samples of the images that the deltas are of");
  }
}

inline void require_shapes_of_round_errors(const Matrix<const float>& errors, const Deltas& deltas,
                                           const SampleWeights& weights) {
  const Operands operands("round_errors");
  operands.equal(errors.rows, "rows of the errors", deltas.rows, "rows of the deltas");
  if (deltas.rows == 0) return;
  operands.units(errors, "errors", deltas.columns, "units of the deltas");
  operands.view(deltas, "deltas");
  operands.whole_images(deltas.rows, "rows of the deltas", weights);
}

inline void require_shapes_of_gradient(const ConstDeltas& deltas, const ConstStates& states,
                                       const std::int32_t* gradient, std::int32_t largest_state,
                                       const char* operation = "gradient") {
  const Operands operands(operation);
  operands.at_least(largest_state, "as the largest state", 1);
  operands.require(gradient != nullptr || states.columns == 0, "states and nowhere to write the gradient");
  if (gradient != nullptr) {
    operands.equal(states.rows, "rows of the states", deltas.rows, "rows of the deltas");
    operands.view(states, "states");
  }
  operands.view(deltas, "deltas");
  operands.within(deltas.rows, "rows of the deltas", 0,
                  largest_state > 1 ? max_fixed_point_rows : max_batch_rows, "as exact sums allow");
}

inline void require_shapes_of_sparsity(const ConstStates& states) {
  Operands("sparsity").view(states, "states");
}

template <class Gradient>
void require_shapes_of_update(const Conditional& conditional, const OptimizerState& state,
                              const Optimizer& optimizer, const Gradient* gradient,
                              const Gradient* bias_gradient, const char* operation = "update") {
  const Operands operands(operation);
  operands.weight_and_integers(conditional);
  operands.require(bias_gradient != nullptr, "no bias gradient, expected one");
  operands.require(!conditional.has_input() || gradient != nullptr,
                   "no gradient of the weights, expected one of a conditional that has an input");
  const auto kept = [&](const float* weight, const float* bias) {
    return bias != nullptr && (!conditional.has_input() || weight != nullptr);
  };
  const bool first = optimizer.kind == OptimizerKind::sgd || kept(state.weight_first, state.bias_first);
  const bool second = optimizer.kind != OptimizerKind::adam || kept(state.weight_second, state.bias_second);
  operands.require(first && second, "less optimiser state than expected of this optimiser");
}

inline void require_shapes_of_learn(const Conditional& conditional, const ConstDeltas& deltas,
                                    const ConstStates& states, const Learning& learning) {
  constexpr const char* operation = "learn";
  require_shapes_of_gradient(deltas, states, learning.gradient, conditional.largest_input, operation);
  require_shapes_of_update(conditional, learning.state, learning.optimizer, learning.gradient,
                           learning.bias_gradient, operation);
  const Operands operands(operation);
  operands.equal(deltas.columns, "units of the deltas", conditional.receiving,
                 "receiving units of the conditional");
  operands.equal(states.columns, "units of the states", conditional.sending,
                 "sending units of the conditional");
  operands.require(conditional.has_input() || learning.added == nullptr,
                   "a gradient added to the weights of a prior, expected none");
}

inline void require_shapes_of_natural_gradient(const Conditional& conditional, const FisherInverse& inverse) {
  const Operands operands("natural_gradient");
  operands.require(!conditional.is_gaussian(), "Gaussian units, expected Bernoulli units");
  operands.equal(conditional.largest_input, "as the largest input of the conditional", 1,
                 "largest of 0/1 states");
  operands.require(conditional.has_input() || inverse.form == FisherForm::diagonal,
                   "the dense or Woodbury's form of a prior's Fisher blocks, expected the diagonal one");
  if (inverse.form != FisherForm::woodbury) return;
  operands.units(inverse.rows, "rows of Woodbury's form", conditional.sending,
                 "sending units of the conditional");
  operands.within(inverse.rows.rows, "rows of Woodbury's form", 0, max_fisher_order,
                  "the largest order that is inverted");
}

// ---------------------------------------------------------------- chains
inline void require_shapes_of_recall(const DataRows& remembered, const States& states) {
  const Operands operands("recall");
  operands.require(!remembered.grey && !remembered.fixed_point && !remembered.ordered,
                   "grey, fixed-point or ordered rows, expected the bits that were remembered");
  if (states.rows == 0) return;
  operands.units(states, "states", remembered.units, "units remembered");
  operands.within(states.rows, "rows of the states", 0, remembered.rows, "as many as are remembered");
  operands.row_bytes(remembered.row_bytes, remembered.units, false);
}

inline void require_shapes_of_remember(const ConstStates& states, std::int64_t samples,
                                       std::int64_t row_bytes) {
  if (states.rows == 0) return;
  const Operands operands("remember");
  operands.view(states, "states");
  operands.multiple(states.rows, "rows of the states", samples, "samples of an image");
  operands.row_bytes(row_bytes, states.columns, false);
}

inline void require_shapes_of_metropolis(const Matrix<const std::int64_t>& log_weights) {
  const Operands operands("metropolis");
  operands.view(log_weights, "log weights");
  operands.at_least(log_weights.columns, "samples of an image", 1);
}

// ---------------------------------------------------------------- reading out
inline void require_shapes_of_score(const Conditional& conditional, const ConstStates& input,
                                    const ConstStates& target, const Matrix<const float>& errors) {
  const Operands operands("score");
  const std::int64_t rows = conditional.has_input() ? input.rows : target.rows;
  if (rows == 0) {
    operands.equal(target.rows, "rows of the target", 0, "rows of the input");
    return;
  }
  operands.receiving(target, "target", conditional);
  operands.input(conditional, input);
  operands.multiple(rows, "rows of the input", target.rows, "rows of the target");
  operands.kept_errors(errors, rows, conditional.has_input() ? "rows of the input" : "rows of the target",
                       target.columns, "units of the target");
}

inline void require_shapes_of_score_kept(const Matrix<const float>& logits, const ConstStates& target,
                                         const Matrix<const float>& errors) {
  if (target.rows == 0) return;
  const Operands operands("score_kept");
  operands.units(target, "target", logits.columns, "units of the logits");
  operands.view(logits, "logits");
  operands.multiple(target.rows, "rows of the target", logits.rows, "rows of the logits");
  operands.kept_errors(errors, target.rows, "rows of the target", target.columns, "units of the target");
}

inline void require_shapes_of_importance(const Matrix<const std::int64_t>& log_weights) {
  Operands("importance").view(log_weights, "log weights");
}

inline void require_shapes_of_importance_weights(const Matrix<const std::int64_t>& log_weights) {
  const Operands operands("importance_weights");
  operands.view(log_weights, "log weights");
  operands.at_least(log_weights.columns, "samples of an image", 1);
}

inline void require_shapes_of_vimco_weights(const Matrix<const std::int64_t>& log_weights) {
  const Operands operands("vimco_weights");
  operands.view(log_weights, "log weights");
  operands.within(log_weights.columns, "samples of an image", 2, max_vimco_samples,
                  "as sums of log weights in 64 bits allow");
}

inline void require_shapes_of_probabilities(const Conditional& conditional, const ConstStates& input,
                                            const Matrix<float>& probabilities) {
  const Operands operands("probabilities");
  if (conditional.has_input()) {
    operands.equal(input.rows, "rows of the input", probabilities.rows, "rows of the probabilities");
  }
  if (probabilities.rows == 0) return;
  operands.receiving(probabilities, "probabilities", conditional);
  operands.input(conditional, input);
}

inline void require_shapes_of_multiply(const Conditional& conditional, const ConstStates& input) {
  if (input.rows > 0) Operands("multiply").input(conditional, input);
}

inline void require_shapes_of_count(const ConstStates& states) { Operands("count").view(states, "states"); }

}  // namespace wakesleep
