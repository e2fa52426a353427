// What the operations refuse of the shapes that they are called with, and in what words: the same on every
// backend.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backends.hpp"
#include "reference/test_operands.hpp"
#include "refusals.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {
namespace {

using testing::TestConditional;

/// A conditional of 5 units that receive from 3, and views of zeros, in any shape.
class ShapesTest : public testing::BackendTest {
 protected:
  void SetUp() override {
    BackendTest::SetUp();
    if (IsSkipped()) return;
    for (Buffer<std::uint8_t>* memory : {&read_, &written_}) {
      *memory = Buffer<std::uint8_t>(ops(), bytes);
      memory->fill_zero();
    }
    operands_ = std::make_unique<TestConditional>(ops(), 5, 3, 16);
    conditional_ = operands_->view;
    bias_ = std::make_unique<TestConditional>(ops(), 5, 0, 16);
    prior_ = bias_->view;
    autoregressive_operands_ = std::make_unique<TestConditional>(ops(), 5, 5, 16);
    autoregressive_ = autoregressive_operands_->view;
    autoregressive_.autoregressive = true;
  }

  ConstStates states(std::int64_t rows, std::int64_t units) const {
    return {read_.data(), rows, units, padded_units(units)};
  }
  States output(std::int64_t rows, std::int64_t units) const {
    return {written_.data(), rows, units, padded_units(units)};
  }
  Deltas deltas(std::int64_t rows, std::int64_t units) const {
    return {reinterpret_cast<std::int8_t*>(written_.data()), rows, units, padded_units(units)};
  }
  /// Logits, errors, log weights.
  template <class T>
  Matrix<T> numbers(std::int64_t rows, std::int64_t columns) const {
    return {written<T>(), rows, columns, columns};
  }
  Matrix<float> floats(std::int64_t rows, std::int64_t columns) const {
    return numbers<float>(rows, columns);
  }
  template <class T>
  T* written() const {
    return reinterpret_cast<T*>(written_.data() + bytes / 2);
  }
  DataRows data(std::int64_t units) const { return {read_.data(), 4, units, (units + 7) / 8}; }
  /// Weights of `samples` samples of an image.
  SampleWeights sample_weights(std::int64_t samples) const {
    SampleWeights weights;
    weights.coefficient = reinterpret_cast<const float*>(read_.data());
    weights.samples = samples;
    return weights;
  }
  const std::uint32_t* zero() const { return reinterpret_cast<const std::uint32_t*>(read_.data()); }
  const std::int32_t* gradient() const { return reinterpret_cast<const std::int32_t*>(read_.data()); }
  const Rates* rates() const { return reinterpret_cast<const Rates*>(read_.data()); }

  /// `call` is refused in this sentence.
  template <class Call>
  static void expect_refusal(const std::string& sentence, const Call& call) {
    EXPECT_EQ(testing::message_of<InternalError>(call), sentence);
  }

  Conditional conditional_, prior_, autoregressive_;

