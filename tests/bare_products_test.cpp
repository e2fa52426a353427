// Bare products: that they run on every backend, what they hold, and how many multiply-adds they are, counted
// one by one.
#include "wakesleep/bare_products.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "backends.hpp"
#include "wakesleep/machine.hpp"

namespace wakesleep::testing {
namespace {

const std::vector<std::int64_t> sizes = {37, 19, 5};
constexpr std::int64_t images = 7;

class BareProductsTest : public BackendTest {
 protected:
  /// Of one run, which must also work again: by itself, and in a recording with some left over.
  std::int64_t count(const TrainingSettings& settings) {
    const BareProducts products = bare_products(ops(), sizes, settings);
    products.run(1);
    products.run(19);
    return products.multiply_adds;
  }
};

WAKESLEEP_ON_EVERY_BACKEND(BareProductsTest);

TrainingSettings settings_of(Algorithm algorithm, std::int64_t samples) {
  TrainingSettings settings;
  settings.layers = {sizes.begin() + 1, sizes.end()};
  settings.batch_size = images;
  settings.algorithm = algorithm;
  settings.samples = samples;
  return settings;
}

/// A product by the definition, counting instead of multiplying.
std::int64_t counted(std::int64_t rows, std::int64_t receiving, std::int64_t sending) {
  std::int64_t count = 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t i = 0; i < receiving; ++i) {
      for (std::int64_t j = 0; j < sending; ++j) ++count;
    }
  }
  return count;
}

/// Sampled downward, recognised upward, the recognition weights learn; with wake-sleep the same the other
/// way.
std::int64_t counted_phase(std::int64_t rows) { return 3 * (counted(rows, 37, 19) + counted(rows, 19, 5)); }

/// Sampled upward with samples that share their image, scored downward, the generative weights learn.
std::int64_t counted_samples(std::int64_t rows) {
  return counted(images, 19, 37) + counted(rows, 5, 19) + counted(rows, 19, 5) + counted(rows, 37, 19) +
         counted(rows, 19, 5) + counted(rows, 37, 19);
}

/// The recognition weights learn from such samples; errors of the first layer are those of an image.
std::int64_t counted_wake_phi(std::int64_t rows) { return counted(images, 19, 37) + counted(rows, 5, 19); }

TEST_P(BareProductsTest, CountTheStepOfWakeSleep) {
  for (const Algorithm algorithm : {Algorithm::wake_sleep, Algorithm::sparse_wake_sleep}) {
    EXPECT_EQ(count(settings_of(algorithm, 1)), 2 * counted_phase(images));
  }
}

TEST_P(BareProductsTest, CountLimbsOnce) {
  TrainingSettings settings = settings_of(Algorithm::wake_sleep, 1);
  for (const int bits : {8, 12, 16}) {
    settings.weight_bits = bits;
    EXPECT_EQ(count(settings), 2 * counted_phase(images)) << bits;
  }
}

TEST_P(BareProductsTest, CountTheStepsWithSamples) {
  for (const Algorithm algorithm :
       {Algorithm::vimco, Algorithm::bidirectional_helmholtz, Algorithm::joint_stochastic_approximation}) {
    EXPECT_EQ(count(settings_of(algorithm, 3)), counted_samples(21) + counted_wake_phi(21));
  }
  TrainingSettings settings = settings_of(Algorithm::reweighted_wake_sleep, 3);
  EXPECT_EQ(count(settings), counted_samples(21) + counted_wake_phi(21) + counted_phase(images));
  settings.insomnia = 1;
  EXPECT_EQ(count(settings), counted_samples(21) + counted_wake_phi(21));
  settings.insomnia = 0;
  EXPECT_EQ(count(settings), counted_samples(21) + counted_phase(images));
}

TEST_P(BareProductsTest, CountAnAutoregressivePriorWhole) {
  TrainingSettings settings = settings_of(Algorithm::wake_sleep, 1);
  settings.prior = Prior::autoregressive;
  EXPECT_EQ(count(settings), 2 * counted_phase(images) + 2 * counted(images, 5, 5));
  settings = settings_of(Algorithm::vimco, 3);
  settings.prior = Prior::autoregressive;
  EXPECT_EQ(count(settings), counted_samples(21) + counted_wake_phi(21) + 2 * counted(21, 5, 5));
}

TEST_P(BareProductsTest, CountFixedPointStatesLikeOthers) {
  TrainingSettings settings = settings_of(Algorithm::wake_sleep, 1);
  settings.visible = Visible::gaussian;
  EXPECT_EQ(count(settings), 2 * counted_phase(images));
}

TEST_P(BareProductsTest, HoldWhatThePlanSays) {
  const auto held = [&] { return static_cast<std::int64_t>(ops().memory_use().current); };
  TrainingSettings one = settings_of(Algorithm::wake_sleep, 1);
  TrainingSettings several = settings_of(Algorithm::vimco, 3);
  several.prior = Prior::autoregressive;
  for (const TrainingSettings& settings : {one, several}) {
    for (const std::vector<std::int64_t>& layers : {sizes, {37, 5, 70}}) {
      MemoryPlan plan;
      std::int64_t largest = 0;
      {
        const std::int64_t before = held();
        const Machine machine(ops(), layers, settings.weight_bits, settings.prior,
                              visible_units_of(settings));
        plan.parameters = held() - before;
        for (int i = 0; i < machine.conditionals(); ++i) {
          const Conditional& conditional = machine.conditional(i);
          largest = std::max(largest, conditional.receiving * conditional.sending);
        }
      }
      const std::int64_t of_training = plan.total(images);
      add_bare_products(plan, layers, settings);
      const std::int64_t before = held();
      const BareProducts products = bare_products(ops(), layers, settings);
      EXPECT_EQ(held() - before, plan.total(images) - of_training);
      EXPECT_EQ(plan.fixed, 4 * largest);  // the gradient
    }
  }
}

TEST_P(BareProductsTest, CountASquare) {
  for (const std::int64_t width : {1, 31, 33, 130}) {
    const BareProducts square = square_product(ops(), width);
    square.run(1);
    square.run(2);
    EXPECT_EQ(square.multiply_adds, counted(width, width, width)) << width;
  }
}

}  // namespace
}  // namespace wakesleep::testing
