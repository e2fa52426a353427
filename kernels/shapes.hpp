// What an operation asks of the shapes that it is called with (the contracts of wakesleep/ops.hpp). Every
// backend calls the function of an operation first, so that all refuse the same, with an InternalError of the
// same sentence; what only one backend asks for, such as aligned rows, it checks itself. Of an empty batch,
// views that are not read may be empty, too.
#pragma once

#include <cstdint>
#include <string>

#include "wakesleep/arithmetic.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/ops.hpp"

namespace wakesleep {

/// Refuses what does not fit in the operands of one operation: "sample was called with 7 units of the output,
/// expected 5, the receiving units of the conditional".
class Operands {
 public:
  explicit Operands(const char* operation) : operation_(operation) {}

  void require(bool fits, const char* found_and_expected) const {
    if (!fits) refuse(found_and_expected);
  }
  void equal(std::int64_t found, const char* what, std::int64_t expected, const char* of) const {
    if (found != expected) refuse(counted(found, what) + std::to_string(expected) + ", " + of);
  }
  void multiple(std::int64_t found, const char* what, std::int64_t divisor, const char* of) const {
    if (divisor > 0 && found % divisor == 0) return;
    refuse(counted(found, what) + "a multiple of " + std::to_string(divisor) + ", " + of);
  }
  void within(std::int64_t found, const char* what, std::int64_t least, std::int64_t most) const {
    if (found < least || found > most) {
      refuse(counted(found, what) + std::to_string(least) + " to " + std::to_string(most));
    }
  }
  void above_zero(std::int64_t found, const char* what) const {
    if (found <= 0) refuse(counted(found, what) + "1 or more");
  }

  // ---------------------------------------------------------------- what several operations are called with
  void weight(const Conditional& conditional) const {
    if (!conditional.has_input()) return;
    equal(conditional.weight.rows, "rows of the weights", conditional.receiving, receiving_units);
    equal(conditional.weight.columns, "columns of the weights", conditional.sending, sending_units);
  }
  void weight_and_integers(const Conditional& conditional) const {
    const IntegerWeights* integers = conditional.integers;
    require(conditional.has_input() == (integers != nullptr),
            conditional.has_input() ? "no integer weights, expected those of a conditional that has an input"
                                    : "integer weights, expected none of a conditional that has no input");
    if (integers == nullptr) return;
    weight(conditional);
    equal(integers->receiving, "receiving units of the integer weights", conditional.receiving,
          receiving_units);
    equal(integers->sending, "sending units of the integer weights", conditional.sending, sending_units);
    equal(integers->largest_input, "as the largest input of the integer weights", conditional.largest_input,
          "that of the conditional");
  }
  /// What is multiplied; a prior's input is ignored.
  void input(const Conditional& conditional, const ConstStates& input) const {
    weight_and_integers(conditional);
    if (conditional.has_input()) {
      equal(input.columns, "units of the input", conditional.sending, sending_units);
    }
  }
  void receiving(std::int64_t units, const char* what, const Conditional& conditional) const {
    equal(units, what, conditional.receiving, receiving_units);
  }
  void kept_logits(const Matrix<const float>& logits, const Conditional& conditional, std::int64_t rows,
                   const char* of) const {
    if (logits.data == nullptr) return;
    require(conditional.has_input(), "kept logits of a prior, expected none");
    require(!conditional.is_gaussian(), "kept logits of Gaussian units, expected none");
    equal(logits.rows, "rows of the kept logits", rows, of);
    receiving(logits.columns, "units of the kept logits", conditional);
  }
  void kept_errors(const Matrix<const float>& errors, const Matrix<const std::uint8_t>& states,
                   std::int64_t rows, const char* of) const {
    if (errors.data == nullptr) return;
    equal(errors.rows, "rows of the errors", rows, of);
    equal(errors.columns, "units of the errors", states.columns, "those of the states");
  }
  void whole_images(std::int64_t rows, const char* what, const SampleWeights& weights) const {
    if (weights.per_sample()) multiple(rows, what, weights.samples, "the samples of an image");
  }