 private:
  static constexpr std::int64_t bytes = 1 << 16;
  Buffer<std::uint8_t> read_, written_;
  std::unique_ptr<TestConditional> operands_, bias_, autoregressive_operands_;
};

TEST_P(ShapesTest, WeightsOfAnotherShapeThanTheConditionalAreRefused) {
  Conditional narrow = conditional_;
  narrow.weight.columns = 2;
  expect_refusal(
      "draw_weights was called with 2 columns of the weights, expected 3, the sending units of the "
      "conditional",
      [&] { ops().draw_weights(narrow, {}, 0.1f); });
  Conditional low = conditional_;
  low.weight.rows = 4;
  expect_refusal(
      "quantize was called with 4 rows of the weights, expected 5, the receiving units of the conditional",
      [&] { ops().quantize(low, nullptr, nullptr); });
  Conditional bare = conditional_;
  bare.integers = nullptr;
  expect_refusal(
      "reserve was called with no integer weights, expected those of a conditional that has an input",
      [&] { ops().reserve(bare, 2); });
  Conditional exchanged = conditional_;
  exchanged.integers = autoregressive_.integers;
  const std::string of_update =
      "update was called with 5 sending units of the integer weights, expected 3, the sending units of the "
      "conditional";
  expect_refusal(of_update,
                 [&] { ops().update(exchanged, {}, {}, rates(), gradient(), gradient(), nullptr, zero()); });
  const float* mean = floats(1, 1).data;
  expect_refusal(of_update, [&] { ops().update(exchanged, {}, {}, rates(), mean, mean, nullptr, zero()); });
  Conditional of_grey = conditional_;
  of_grey.largest_input = 127;
  expect_refusal(
      "multiply was called with 1 as the largest input of the integer weights, expected 127, the "
      "largest input of the conditional",
      [&] { ops().multiply(of_grey, states(2, 3)); });
}

TEST_P(ShapesTest, IntegerWeightsOfImpossibleSizesAreRefused) {
  expect_refusal("make_integer_weights was called with -1 receiving units, expected 0 or more",
                 [&] { ops().make_integer_weights(-1, 3, 16); });
  expect_refusal("make_integer_weights was called with -3 sending units, expected 0 or more",
                 [&] { ops().make_integer_weights(5, -3, 16); });
  expect_refusal("make_integer_weights was called with 0 as the largest input, expected 1 or more",
                 [&] { ops().make_integer_weights(5, 3, 16, 0); });
}

TEST_P(ShapesTest, AnUploadSendsNoMoreThanItHolds) {
  const std::unique_ptr<Upload> upload = ops().make_upload(16);
  upload->fill();
  expect_refusal("send was called with 17 bytes, expected 0 to 16, as many as the upload was made for",
                 [&] { upload->send(written<std::uint8_t>(), 17); });
}

TEST_P(ShapesTest, BuffersOfImpossibleSizesAreRefusedAndEmptyOnesCopyNothing) {
  EXPECT_THROW(Buffer<float>(ops(), -1), UsageError);
  EXPECT_THROW(Buffer<float>(ops(), (std::int64_t{1} << 62) + 1), UsageError);
  Buffer<float> from(ops(), 33);
  Buffer<float> to(ops(), 31);
  const std::size_t before = ops().memory_use().current;
  to = std::move(from);
  EXPECT_EQ(ops().memory_use().current, before - 31 * sizeof(float)) << "what it held is given back at once";
  EXPECT_EQ(to.size(), 33);
  from.copy_in(nullptr);
  from.copy_out(nullptr);
  from.fill_zero();
  Buffer<float> none;
  none.fill_zero();
}

TEST_P(ShapesTest, UpdateRefusesToLearnFromNothing) {
  const auto refused = [&](const std::string& what, const Conditional& conditional,
                           const OptimizerState& state, OptimizerKind kind,
                           const std::int32_t* weight_gradient, const std::int32_t* bias_gradient) {
    Optimizer optimizer;
    optimizer.kind = kind;
    expect_refusal("update was called with " + what, [&] {
      ops().update(conditional, state, optimizer, rates(), weight_gradient, bias_gradient, nullptr, zero());
    });
  };
  const OptimizerKind sgd = OptimizerKind::sgd;
  const std::string no_weights =
      "no gradient of the weights, expected one of a conditional that has an input";
  refused(no_weights, conditional_, {}, sgd, nullptr, gradient());
  refused("no bias gradient, expected one", conditional_, {}, sgd, gradient(), nullptr);
  refused("no bias gradient, expected one", prior_, {}, sgd, nullptr, nullptr);
  const std::string no_state = "less optimiser state than expected of this optimiser";
  float* const kept = written<float>();
  refused(no_state, conditional_, {}, OptimizerKind::momentum, gradient(), gradient());
  refused(no_state, conditional_, {kept, nullptr, nullptr, nullptr}, OptimizerKind::momentum, gradient(),
          gradient());
  refused(no_state, conditional_, {kept, nullptr, kept, kept}, OptimizerKind::adam, gradient(), gradient());
  refused(no_state, prior_, {nullptr, nullptr, kept, nullptr}, OptimizerKind::adam, nullptr, gradient());
}

TEST_P(ShapesTest, GatherRefusesWhatDoesNotFit) {
  expect_refusal("gather was called with 6 units of the states, expected 5, the units of the data",
                 [&] { ops().gather(data(5), nullptr, zero(), {}, output(2, 6)); });
  expect_refusal("gather was called with 5 rows of the states, expected 0 to 4, as many as the data has",
                 [&] { ops().gather(data(5), nullptr, zero(), {}, output(5, 5)); });
  for (const bool grey : {false, true}) {
    DataRows narrow = data(9);
    narrow.grey = grey;
    narrow.row_bytes = grey ? 8 : 1;
    const std::string least =
        grey ? "8 bytes of a row, expected 9 or more" : "1 bytes of a row, expected 2 or more";
    expect_refusal("gather was called with " + least,
                   [&] { ops().gather(narrow, nullptr, zero(), {}, output(2, 9)); });
  }
}

TEST_P(ShapesTest, SampleRefusesWhatDoesNotFit) {
  const auto refuses = [&](const std::string& what, const Conditional& conditional, ConstStates input,
                           std::int64_t samples, States to, Matrix<float> logits = {},
                           Matrix<float> errors = {}) {
    expect_refusal("sample was called with " + what,
                   [&] { ops().sample(conditional, input, {}, samples, to, {}, logits, errors); });
  };
  refuses("6 units of the output, expected 5, the receiving units of the conditional", conditional_,
          states(2, 3), 1, output(2, 6));
  refuses("4 units of the input, expected 3, the sending units of the conditional", conditional_,
          states(2, 4), 1, output(2, 5));
  refuses("5 rows of the output, expected a multiple of 2, the rows of the input", conditional_, states(2, 3),
          1, output(5, 5));
  refuses("0 rows of the input, expected 1 or more", conditional_, states(0, 3), 1, output(2, 5));
  refuses("0 samples of a row, expected 1 or more", conditional_, states(2, 3), 0, output(2, 5));
  States overlapping = output(2, 5);
  overlapping.stride = 4;
  refuses("4 as the stride of the output, expected 5 or more", conditional_, states(2, 3), 1, overlapping);
  Conditional exchanged = conditional_;
  exchanged.integers = autoregressive_.integers;
  refuses("5 sending units of the integer weights, expected 3, the sending units of the conditional",
          exchanged, states(2, 3), 1, output(2, 5));
  Conditional prior_with_weights = prior_;
  prior_with_weights.integers = conditional_.integers;
  refuses("integer weights, expected none of a conditional that has no input", prior_with_weights, {}, 1,
          output(2, 5));
  refuses("4 rows of the output, expected a multiple of 3, the samples of a row", conditional_, states(2, 3),
          3, output(4, 5));
  refuses("4 rows of the kept logits, expected 2, the rows of the input", conditional_, states(2, 3), 2,
          output(4, 5), floats(4, 5));
  refuses("4 units of the kept logits, expected 5, the receiving units of the conditional", conditional_,
          states(2, 3), 2, output(4, 5), floats(2, 4));
  refuses("kept logits of a prior, expected none", prior_, {}, 1, output(2, 5), floats(2, 5));
  Conditional gaussian = conditional_;
  gaussian.deviation = 0.5f;
  refuses("kept logits of Gaussian units, expected none", gaussian, states(2, 3), 1, output(2, 5),
          floats(2, 5));
  refuses("2 rows of the errors, expected 4, the rows of the output", conditional_, states(2, 3), 2,
          output(4, 5), {}, floats(2, 5));
  refuses("4 units of the errors, expected 5, the units of the output", conditional_, states(2, 3), 2,
          output(4, 5), {}, floats(4, 4));
  refuses("an autoregressive prior, expected a conditional whose units are drawn at once", autoregressive_,
          states(2, 5), 1, output(2, 5));
}

TEST_P(ShapesTest, SampleInOrderRefusesWhatDoesNotFit) {
  const auto refuses = [&](const std::string& what, const Conditional& conditional, States to) {
    expect_refusal("sample_in_order was called with " + what,
                   [&] { ops().sample_in_order(conditional, {}, to); });
  };
  refuses("6 units of the output, expected 5, the receiving units of the conditional", autoregressive_,
          output(2, 6));
  refuses("a conditional whose units are drawn at once, expected an autoregressive prior", conditional_,
          output(2, 5));
  Conditional oblong = conditional_;
  oblong.autoregressive = true;
  refuses("3 sending units of an autoregressive prior, expected 5, the number of its receiving units", oblong,
          output(2, 5));
}

TEST_P(ShapesTest, DeltaRefusesWhatDoesNotFit) {
  const auto refuses = [&](const std::string& what, const Conditional& conditional, ConstStates input,
                           ConstStates target, Deltas to, const SampleWeights& weights = {},
                           Matrix<const float> logits = {}) {
    expect_refusal("delta was called with " + what,
                   [&] { ops().delta(conditional, input, target, {}, to, weights, logits); });
  };
  refuses("6 units of the target, expected 5, the receiving units of the conditional", conditional_,
          states(2, 3), states(2, 6), deltas(2, 5));
  refuses("4 units of the deltas, expected 5, the receiving units of the conditional", conditional_,
          states(2, 3), states(2, 5), deltas(2, 4));
  refuses("4 units of the input, expected 3, the sending units of the conditional", conditional_,
          states(2, 4), states(2, 5), deltas(2, 5));
  refuses("3 rows of the input, expected 2, the rows of the deltas", conditional_, states(3, 3), states(2, 5),
          deltas(2, 5));
  refuses("3 rows of the deltas, expected a multiple of 2, the rows of the target", conditional_,
          states(3, 3), states(2, 5), deltas(3, 5));
  refuses("4 rows of the deltas, expected a multiple of 3, the samples of an image", conditional_,
          states(4, 3), states(4, 5), deltas(4, 5), sample_weights(3));
  refuses("0 samples of an image, expected 1 or more", conditional_, states(4, 3), states(4, 5), deltas(4, 5),
          sample_weights(0));
  refuses("0 rows of the target, expected 1 or more", conditional_, states(4, 3), states(0, 5), deltas(4, 5));
  refuses("4 rows of the target, expected 0, the rows of the deltas", conditional_, {}, states(4, 5),
          deltas(0, 5));
  refuses(
      "4 rows of the target, expected 2, the rows of the deltas, which samples share only if each has a "
      "weight",
      conditional_, states(2, 3), states(4, 5), deltas(2, 5));
  refuses("4 rows of the target, expected 6, the samples of the images that the deltas are of", conditional_,
          states(2, 3), states(4, 5), deltas(2, 5), sample_weights(3));
  Conditional gaussian = conditional_;
  gaussian.deviation = 0.5f;
  refuses(
      "4 rows of the target, expected 2, the rows of the deltas, which samples of Gaussian units do not "
      "share",
      gaussian, states(2, 3), states(4, 5), deltas(2, 5), sample_weights(2));
  refuses("kept logits of Gaussian units, expected none", gaussian, {}, states(2, 5), deltas(2, 5), {},
          floats(2, 5));
  refuses("kept logits of a prior, expected none", prior_, {}, states(2, 5), deltas(2, 5), {}, floats(2, 5));
  refuses("4 units of the kept logits, expected 5, the receiving units of the conditional", conditional_, {},
          states(2, 5), deltas(2, 5), {}, floats(2, 4));
  Conditional bare = conditional_;
  bare.integers = nullptr;
  refuses("no integer weights, expected those of a conditional that has an input", bare, {}, states(2, 5),
          deltas(2, 5), {}, floats(2, 5));
  refuses("3 rows of the kept logits, expected 2, the rows of the deltas", conditional_, {}, states(2, 5),
          deltas(2, 5), {}, floats(3, 5));
}

TEST_P(ShapesTest, RoundErrorsRefusesWhatDoesNotFit) {
  const auto refuses = [&](const std::string& what, Matrix<const float> errors, Deltas to,
                           const SampleWeights& weights = {}) {
    expect_refusal("round_errors was called with " + what,
                   [&] { ops().round_errors(errors, {}, to, weights); });
  };
  refuses("3 rows of the errors, expected 4, the rows of the deltas", floats(3, 5), deltas(4, 5));
  refuses("0 rows of the errors, expected 4, the rows of the deltas", {}, deltas(4, 5));
  refuses("6 units of the errors, expected 5, the units of the deltas", floats(4, 6), deltas(4, 5));
  refuses("4 rows of the deltas, expected a multiple of 3, the samples of an image", floats(4, 5),
          deltas(4, 5), sample_weights(3));
}

TEST_P(ShapesTest, GradientRefusesWhatDoesNotFit) {
  const auto refuses = [&](const std::string& what, ConstDeltas from, ConstStates input,
                           std::int32_t* weight_gradient, std::int32_t largest_state) {
    expect_refusal("gradient was called with " + what, [&] {
      ops().gradient(from, input, weight_gradient, written<std::int32_t>() + 64, largest_state);
    });
  };
  refuses("3 rows of the states, expected 2, the rows of the deltas", deltas(2, 5), states(3, 3),
          written<std::int32_t>(), 1);
  refuses("states and nowhere to write the gradient", deltas(2, 5), states(2, 3), nullptr, 1);
  refuses("0 as the largest state, expected 1 or more", deltas(2, 5), states(2, 3), written<std::int32_t>(),
          0);
  refuses("8388609 rows of the deltas, expected 0 to 8388608, as exact sums allow", deltas(8388609, 5), {},
          nullptr, 1);
  refuses("133145 rows of the deltas, expected 0 to 133144, as exact sums allow", deltas(133145, 5), {},
          nullptr, 127);
}

TEST_P(ShapesTest, LearnRefusesWhatDoesNotFit) {
  Learning learning;
  learning.rates = rates();
  learning.gradient = written<std::int32_t>();
  learning.bias_gradient = written<std::int32_t>() + 64;
  const auto refuses = [&](const std::string& what, const Conditional& conditional, ConstDeltas from,
                           ConstStates input) {
    expect_refusal("learn was called with " + what, [&] { ops().learn(conditional, from, input, learning); });
  };
  refuses("3 rows of the states, expected 2, the rows of the deltas", conditional_, deltas(2, 5),
          states(3, 3));
  refuses("4 units of the deltas, expected 5, the receiving units of the conditional", conditional_,
          deltas(2, 4), states(2, 3));
  refuses("4 units of the states, expected 3, the sending units of the conditional", conditional_,
          deltas(2, 5), states(2, 4));
  learning.gradient = nullptr;
  refuses("no gradient of the weights, expected one of a conditional that has an input", conditional_,
          deltas(2, 5), {});
  learning.added = gradient();
  refuses("a gradient added to the weights of a prior, expected none", prior_, deltas(2, 5), {});
  learning.bias_gradient = nullptr;
  refuses("no bias gradient, expected one", prior_, deltas(2, 5), {});
}

TEST_P(ShapesTest, NaturalGradientRefusesWhatDoesNotFit) {
  const auto refuses = [&](const std::string& what, const Conditional& conditional,
                           const FisherInverse& inverse) {
    expect_refusal("natural_gradient was called with " + what, [&] {
      ops().natural_gradient(conditional, inverse, rates(), gradient(), gradient(), written<float>(),
                             written<float>() + 64);
    });
  };
  FisherInverse inverse;
  inverse.blocks = floats(1, 1).data;
  Conditional gaussian = conditional_;
  gaussian.deviation = 0.5f;
  refuses("Gaussian units, expected Bernoulli units", gaussian, inverse);
  Conditional of_grey = conditional_;
  of_grey.largest_input = 127;
  refuses("127 as the largest input of the conditional, expected 1, the largest of 0/1 states", of_grey,
          inverse);
  inverse.form = FisherForm::woodbury;
  inverse.rows = states(2, 4);
  refuses("4 units of the rows of Woodbury's form, expected 3, the sending units of the conditional",
          conditional_, inverse);
  inverse.rows = states(513, 3);
  refuses("513 rows of Woodbury's form, expected 0 to 512, the largest order that is inverted", conditional_,
          inverse);
  inverse.form = FisherForm::dense;
  refuses("the dense or Woodbury's form of a prior's Fisher blocks, expected the diagonal one", prior_,
          inverse);
}

TEST_P(ShapesTest, OperationsOfChainsRefuseWhatDoesNotFit) {
  for (const std::uint32_t from_epoch : {0u, 1u}) {  // whether or not the epoch has come
    expect_refusal("recall was called with 5 rows of the states, expected 0 to 4, as many as are remembered",
                   [&] { ops().recall(data(5), nullptr, zero(), zero(), 0, output(5, 5)); });
    expect_refusal("recall was called with 6 units of the states, expected 5, the units remembered",
                   [&] { ops().recall(data(5), nullptr, zero(), zero(), from_epoch, output(2, 6)); });
  }
  DataRows grey = data(5);
  grey.grey = true;
  expect_refusal(
      "recall was called with grey, fixed-point or ordered rows, expected the bits that were remembered",
      [&] { ops().recall(grey, nullptr, zero(), zero(), 0, output(2, 5)); });
  DataRows narrow = data(9);
  narrow.row_bytes = 1;
  expect_refusal("recall was called with 1 bytes of a row, expected 2 or more",
                 [&] { ops().recall(narrow, nullptr, zero(), zero(), 0, output(2, 9)); });
  expect_refusal("remember was called with 1 bytes of a row, expected 2 or more", [&] {
    ops().remember(states(4, 9), 2, zero(), nullptr, zero(), written<std::uint8_t>(), 1);
  });
  expect_refusal("remember was called with 0 samples of an image, expected 1 or more", [&] {
    ops().remember(states(4, 5), 0, zero(), nullptr, zero(), written<std::uint8_t>(), 1);
  });
  expect_refusal(
      "remember was called with 4 rows of the states, expected a multiple of 3, the samples of an image",
      [&] { ops().remember(states(4, 5), 3, zero(), nullptr, zero(), written<std::uint8_t>(), 1); });
  expect_refusal("metropolis was called with 0 samples of an image, expected 1 or more", [&] {
    ops().metropolis(numbers<std::int64_t>(2, 0), {}, written<std::int32_t>(), written<std::int64_t>(),
                     written<std::uint32_t>(), written<std::int64_t>());
  });
}

TEST_P(ShapesTest, ScoreRefusesWhatDoesNotFit) {
  const auto refuses = [&](const std::string& what, ConstStates input, ConstStates target,
                           Matrix<float> errors = {}) {
    expect_refusal("score was called with " + what,
                   [&] { ops().score(conditional_, input, target, {}, errors); });
  };
  refuses("6 units of the target, expected 5, the receiving units of the conditional", states(2, 3),
          states(2, 6));
  refuses("4 units of the input, expected 3, the sending units of the conditional", states(2, 4),
          states(2, 5));
  refuses("2 rows of the input, expected a multiple of 4, the rows of the target", states(2, 3),
          states(4, 5));
  refuses("2 rows of the errors, expected 4, the rows of the input", states(4, 3), states(2, 5),
          floats(2, 5));
}

TEST_P(ShapesTest, ScoreMissesNoForgottenInput) {
  expect_refusal("score was called with 4 rows of the target, expected 0, the rows of the input",
                 [&] { ops().score(conditional_, states(0, 3), states(4, 5), {}); });
  expect_refusal("score was called with 0 rows of the target, expected 1 or more",
                 [&] { ops().score(conditional_, states(4, 3), states(0, 5), {}); });
  expect_refusal("score was called with 4 units of the errors, expected 5, the units of the target",
                 [&] { ops().score(conditional_, states(4, 3), states(4, 5), {}, floats(4, 4)); });
}

TEST_P(ShapesTest, ScoreKeptRefusesWhatDoesNotFit) {
  const auto refuses = [&](const std::string& what, Matrix<const float> logits, ConstStates target,
                           Matrix<float> errors = {}) {
    expect_refusal("score_kept was called with " + what,
                   [&] { ops().score_kept(logits, target, {}, errors); });
  };
  refuses("6 units of the target, expected 5, the units of the logits", floats(2, 5), states(2, 6));
  refuses("3 rows of the target, expected a multiple of 2, the rows of the logits", floats(2, 5),
          states(3, 5));
  refuses("0 rows of the logits, expected 1 or more", floats(0, 5), states(4, 5));
  refuses("2 rows of the errors, expected 4, the rows of the target", floats(2, 5), states(4, 5),
          floats(2, 5));
}

TEST_P(ShapesTest, ImportanceWeightsAskForSamples) {
  expect_refusal("importance_weights was called with 0 samples of an image, expected 1 or more", [&] {
    ops().importance_weights(numbers<std::int64_t>(2, 0), 20, written<std::int32_t>(),
                             written<std::int64_t>());
  });
  for (const std::int64_t samples : {1, 1025}) {
    expect_refusal("vimco_weights was called with " + std::to_string(samples) +
                       " samples of an image, expected 2 to 1024, as sums of log weights in 64 bits allow",
                   [&] {
                     ops().vimco_weights(numbers<std::int64_t>(2, samples), written<float>(), rates(),
                                         written<Rates>());
                   });
  }
}

TEST_P(ShapesTest, ProbabilitiesAndMultiplyRefuseWhatDoesNotFit) {
  const auto refuses = [&](const std::string& what, ConstStates input, Matrix<float> to) {
    expect_refusal("probabilities was called with " + what,
                   [&] { ops().probabilities(conditional_, input, to); });
  };
  refuses("6 units of the probabilities, expected 5, the receiving units of the conditional", states(2, 3),
          floats(2, 6));
  refuses("3 rows of the input, expected 2, the rows of the probabilities", states(3, 3), floats(2, 5));
  refuses("4 units of the input, expected 3, the sending units of the conditional", states(2, 4),
          floats(2, 5));
  expect_refusal(
      "multiply was called with 4 units of the input, expected 3, the sending units of the conditional",
      [&] { ops().multiply(conditional_, states(2, 4)); });
}

// A matrix whose stride was forgotten would have all its rows in one place.
TEST_P(ShapesTest, OverlappingRowsAreRefused) {
  const auto of = [](auto matrix) {
    matrix.stride = 0;
    return matrix;
  };
  const auto refused = [&](const std::string& operation, const std::string& name, std::int64_t units,
                           const auto& call) {
    expect_refusal(operation + " was called with 0 as the stride of the " + name + ", expected " +
                       std::to_string(units) + " or more",
                   call);
  };
  Conditional flat = conditional_;
  flat.weight.stride = 0;
  refused("draw_weights", "weights", 3, [&] { ops().draw_weights(flat, {}, 0.1f); });
  refused("gather", "states", 5, [&] { ops().gather(data(5), nullptr, zero(), {}, of(output(2, 5))); });
  refused("multiply", "input", 3, [&] { ops().multiply(conditional_, of(states(2, 3))); });
  refused("sample", "errors", 5,
          [&] { ops().sample(conditional_, states(2, 3), {}, 1, output(2, 5), {}, {}, of(floats(2, 5))); });
  refused("sample", "kept logits", 5,
          [&] { ops().sample(conditional_, states(2, 3), {}, 1, output(2, 5), {}, of(floats(2, 5))); });
  refused("delta", "target", 5,
          [&] { ops().delta(conditional_, states(2, 3), of(states(2, 5)), {}, deltas(2, 5)); });
  refused("delta", "deltas", 5,
          [&] { ops().delta(conditional_, states(2, 3), states(2, 5), {}, of(deltas(2, 5))); });
  refused("round_errors", "deltas", 5, [&] { ops().round_errors(floats(2, 5), {}, of(deltas(2, 5)), {}); });
  refused("gradient", "states", 3,
          [&] { ops().gradient(deltas(2, 5), of(states(2, 3)), written<std::int32_t>(), nullptr); });
  refused("gradient", "deltas", 5,
          [&] { ops().gradient(of(deltas(2, 5)), {}, nullptr, written<std::int32_t>()); });
  refused("sparsity", "states", 5,
          [&] { ops().sparsity(of(states(2, 5)), {}, written<float>(), written<std::int32_t>() + 64); });
  refused("remember", "states", 5,
          [&] { ops().remember(of(states(2, 5)), 2, zero(), nullptr, zero(), written<std::uint8_t>(), 1); });
  refused("score_kept", "logits", 5, [&] { ops().score_kept(of(floats(2, 5)), states(2, 5), {}); });
  refused("importance", "log weights", 3,
          [&] { ops().importance(of(numbers<std::int64_t>(2, 3)), written<ImportanceSummary>()); });
  refused("probabilities", "probabilities", 5,
          [&] { ops().probabilities(conditional_, states(2, 3), of(floats(2, 5))); });
  refused("count", "states", 5, [&] { ops().count(of(states(2, 5)), written<std::int64_t>()); });
}

TEST_P(ShapesTest, AnEmptyBatchNeedsNoOtherViews) {
  ops().gather(data(5), nullptr, zero(), {}, {});
  ops().sample(conditional_, {}, {}, 1, {});
  ops().sample(prior_, {}, {}, 1, {});
  ops().sample_in_order(autoregressive_, {}, {});
  ops().delta(conditional_, {}, {}, {}, {});
  ops().delta(prior_, {}, {}, {}, {});
  ops().round_errors({}, {}, {}, {});
  ops().recall(data(5), nullptr, zero(), zero(), 0, {});
  ops().remember({}, 2, zero(), nullptr, zero(), written<std::uint8_t>(), 1);
  ops().metropolis(numbers<std::int64_t>(0, 3), {}, written<std::int32_t>(), written<std::int64_t>(),
                   written<std::uint32_t>(), written<std::int64_t>());
  ops().score(conditional_, {}, {}, {});
  ops().score(prior_, {}, {}, {});
  ops().score_kept({}, {}, {});
  ops().importance({}, written<ImportanceSummary>());
  ops().importance_weights(numbers<std::int64_t>(0, 3), 20, written<std::int32_t>(), written<std::int64_t>());
  ops().probabilities(conditional_, {}, {});
  ops().multiply(conditional_, {});
  ops().synchronize();
}

TEST_P(ShapesTest, TheGradientOfAnEmptyBatchIsZero) {
  Buffer<std::int32_t> gradient(ops(), 5 * 3), bias_gradient(ops(), 5);
  gradient.copy_in(std::vector<std::int32_t>(5 * 3, 7).data());
  bias_gradient.copy_in(std::vector<std::int32_t>(5, 7).data());
  ops().gradient(deltas(0, 5), states(0, 3), gradient.data(), bias_gradient.data());
  std::vector<std::int32_t> found(5 * 3, 1), found_bias(5, 1);
  gradient.copy_out(found.data());
  bias_gradient.copy_out(found_bias.data());
  EXPECT_EQ(found, std::vector<std::int32_t>(5 * 3, 0));
  EXPECT_EQ(found_bias, std::vector<std::int32_t>(5, 0));
}

TEST_P(ShapesTest, APriorHasNothingToQuantizeOrReserve) {
  ops().draw_weights(prior_, {}, 0.1f);
  ops().quantize(prior_, nullptr, nullptr);
  ops().reserve(prior_, 2);
}

WAKESLEEP_ON_EVERY_BACKEND(ShapesTest);

}  // namespace
}  // namespace wakesleep
