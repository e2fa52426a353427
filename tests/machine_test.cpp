// How a machine begins, and what it refuses.
#include "wakesleep/machine.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "backends.hpp"
#include "refusals.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {
namespace {

class MachineTest : public testing::BackendTest {};

TEST_P(MachineTest, BeginsAsBornscheinAndBengioDo) {
  const std::vector<std::int64_t> sizes = {37, 19, 5};
  Machine machine(ops(), sizes, 16);
  std::vector<double> means(37, 0.25);
  means[3] = 0.0;  // never on in the data: clamped to 1e-4
  means[4] = 1.0;
  machine.initialize(means, 9);
  const Tensors tensors = machine.download();
  const auto& visible = tensors.at("generative.1.bias").values;
  EXPECT_NEAR(visible[0], std::log(0.25 / 0.75), 1e-6);
  EXPECT_NEAR(visible[3], std::log(1e-4 / (1 - 1e-4)), 1e-5);
  EXPECT_NEAR(visible[4], -std::log(1e-4 / (1 - 1e-4)), 2e-3);  // 1 - 1e-4 in float32
  for (const char* name : {"recognition.1.bias", "recognition.2.bias", "generative.2.bias", "prior.bias"}) {
    for (const float bias : tensors.at(name).values) EXPECT_EQ(bias, -1.0f) << name;
  }
  for (const char* name :
       {"recognition.1.weight", "recognition.2.weight", "generative.1.weight", "generative.2.weight"}) {
    const Tensor& weight = tensors.at(name);
    const double receiving = static_cast<double>(weight.shape[0]),
                 sending = static_cast<double>(weight.shape[1]);
    const double limit = std::sqrt(6 / (receiving + sending)) / sending;
    double sum = 0, squares = 0, largest = 0;
    for (const float w : weight.values) {
      sum += w;
      squares += double{w} * w;
      largest = std::max(largest, std::fabs(double{w}));
    }
    const double count = static_cast<double>(weight.values.size());
    EXPECT_LE(largest, limit * (1 + 1e-6)) << name;
    EXPECT_GT(largest, 0.9 * limit) << name;
    // Mean 0 and variance limit^2 / 3, within six standard deviations.
    EXPECT_LT(std::fabs(sum / count), 6 * limit / std::sqrt(3 * count)) << name;
    EXPECT_NEAR(squares / count, limit * limit / 3, 6 * limit * limit * std::sqrt(4.0 / 45 / count)) << name;
  }
  EXPECT_NE(tensors.at("recognition.2.weight").values[0], tensors.at("generative.2.weight").values[0]);
  EXPECT_EQ(machine.parameters(), 37 * 19 * 2 + 19 * 5 * 2 + 19 + 37 + 5 + 19 + 5);
}

TEST_P(MachineTest, UploadsWhatItDownloads) {
  Machine first(ops(), {33, 7, 1}, 12), second(ops(), {33, 7, 1}, 12);
  first.initialize(std::vector<double>(33, 0.5), 4);
  second.upload(first.download());
  EXPECT_EQ(hash_of(second.download()), hash_of(first.download()));
}

TEST_P(MachineTest, RefusesTensorsThatDoNotFit) {
  Machine machine(ops(), {4, 3}, 16);
  const Tensors good = machine.download();
  const auto refused = [&](const auto& change, const std::string& words) {
    Tensors bad = good;
    change(bad);
    try {
      machine.upload(bad);
      FAIL() << "accepted: " << words;
    } catch (const DataError& error) {
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    }
  };
  refused([](Tensors& t) { t.erase("prior.bias"); }, "\"prior.bias\" is missing");
  refused([](Tensors& t) { t["recognition.9.bias"]; }, "belongs to no layer");
  refused([](Tensors& t) { t["prior.bias"].shape = {1, 3}; }, "expected shape [3]");
  refused([](Tensors& t) { t["prior.bias"].values.pop_back(); }, "has shape [3] and 2 values");
  refused([](Tensors& t) { t["generative.1.weight"].values[5] = NAN; }, "not finite at index 5");
  refused([](Tensors& t) { t["generative.1.weight"].values[5] = 1e30f; }, "too large");
  EXPECT_THROW(machine.initialize({0.5, 0.5}, 1), DataError);
  std::vector<double> means(static_cast<std::size_t>(machine.size(0)), 0.5);
  means[1] = NAN;
  EXPECT_THROW(machine.initialize(means, 1), DataError);
}

TEST_P(MachineTest, RefusesImpossibleSizes) {
  EXPECT_THROW(Machine(ops(), {4}, 16), UsageError);
  EXPECT_THROW(Machine(ops(), {4, 0}, 16), UsageError);
  EXPECT_THROW(Machine(ops(), {4, 3}, 10), UsageError);
  EXPECT_THROW(Machine(ops(), {65796, 1}, 16), UsageError);
  EXPECT_THROW(Machine(ops(), {4194304, 1}, 8), UsageError);
  // Refused before anything is allocated, also where the layer that is too wide comes late.
  const std::size_t allocations = ops().memory_use().allocations;
  EXPECT_THROW(Machine(ops(), {784, 65796}, 16), UsageError);
  EXPECT_EQ(ops().memory_use().allocations, allocations);
}

TEST_P(MachineTest, TheSmallerLimitOfTheUnitsIsNamed) {
  const auto refusal = [&](const std::vector<std::int64_t>& sizes, int weight_bits) {
    return testing::message_of<UsageError>([&] { Machine(ops(), sizes, weight_bits); });
  };
  using ::testing::AllOf, ::testing::HasSubstr, ::testing::Not;
  // With 8 bits exact sums allow more than the whole machine may have, and no fewer bits can be chosen.
  EXPECT_THAT(refusal({784, 16909321}, 8), AllOf(HasSubstr("4194304"), Not(HasSubstr("bits"))));
  EXPECT_THAT(refusal({4194304, 1}, 8), AllOf(HasSubstr("4194304"), Not(HasSubstr("bits"))));
  EXPECT_THAT(refusal({784, 5000000}, 12), AllOf(HasSubstr("1049088"), HasSubstr("fewer weight bits")));
  EXPECT_THAT(refusal({65796, 1}, 16), AllOf(HasSubstr("65795"), HasSubstr("fewer weight bits")));
}

TEST_P(MachineTest, RefusesGaussianUnitsOfADeviationOutsideTheBounds) {
  const auto machine_of = [&](Visible kind, float deviation) {
    return Machine(ops(), {9, 3}, 8, Prior::factorial, {kind, deviation});
  };
  for (const float deviation : {0.0f, -0.1f, 0.03124f, 1.0001f, NAN, INFINITY}) {
    EXPECT_THAT(testing::message_of<UsageError>([&] { machine_of(Visible::gaussian, deviation); }),
                ::testing::HasSubstr("deviation"));
    EXPECT_NO_THROW(machine_of(Visible::bernoulli, deviation)) << "it is not used";
  }
  for (const float deviation : {0.03125f, 1.0f}) {
    EXPECT_EQ(machine_of(Visible::gaussian, deviation).generative(1).deviation, deviation);
  }
}

WAKESLEEP_ON_EVERY_BACKEND(MachineTest);

}  // namespace
}  // namespace wakesleep