 private:
  static constexpr const char* receiving_units = "the receiving units of the conditional";
  static constexpr const char* sending_units = "the sending units of the conditional";

  static std::string counted(std::int64_t found, const char* what) {
    return std::to_string(found) + " " + what + ", expected ";
  }
  [[noreturn]] void refuse(const std::string& found_and_expected) const {
    throw InternalError(std::string(operation_) + " was called with " + found_and_expected);
  }

  const char* operation_;
};

// ---------------------------------------------------------------- weights
inline void require_shapes_of_draw_weights(const Conditional& conditional) {
  Operands("draw_weights").weight(conditional);
}

inline void require_shapes_of_quantize(const Conditional& conditional) {
  Operands("quantize").weight_and_integers(conditional);
}

inline void require_shapes_of_reserve(const Conditional& conditional) {
  Operands("reserve").weight_and_integers(conditional);
}

// ---------------------------------------------------------------- the step
inline void require_shapes_of_gather(const DataRows& data, const States& states) {
  Operands("gather").equal(states.columns, "units of the states", data.units, "those of the data");
}

inline void require_shapes_of_sample(const Conditional& conditional, const ConstStates& input,
                                     std::int64_t samples, const States& output,
                                     const Matrix<const float>& logits, const Matrix<const float>& errors) {
  const Operands operands("sample");
  operands.require(!conditional.autoregressive,
                   "an autoregressive prior, expected a conditional whose units are drawn at once");
  operands.receiving(output.columns, "units of the output", conditional);
  operands.multiple(output.rows, "rows of the output", samples, "the samples of a row");
  if (output.rows == 0) return;
  operands.input(conditional, input);
  if (conditional.has_input()) {
    operands.multiple(output.rows, "rows of the output", input.rows, "the rows of the input");
  }
  operands.kept_logits(logits, conditional, input.rows, "the rows of the input");
  operands.kept_errors(errors, output, output.rows, "the rows of the output");
}

inline void require_shapes_of_sample_in_order(const Conditional& conditional, const States& output) {
  const Operands operands("sample_in_order");
  operands.require(conditional.autoregressive,
                   "a conditional whose units are drawn at once, expected an autoregressive prior");
  operands.receiving(output.columns, "units of the output", conditional);
  operands.receiving(conditional.sending, "sending units of the conditional", conditional);
  operands.weight_and_integers(conditional);
}

inline void require_shapes_of_delta(const Conditional& conditional, const ConstStates& input,
                                    const ConstStates& target, const Deltas& deltas,
                                    const SampleWeights& weights, const Matrix<const float>& logits) {
  const Operands operands("delta");
  operands.receiving(target.columns, "units of the target", conditional);
  operands.receiving(deltas.columns, "units of the deltas", conditional);
  if (deltas.rows == 0) return;
  if (logits.data != nullptr) {
    operands.kept_logits(logits, conditional, deltas.rows, "the rows of the deltas");
  } else {
    operands.input(conditional, input);
    if (conditional.has_input()) {
      operands.equal(input.rows, "rows of the input", deltas.rows, "the rows of the deltas");
    }
  }
  if (target.rows > deltas.rows) {
    operands.require(!conditional.is_gaussian(),
                     "Gaussian units and several targets for a row of deltas, expected one");
    operands.require(weights.per_sample(),
                     "several targets for a row of deltas and one weight for all, expected one for each");
    operands.equal(target.rows, "rows of the target", deltas.rows * weights.samples,
                   "the samples of the images that the deltas are of");
  } else {
    operands.multiple(deltas.rows, "rows of the deltas", target.rows, "the rows of the target");
    operands.whole_images(deltas.rows, "rows of the deltas", weights);
  }
}

inline void require_shapes_of_round_errors(const Matrix<const float>& errors, const Deltas& deltas,
                                           const SampleWeights& weights) {
  const Operands operands("round_errors");
  operands.equal(errors.rows, "rows of the errors", deltas.rows, "the rows of the deltas");
  operands.whole_images(deltas.rows, "rows of the deltas", weights);
  if (deltas.rows == 0) return;
  operands.equal(errors.columns, "units of the errors", deltas.columns, "those of the deltas");
}

inline void require_shapes_of_gradient(const ConstDeltas& deltas, const ConstStates& states,
                                       const std::int32_t* gradient, std::int32_t largest_state) {
  const Operands operands("gradient");
  if (gradient != nullptr) {
    operands.equal(states.rows, "rows of the states", deltas.rows, "the rows of the deltas");
  }
  operands.within(deltas.rows, "rows of the deltas", 0,
                  largest_state > 1 ? max_fixed_point_rows : max_batch_rows);  // as exact sums allow
}

inline void require_shapes_of_update(const Conditional& conditional) {
  Operands("update").weight_and_integers(conditional);
}

inline void require_shapes_of_natural_gradient(const Conditional& conditional, const FisherInverse& inverse) {
  const Operands operands("natural_gradient");
  operands.require(!conditional.is_gaussian(), "Gaussian units, expected Bernoulli units");
  operands.equal(conditional.largest_input, "as the largest input of the conditional", 1,
                 "that of 0/1 states");
  operands.require(conditional.has_input() || inverse.form == FisherForm::diagonal,
                   "another form than the diagonal one for a prior, expected the diagonal one");
  if (inverse.form != FisherForm::woodbury) return;
  operands.equal(inverse.rows.columns, "units of the Woodbury form's rows", conditional.sending,
                 "the sending units of the conditional");
  operands.within(inverse.rows.rows, "rows of the Woodbury form", 0, max_fisher_order);
}

// ---------------------------------------------------------------- chains
inline void require_shapes_of_recall(const DataRows& remembered, const States& states) {
  Operands("recall").equal(states.columns, "units of the states", remembered.units, "those remembered");
}

inline void require_shapes_of_remember(const ConstStates& states, std::int64_t samples) {
  Operands("remember").multiple(states.rows, "rows of the states", samples, "the samples of an image");
}

inline void require_shapes_of_metropolis(const Matrix<const std::int64_t>& log_weights) {
  Operands("metropolis").above_zero(log_weights.columns, "samples of an image");
}

// ---------------------------------------------------------------- reading out
inline void require_shapes_of_score(const Conditional& conditional, const ConstStates& input,
                                    const ConstStates& target, const Matrix<const float>& errors) {
  const Operands operands("score");
  operands.receiving(target.columns, "units of the target", conditional);
  const std::int64_t rows = conditional.has_input() ? input.rows : target.rows;
  if (rows == 0) return;
  operands.input(conditional, input);
  operands.multiple(rows, "rows of the input", target.rows, "the rows of the target");
  operands.kept_errors(errors, target, rows, "the rows that are scored");
}

inline void require_shapes_of_score_kept(const Matrix<const float>& logits, const ConstStates& target,
                                         const Matrix<const float>& errors) {
  const Operands operands("score_kept");
  operands.equal(target.columns, "units of the target", logits.columns, "those of the logits");
  if (target.rows == 0) return;
  operands.multiple(target.rows, "rows of the target", logits.rows, "the rows of the logits");
  operands.kept_errors(errors, target, target.rows, "the rows of the target");
}

inline void require_shapes_of_importance_weights(const Matrix<const std::int64_t>& log_weights) {
  Operands("importance_weights").above_zero(log_weights.columns, "samples of an image");
}

inline void require_shapes_of_vimco_weights(const Matrix<const std::int64_t>& log_weights) {
  Operands("vimco_weights").within(log_weights.columns, "samples of an image", 2, max_vimco_samples);
}

inline void require_shapes_of_probabilities(const Conditional& conditional, const ConstStates& input,
                                            const Matrix<float>& probabilities) {
  const Operands operands("probabilities");
  operands.receiving(probabilities.columns, "units of the probabilities", conditional);
  if (conditional.has_input()) {
    operands.equal(input.rows, "rows of the input", probabilities.rows, "the rows of the probabilities");
  }
  if (probabilities.rows > 0) operands.input(conditional, input);
}

inline void require_shapes_of_multiply(const Conditional& conditional, const ConstStates& input) {
  if (input.rows > 0) Operands("multiply").input(conditional, input);
}

}  // namespace wakesleep
