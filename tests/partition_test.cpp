// The bidirectional machine's likelihood: p~*(x) and Z against sums over all states in double precision.
#include "wakesleep/partition.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "backends.hpp"
#include "reference/naive_machine.hpp"
#include "reference/small_machines.hpp"
#include "refusals.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/evaluate.hpp"

namespace wakesleep::testing {
namespace {

using Sizes = std::vector<std::int64_t>;

/// sum_h sqrt(p(x, h) q(h | x)).
double sum_of_roots(const NaiveMachine& machine, const Bits& x) {
  double sum = 0;
  machine.for_each_hidden(x, [&](const Configuration& h) {
    sum += std::exp((machine.log_joint(h) + machine.log_posterior(h)) / 2);
  });
  return sum;
}

double exact_log_partition(const NaiveMachine& machine) {
  double sum = 0;
  machine.for_each_visible([&](const Bits& x) { sum += std::pow(sum_of_roots(machine, x), 2); });
  return std::log(sum);
}

PartitionEstimate partition_with(const Machine& machine, std::int64_t dreams, std::uint64_t seed = 3) {
  PartitionSettings settings;
  settings.dreams = dreams;
  settings.seed = seed;
  return estimate_partition(machine, settings);
}

class Partition : public BackendTest {};

TEST_P(Partition, MeetsTheSumOverAllStates) {
  // Five standard errors, estimated from the same 40,000 dreams: a false alarm in 1.7 million comparisons,
  // were the errors normal; the weights here are within a factor of ten of each other.
  for (const Sizes& sizes : {Sizes{5, 4}, Sizes{4, 3, 3}, Sizes{3, 2, 3, 2}, Sizes{3, 2, 4}}) {
    const bool autoregressive = sizes == Sizes{3, 2, 4};
    const Tensors tensors =
        autoregressive ? random_autoregressive_tensors(sizes, 1.0f, 21) : random_tensors(sizes, 1.0f, 21);
    const Machine machine = machine_of(ops(), sizes, tensors);
    const double exact = exact_log_partition(NaiveMachine(tensors, 16));
    const PartitionEstimate estimate = partition_with(machine, 40000);
    EXPECT_EQ(estimate.dreams, 40000);
    EXPECT_LT(exact, 0.0);
    EXPECT_GT(estimate.standard_error, 0.0);
    EXPECT_LT(estimate.standard_error, 0.02);
    EXPECT_NEAR(estimate.log_partition, exact, 5 * estimate.standard_error) << sizes.size();
  }
}

TEST_P(Partition, IsOneWhereRecognitionInvertsGeneration) {
  const Sizes sizes = {4, 3};
  Tensors tensors = random_tensors(sizes, 1.0f, 4);
  for (auto& [name, tensor] : tensors) {  // independent units: q(h | x) = p(h | x) exactly
    if (name.ends_with("weight")) std::fill(tensor.values.begin(), tensor.values.end(), 0.0f);
  }
  tensors["recognition.1.bias"] = tensors["prior.bias"];
  const PartitionEstimate estimate = partition_with(machine_of(ops(), sizes, tensors), 100);
  EXPECT_NEAR(estimate.log_partition, 0.0, 1e-5);
  EXPECT_NEAR(estimate.standard_error, 0.0, 1e-5);
}

TEST_P(Partition, StandardErrorIsThatOfTheDreams) {
  // 200 estimates of 50 dreams: their spread against the mean of what each says of itself.
  const Sizes sizes = {4, 3};
  const Machine machine = machine_of(ops(), sizes, random_tensors(sizes, 1.0f, 22));
  double sum = 0, squares = 0, said = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const PartitionEstimate estimate = partition_with(machine, 50, seed);
    sum += estimate.log_partition;
    squares += estimate.log_partition * estimate.log_partition;
    said += estimate.standard_error / 200;
  }
  const double spread = std::sqrt((squares - sum * sum / 200) / 199);
  EXPECT_NEAR(said / spread, 1.0, 0.25);  // the spread of 200 normal values is off by 5 %
}

TEST_P(Partition, TheUnnormalizedLikelihoodMeetsItsEnumeration) {
  const Sizes sizes = {5, 4, 3};
  const Tensors tensors = random_tensors(sizes, 1.0f, 23);
  const Machine machine = machine_of(ops(), sizes, tensors);
  const NaiveMachine naive(tensors, 16);
  const std::vector<Bits> rows = random_rows(6, 5, 8);
  double exact = 0;
  for (const Bits& x : rows) exact += 2 * std::log(sum_of_roots(naive, x)) / 6;
  EvaluationSettings settings;
  settings.samples = 50000;
  settings.bidirectional = true;
  const Evaluation evaluation = evaluate(machine, data_set_of(rows), settings);
  // The relative variance of sqrt(w) is below 1 here, so that of the mean over six rows of twice its
  // logarithm is below 4 / 50000 / 6; five standard deviations.
  EXPECT_NEAR(evaluation.unnormalized, exact, 5 * std::sqrt(4.0 / 50000 / 6));
  EXPECT_LT(evaluation.unnormalized, evaluation.log_likelihood);  // p~* <= p
  EXPECT_GT(evaluation.unnormalized_standard_error, 0.0);

  settings.memory_bytes = 1 << 16;  // many chunks, and the samples of an image in pieces
  const Evaluation in_pieces = evaluate(machine, data_set_of(rows), settings);
  EXPECT_EQ(in_pieces.unnormalized, evaluation.unnormalized);
  settings.bidirectional = false;
  const Evaluation without = evaluate(machine, data_set_of(rows), settings);
  EXPECT_EQ(without.log_likelihood, evaluation.log_likelihood);
  EXPECT_EQ(without.unnormalized, 0.0);
}

TEST_P(Partition, DependsOnSeedAndNumberAlone) {
  const Sizes sizes = {33, 31, 5};
  const Machine machine = machine_of(ops(), sizes, random_tensors(sizes, 0.5f, 24));
  const PartitionEstimate estimate = partition_with(machine, 5000);  // two chunks
  EXPECT_EQ(partition_with(machine, 5000).log_partition, estimate.log_partition);
  EXPECT_NE(partition_with(machine, 5000, 4).log_partition, estimate.log_partition);
  EXPECT_NE(partition_with(machine, 4999).log_partition, estimate.log_partition);
}

TEST_P(Partition, RefusesAnImpossibleNumberOfDreams) {
  const Machine machine = machine_of(ops(), {3, 2}, random_tensors({3, 2}, 1.0f, 1));
  for (const std::int64_t dreams : {std::int64_t{0}, std::int64_t{-1}, (std::int64_t{1} << 31) + 1}) {
    EXPECT_THROW(partition_with(machine, dreams), UsageError);
  }
}

WAKESLEEP_ON_EVERY_BACKEND(Partition);

}  // namespace
}  // namespace wakesleep::testing
