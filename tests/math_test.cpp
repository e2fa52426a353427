// The elementary functions against double precision, over the whole float range in steps
// (bench/function_errors runs every float and prints the table of docs/numerics.md).
#include "wakesleep/math.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "reference/function_errors.hpp"

namespace wakesleep {
namespace {

class Functions : public ::testing::TestWithParam<reference::Function> {};

TEST_P(Functions, StayWithinTheirStatedError) {
  // A prime stride visits every exponent and spreads over the mantissas.
  const reference::LargestError largest = reference::largest_error(GetParam(), 3, 521);
  EXPECT_LE(largest.ulp, GetParam().bound) << "at x = " << largest.at;
  EXPECT_GT(largest.values, 100000u);
}

INSTANTIATE_TEST_SUITE_P(All, Functions, ::testing::ValuesIn(reference::elementary_functions()),
                         [](const auto& instance) { return instance.param.name; });

TEST(Math, Limits) {
  const float infinite = std::numeric_limits<float>::infinity();
  EXPECT_EQ(exp(-infinite), 0.0f);
  EXPECT_EQ(exp(infinite), infinite);
  EXPECT_EQ(exp(0.0f), 1.0f);
  EXPECT_EQ(exp(-0.0f), 1.0f);
  EXPECT_GT(exp(-103.0f), 0.0f);  // a subnormal, not flushed
  EXPECT_EQ(exp(-104.0f), 0.0f);
  EXPECT_TRUE(std::isnan(exp(std::numeric_limits<float>::quiet_NaN())));
  EXPECT_EQ(log(0.0f), -infinite);
  EXPECT_EQ(log(1.0f), 0.0f);
  EXPECT_EQ(log(infinite), infinite);
  EXPECT_TRUE(std::isnan(log(-1.0f)));
  EXPECT_TRUE(std::isnan(log(std::numeric_limits<float>::quiet_NaN())));
  EXPECT_EQ(sigmoid(0.0f), 0.5f);
  EXPECT_EQ(sigmoid(infinite), 1.0f);
  EXPECT_EQ(sigmoid(-infinite), 0.0f);
}

TEST(Math, RoundingToEven) {
  for (const float x :
       {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 0.49999997f, 1048576.5f, 4194304.0f, -4194304.0f, 0.0f}) {
    EXPECT_EQ(integer_to_even(x), static_cast<std::int32_t>(std::nearbyint(x))) << x;
  }
}

TEST(Math, SigmoidIsSymmetricAndMonotone) {
  float before = 0.0f;
  for (int i = -20000; i <= 20000; ++i) {
    const float x = static_cast<float>(i) * 0.005f;
    const float p = sigmoid(x);
    EXPECT_GE(p, before - 1.2e-7f) << x;
    before = p;
    EXPECT_EQ(minor_probability(x), minor_probability(-x));
  }
}

}  // namespace
}  // namespace wakesleep
