// The arithmetic contract, formula by formula, against definitions in double precision or integers.
#include "wakesleep/arithmetic.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "reference/sample_coefficients.hpp"
#include "wakesleep/philox.hpp"

namespace wakesleep {
namespace {

std::uint32_t random_word(std::uint32_t index) { return philox4x32_10({{index, 17, 0, 0}}, 99).word[0]; }

// -------------------------------------------------------------------------------- weights

TEST(WeightShift, IsTheLargestThatFits) {
  std::vector<float> magnitudes = {0.0f,      1e-45f,  1e-38f,   1e-20f,   0.001f,   0.5f,   0.99607f,
                                   0.996094f, 1.0f,    1.9921f,  127.0f,   127.4f,   127.5f, 127.6f,
                                   2047.4f,   2047.5f, 32639.4f, 32639.5f, 32640.0f, 1e10f,  1e13f,
                                   3.5e13f,   3.6e13f, 1e20f,    3.4e38f};
  for (std::uint32_t i = 0; i < 2000; ++i) {
    magnitudes.push_back(float_from_bits((random_word(i) & 0x7FFFFFFFu) % 0x7F800000u));
  }
  for (const int bits : {16, 12, 8}) {
    const double limit = largest_integer_weight(bits);
    for (const float m : magnitudes) {
      int expected = shift_overflow;
      for (int s = -30; s <= 30; ++s) {
        if (std::nearbyint(std::ldexp(static_cast<double>(m), s)) <= limit) expected = s;
      }
      EXPECT_EQ(weight_shift(m, bits), expected) << m << " with " << bits << " bits";
    }
    EXPECT_EQ(weight_shift(std::numeric_limits<float>::infinity(), bits), shift_overflow);
    EXPECT_EQ(weight_shift(std::numeric_limits<float>::quiet_NaN(), bits), shift_overflow);
  }
}

TEST(Limbs, JoinToTheInteger) {
  for (std::int32_t q = -32639; q <= 32639; ++q) {
    const std::int32_t high = high_limb(q);
    const std::int32_t low = low_limb(q);
    ASSERT_EQ(256 * high + low, q);
    ASSERT_GE(high, -128);
    ASSERT_LE(high, 127);
    ASSERT_GE(low, -128);
    ASSERT_LE(low, 127);
  }
}

TEST(IntegerWeight, RoundsToEven) {
  EXPECT_EQ(integer_weight(0.5f, 1.0f), 0);
  EXPECT_EQ(integer_weight(1.5f, 1.0f), 2);
  EXPECT_EQ(integer_weight(-2.5f, 1.0f), -2);
  EXPECT_EQ(integer_weight(-0.75f, 8.0f), -6);
}

// -------------------------------------------------------------------------------- sampling

TEST(OnThreshold, IsTheProbabilityInBothTails) {
  // |threshold / 2^32 - sigma(a)| is at most one step of 2^-32 plus the float error of the smaller side.
  for (double p : {1e-9, 1e-7, 1e-5, 0.001, 0.3, 0.49999, 0.5}) {
    for (const bool upper : {false, true}) {
      const float a = static_cast<float>(upper ? std::log((1 - p) / p) : std::log(p / (1 - p)));
      const double minor = 1 / (1 + std::exp(std::fabs(static_cast<double>(a))));
      const double exact = a > 0 ? 1 - minor : minor;
      const double found = on_threshold(a, minor_probability(a)) / 4294967296.0;
      EXPECT_NEAR(found, exact, 1.01 / 4294967296.0 + 3e-7 * minor) << p << (upper ? " upper" : " lower");
    }
  }
  EXPECT_EQ(on_threshold(0.0f, 0.5f), 0x80000000u);
  EXPECT_EQ(on_threshold(-1000.0f, 0.0f), 0u);          // never
  EXPECT_EQ(on_threshold(1000.0f, 0.0f), 0xFFFFFFFFu);  // all but one of 2^32
}

TEST(SampleState, FrequenciesInBothTails) {
  // 2^24 words each; |z| < 6 has a false-alarm rate of 2e-9 a probability, 2.4e-8 in all. The words are
  // fixed, so a failure is a fault and never bad luck.
  const std::uint32_t draws = 1u << 24;
  for (const double p : {1e-7, 1e-5, 1e-3, 0.1, 0.5, 0.9, 1 - 1e-3, 1 - 1e-5, 1 - 1e-7}) {
    const float a = static_cast<float>(std::log(p) - std::log1p(-p));
    const double exact = 1 / (1 + std::exp(-static_cast<double>(a)));
    std::uint64_t on = 0;
    for (std::uint32_t i = 0; i < draws / 4; ++i) {
      const PhiloxBlock block = philox4x32_10({{i, 3, 0, 0}}, 5);
      for (const std::uint32_t word : block.word) on += sample_state(a, word);
    }
    const double deviation = static_cast<double>(on) - draws * exact;
    EXPECT_LT(std::fabs(deviation), 6 * std::sqrt(draws * exact * (1 - exact)) + 6)
        << "p = " << p << ", on " << on;
  }
}

TEST(SampleGrey, IsExactInIntegers) {
  for (std::uint32_t grey = 0; grey <= 255; ++grey) {
    // The number of words below the threshold is ceil(grey * 2^32 / 255).
    const std::uint64_t on = (static_cast<std::uint64_t>(grey) * 4294967296u + 254) / 255;
    if (on > 0) {
      EXPECT_EQ(sample_grey(grey, static_cast<std::uint32_t>(on - 1)), 1) << grey;
    }
    if (on < 4294967296u) {
      EXPECT_EQ(sample_grey(grey, static_cast<std::uint32_t>(on)), 0) << grey;
    }
  }
}

// -------------------------------------------------------------------------------- deltas

TEST(StateMinusProbability, HasNoCancellation) {
  for (double a = -30; a <= 30; a += 0.37) {
    for (const std::uint32_t state : {0u, 1u}) {
      const double x = static_cast<float>(a);
      const double exact = state != 0 ? 1 / (1 + std::exp(x)) : -1 / (1 + std::exp(-x));
      EXPECT_NEAR(state_minus_probability(state, static_cast<float>(a)), exact, std::fabs(exact) * 4e-7) << a;
    }
  }
}

TEST(SampleWeight, IsTheShareLessTheBaseline) {
  // Quotient, baseline and difference are each good to 2^-53 of at most 1; then one rounding to float32.
  for (const std::int64_t samples : {1, 2, 3, 5, 31, 33, 1000, 8388607}) {
    const double baseline = 1.0 / static_cast<double>(samples);
    for (std::uint32_t i = 0; i < 300; ++i) {
      const std::int64_t total = (std::int64_t{1} << 30) + random_word(2 * i) % samples * (1 << 20);
      const std::int64_t limit = std::min<std::int64_t>(total, std::int64_t{1} << 30);
      const std::int64_t relative = i == 0 ? 0 : i == 1 ? limit : random_word(2 * i + 1) % (limit + 1);
      const long double share = static_cast<long double>(relative) / static_cast<long double>(total);
      for (const bool centred : {false, true}) {
        const long double exact = share - (centred ? 1.0L / static_cast<long double>(samples) : 0.0L);
        const float found = sample_weight(static_cast<std::int32_t>(relative), total, centred ? baseline : 0);
        EXPECT_LE(std::fabs(static_cast<double>(found - exact)),
                  std::ldexp(static_cast<double>(std::fabs(exact)), -24) + std::ldexp(1.0, -51))
            << relative << " of " << total;
      }
    }
  }
  EXPECT_EQ(sample_weight(1 << 30, std::int64_t{1} << 30, 0.0), 1.0f);
  EXPECT_EQ(sample_weight(1 << 30, std::int64_t{1} << 30, 1.0), 0.0f);
  EXPECT_EQ(sample_weight(0, std::int64_t{1} << 30, 0.0), 0.0f);
}

TEST(MeanMinusProbability, HasNoCancellation) {
  for (double a = -29.9; a <= 29.9; a += 0.37) {
    const float logit = static_cast<float>(a);
    const double x = logit;
    const double minor = 1 / (1 + std::exp(std::fabs(x)));
    for (const double mean : {0.0, 1e-12, 1e-6, 0.1, 1.0 / 3, 0.5, 0.75, 1 - 1e-6, 1.0}) {
      // From the end that is nearer: sigma(x) in the lower tail, 1 - sigma(x) in the upper one.
      const double exact = x > 0 ? (mean - 1) + minor : mean - minor;
      EXPECT_NEAR(mean_minus_probability(mean, logit), exact, 4e-7 * minor + 1e-7 * std::fabs(exact))
          << mean << " at " << a;
    }
    // A mean of 0 or 1 is a state.
    EXPECT_EQ(mean_minus_probability(0.0, logit), state_minus_probability(0, logit)) << a;
    EXPECT_EQ(mean_minus_probability(1.0, logit), state_minus_probability(1, logit)) << a;
  }
}

// The mean over all 65,536 values of the random bits is the exact expectation.
double mean_rounded(float delta) {
  std::int64_t sum = 0;
  for (std::uint32_t r = 0; r < 65536; ++r) sum += round_delta(delta, r);
  return static_cast<double>(sum) / 65536;
}

TEST(RoundDelta, BiasIsAtMostTheStatedOne) {
  std::vector<float> deltas = {0.0f,       1e-30f, 1e-9f, 3e-8f, 6e-8f,      1e-7f,     1e-5f,       0.001f,
                               1.0f / 254, 0.25f,  0.5f,  0.7f,  1.0f / 127, 0.999999f, 0.99999994f, 1.0f};
  for (std::uint32_t i = 0; i < 300; ++i)
    deltas.push_back(static_cast<float>(random_word(i)) / 4294967296.0f);
  for (const float delta : deltas) {
    for (const float signed_delta : {delta, -delta}) {
      const double exact = 127.0 * signed_delta;
      EXPECT_LE(std::fabs(mean_rounded(signed_delta) - exact), 1.0 / 131072 * (1 + 1e-12)) << signed_delta;
    }
    EXPECT_EQ(mean_rounded(delta), -mean_rounded(-delta)) << "symmetry at " << delta;
  }
}

TEST(RoundDelta, IsTheFloorOrTheCeilingAndStaysInRange) {
  for (std::uint32_t i = 0; i < 2000; ++i) {
    const float delta = 2.0f * static_cast<float>(random_word(i)) / 4294967296.0f - 1.0f;
    const std::uint32_t r = random_word(i + 100000) & 0xFFFFu;
    const int rounded = round_delta(delta, r);
    EXPECT_LE(std::fabs(rounded - 127.0 * delta), 1.0 + 1e-5);
  }
  EXPECT_EQ(round_delta(1.0f, 65535), 127);
  EXPECT_EQ(round_delta(-1.0f, 0), -127);
  // A vanishing delta never becomes a quantum, whatever its sign (the trap of rounding with u = r / 65536).
  for (const std::uint32_t r : {0u, 1u, 65535u}) {
    EXPECT_EQ(round_delta(-1e-20f, r), 0);
    EXPECT_EQ(round_delta(1e-20f, r), 0);
  }
}

TEST(RoundDelta, TellsWhatAlwaysBecomesZero) {
  // 127 delta is rounded to a multiple of 2^-16, ties to even.
  const float largest = static_cast<float>(0.5 / (127.0 * 65536.0));
  for (const float magnitude : {0.0f, 1e-40f, 1e-20f, 3e-8f, 0.9999f * largest}) {
    EXPECT_TRUE(rounds_to_zero(magnitude)) << magnitude;
    for (std::uint32_t r = 0; r < 65536; ++r) {
      EXPECT_EQ(round_delta(magnitude, r), 0);
      EXPECT_EQ(round_delta(-magnitude, r), 0);
    }
  }
  for (const float magnitude : {1.0001f * largest, 1e-7f, 1e-3f, 0.5f, 1.0f}) {
    EXPECT_FALSE(rounds_to_zero(magnitude)) << magnitude;
  }
}

// -------------------------------------------------------------------------------- log-probability

TEST(LogBernoulli, IsTheRoundedLogProbability) {
  for (double a = -40; a <= 40; a += 0.173) {
    const double x = static_cast<float>(a);
    const double on = -std::log1p(std::exp(-x));
    const double off = -std::log1p(std::exp(x));
    // Half a unit of rounding, and three float ulp of the value.
    EXPECT_NEAR(log_bernoulli(1, static_cast<float>(a)) * nats_per_log_unit, on,
                0.5 * nats_per_log_unit + 4e-7 * std::fabs(on));
    EXPECT_NEAR(log_bernoulli(0, static_cast<float>(a)) * nats_per_log_unit, off,
                0.5 * nats_per_log_unit + 4e-7 * std::fabs(off));
  }
  EXPECT_EQ(log_bernoulli(1, -1e30f), -(1 << 30));  // never below -1024 nats
  EXPECT_EQ(log_bernoulli(0, 1e30f), -(1 << 30));
  EXPECT_EQ(log_bernoulli(1, 1e30f), 0);
}

TEST(RelativeWeight, IsTheExponentialOfTheDifference) {
  const std::int64_t base = -123456789;
  EXPECT_EQ(relative_weight(base, base), std::int64_t{1} << 30);
  for (std::int64_t difference = 0; difference <= 40ll << 20; difference += 12347) {
    const double exact = std::ldexp(std::exp(-static_cast<double>(difference) * nats_per_log_unit), 30);
    const double found = static_cast<double>(relative_weight(base - difference, base));
    EXPECT_NEAR(found, exact, 0.51 + 2.5e-6 * exact) << difference;  // 25 nats in float32 carry 2e-6
  }
  EXPECT_EQ(relative_weight(-(std::int64_t{1} << 58), base), 0);
}

// The same integers read in units half as large: halved log weights, without an integer being halved.
TEST(RelativeWeight, WithAnotherFractionBitIsTheRootOfTheWeight) {
  const std::int64_t base = -123456789;
  for (std::int64_t difference = 0; difference <= 80ll << 20; difference += 12347) {
    const double exact = std::ldexp(std::exp(-static_cast<double>(difference) * nats_per_log_unit / 2), 30);
    const double found = static_cast<double>(relative_weight(base - difference, base, log_fraction_bits + 1));
    EXPECT_NEAR(found, exact, 0.51 + 2.5e-6 * exact) << difference;
  }
  for (const std::int64_t difference : {0, 1, 1000, 1 << 20, 19 << 20, 31 << 20, 33 << 20}) {
    EXPECT_EQ(relative_weight(base - 2 * difference, base, log_fraction_bits + 1),
              relative_weight(base - difference, base));
  }
}

// -------------------------------------------------------------------------------- chains

TEST(Accepts, WithTheRatioOfTheWeights) {
  for (const std::uint32_t word : {0u, 1u, 0x80000000u, 0xFFFFFFFFu}) {
    EXPECT_TRUE(accepts(-77, -77, word)) << "equal weights";
    EXPECT_TRUE(accepts(std::int64_t{1} << 50, -(std::int64_t{1} << 50), word));
    EXPECT_FALSE(accepts(-(std::int64_t{1} << 50), std::int64_t{1} << 50, word));
  }
  // 2^-20 nats below, 1 - 2^-20 of all words.
  EXPECT_TRUE(accepts(-78, -77, 0xFFFFEFFFu - 300));
  EXPECT_FALSE(accepts(-78, -77, 0xFFFFF000u + 300));
  for (double nats = 0.001; nats < 22; nats *= 1.3) {
    const auto difference = static_cast<std::int64_t>(nats * 1048576);
    const double threshold = std::ldexp(std::exp(-static_cast<double>(difference) / 1048576), 32);
    const double hair = 1 + 2.5e-6 * threshold;
    for (const std::int64_t current : {std::int64_t{0}, std::int64_t{-500} << 20, std::int64_t{1} << 40}) {
      EXPECT_TRUE(accepts(current - difference, current, static_cast<std::uint32_t>(threshold - hair)));
      EXPECT_FALSE(accepts(current - difference, current, static_cast<std::uint32_t>(threshold + hair)));
    }
  }
}

// -------------------------------------------------------------------------------- VIMCO

void expect_vimco(const std::vector<std::int64_t>& log_weights) {
  std::vector<float> found(log_weights.size());
  const float sum =
      vimco_coefficients(log_weights.data(), static_cast<std::int64_t>(found.size()), found.data());
  std::vector<double> nats;
  for (const std::int64_t log_weight : log_weights) {
    nats.push_back(static_cast<double>(log_weight) * nats_per_log_unit);
  }
  const testing::SampleCoefficients expected = testing::vimco_coefficients_of(nats);
  double magnitudes = 0;
  for (std::size_t k = 0; k < found.size(); ++k) {
    const double capped = std::min(expected.recognition[k], 1024.0 - expected.generative[k]);
    // The exponentials are good to 2.5e-6, and a gap of many nats is a float.
    ASSERT_NEAR(found[k], capped, 5e-6 + 1.2e-7 * std::fabs(capped)) << "sample " << k;
    ASSERT_LE(std::fabs(found[k]), 1025.0f);
    magnitudes += std::fabs(found[k]);
  }
  EXPECT_NEAR(sum, magnitudes, 1e-4 * magnitudes + 1e-6);
}

TEST(VimcoCoefficients, AreThoseOfLeaveOneOutSums) {
  std::uint32_t index = 0;
  for (const std::size_t samples : {2u, 3u, 5u, 33u, 1024u}) {
    const int repeats = samples < 1024 ? 8 : 1;  // the reference grows with the square of the samples
    for (const double spread : {0.0, 1e-4, 1.0, 20.0, 300.0, 3000.0}) {
      for (int repeat = 0; repeat < repeats; ++repeat) {
        SCOPED_TRACE(::testing::Message() << samples << " samples over " << spread << " nats");
        std::vector<std::int64_t> log_weights;
        for (std::size_t k = 0; k < samples; ++k) {
          const double share = random_word(index++) / 4294967296.0;
          log_weights.push_back(static_cast<std::int64_t>((-90 - spread * share) * 1048576));
        }
        expect_vimco(log_weights);
        // Two that share the first place, at both ends.
        const std::int64_t largest = *std::max_element(log_weights.begin(), log_weights.end());
        log_weights.front() = log_weights.back() = largest;
        expect_vimco(log_weights);
        // One far above or below all others.
        for (const double nats : {15.0, 40.0, 900.0, 2000.0}) {
          log_weights[samples / 2] = largest + static_cast<std::int64_t>(nats * 1048576);
          expect_vimco(log_weights);
          log_weights[samples / 2] = largest - static_cast<std::int64_t>(nats * 1048576);
          expect_vimco(log_weights);
        }
      }
    }
  }
}

TEST(VimcoCoefficients, OfEqualWeightsAreMinusTheirShares) {
  for (const std::size_t samples : {2u, 7u, 1024u}) {
    std::vector<float> found(samples);
    const std::vector<std::int64_t> equal(samples, -12345678);
    vimco_coefficients(equal.data(), static_cast<std::int64_t>(samples), found.data());
    for (const float c : found) EXPECT_NEAR(c, -1 / static_cast<double>(samples), 1e-7);
  }
}

TEST(LeastExponent, IsTheSmallestPowerThatHolds) {
  for (const float x : {0.0f, 0.3f, 1.0f}) EXPECT_EQ(least_exponent(x), 0);
  EXPECT_EQ(least_exponent(1.0000001f), 1);
  for (int s = 1; s <= 40; ++s) {
    EXPECT_EQ(least_exponent(std::ldexp(1.0f, s)), s);
    EXPECT_EQ(least_exponent(std::ldexp(1.0000001f, s)), s + 1);
  }
}

TEST(SumMinusProbability, HasNoCancellationAndStaysInRange) {
  for (double a = -30; a <= 30; a += 0.37) {
    const float logit = static_cast<float>(a);
    const double off = 1 / (1 + std::exp(static_cast<double>(logit)));
    for (const double total : {-0.75, 0.0, 0.25, 1.0}) {
      // None of the samples is on, or all are: the error is total * sigma(a) or total * sigma(-a).
      EXPECT_NEAR(sum_minus_probability(0, total, logit), -total * (1 - off), 4e-6 * std::fabs(total));
      EXPECT_NEAR(sum_minus_probability(total, total, logit), total * off, 4e-6 * std::fabs(total) * off)
          << "sigma of " << logit;
    }
    EXPECT_NEAR(sum_minus_probability(0.5, -0.25, logit), 0.5 + 0.25 * (1 - off), 4e-6);
  }
  EXPECT_EQ(sum_minus_probability(1.0000001, 0, 3.0f), 1.0f);
  EXPECT_EQ(sum_minus_probability(-1.0000001, 0, 3.0f), -1.0f);
}

// -------------------------------------------------------------------------------- sparsity

TEST(Sparsity, RunningMeanAndPenaltyFollowTheirFormulas) {
  for (const double memory : {0.0, 0.5, 0.9, 0.99}) {
    for (const double strength : {0.0, 0.01, 0.3, 1.0}) {
      for (const double target : {0.01, 0.1, 0.5}) {
        const Sparsity sparsity{static_cast<float>(target), static_cast<float>(strength),
                                static_cast<float>(memory)};
        double expected = target;
        float mean = sparsity.target;
        for (std::uint32_t step = 0; step < 100; ++step) {
          const std::int64_t rows = 1 + random_word(step) % 1000, on = random_word(step + 500) % (rows + 1);
          expected = memory * expected + (1 - memory) * static_cast<double>(on) / static_cast<double>(rows);
          mean = running_activation(mean, on, rows, sparsity);
          ASSERT_NEAR(mean, expected, 1e-5);
          const double term = 127.0 * static_cast<double>(rows) * strength * (target - mean);
          EXPECT_NEAR(sparsity_gradient(mean, rows, sparsity), term, 0.5 + 2e-7 * 127.0 * 1000);
        }
      }
    }
  }
}

TEST(Sparsity, PenaltiesAreRoundedToTheNearestOnBothSides) {
  const Sparsity sparsity{0.5f, 1.0f, 0.9f};
  EXPECT_EQ(sparsity_gradient(0.5f - 1.0f / 128, 1, sparsity), 1);  // 127 / 128
  EXPECT_EQ(sparsity_gradient(0.5f + 1.0f / 128, 1, sparsity), -1);
  EXPECT_EQ(sparsity_gradient(0.5f - 1.0f / 512, 1, sparsity), 0);  // 127 / 512
  EXPECT_EQ(sparsity_gradient(0.5f + 1.0f / 512, 1, sparsity), 0);
  EXPECT_EQ(sparsity_gradient(0.5f, 1000, sparsity), 0);
  const Sparsity largest{1.0f, 1.0f, 0.0f};  // with all rows of the largest batch, still an int32
  EXPECT_EQ(sparsity_gradient(0.0f, max_batch_rows, largest), 127 * max_batch_rows);
}

// -------------------------------------------------------------------------------- updates

TEST(UpdatedParameter, FollowsItsOptimiser) {
  Rates rates;
  rates.rate = 0.1f;
  rates.decay = 0.01f;
  rates.mean = 1.0f / (127 * 4);
  const double gradient = 254.0 / (127 * 4);
  float first = 0.25f, second = 0.0625f;
  Optimizer optimizer;
  optimizer.kind = OptimizerKind::sgd;
  EXPECT_NEAR(updated_parameter(2.0f, 254, false, optimizer, rates, first, second), 2.0 + 0.1 * gradient,
              1e-6);
  EXPECT_NEAR(updated_parameter(2.0f, 254, true, optimizer, rates, first, second),
              2.0 * 0.99 + 0.1 * gradient, 1e-6);
  EXPECT_EQ(first, 0.25f);
  optimizer.kind = OptimizerKind::momentum;
  EXPECT_NEAR(updated_parameter(2.0f, 254, false, optimizer, rates, first, second),
              2.0 + 0.1 * (0.9 * 0.25 + gradient), 1e-6);
  EXPECT_NEAR(first, 0.9 * 0.25 + gradient, 1e-6);
  optimizer.kind = OptimizerKind::adam;
  first = 0.25f;
  rates.second_correction = 1 / (1 - 0.999f * 0.999f);
  const double m = 0.9 * 0.25 + 0.1 * gradient;
  const double v = 0.999 * 0.0625 + 0.001 * gradient * gradient;
  const double corrected = v / (1 - 0.999 * 0.999);
  EXPECT_NEAR(updated_parameter(2.0f, 254, false, optimizer, rates, first, second),
              2.0 + 0.1 * m / (std::sqrt(corrected) + 1e-8), 1e-5);
  EXPECT_NEAR(first, m, 1e-6);
  EXPECT_NEAR(second, v, 1e-6);
}

TEST(UpdatedParameter, ForgetsVanishingState) {
  Optimizer optimizer;
  optimizer.kind = OptimizerKind::momentum;
  float first = 8e-31f, second = 0;
  updated_parameter(0.0f, 0, false, optimizer, {}, first, second);
  EXPECT_EQ(first, 0.0f);
}

TEST(SymmetricUniform, IsSymmetricAndOpen) {
  EXPECT_EQ(symmetric_uniform(0), -symmetric_uniform(0xFFFFFFFFu));
  EXPECT_LT(symmetric_uniform(0xFFFFFFFFu), 1.0f);
  EXPECT_NE(symmetric_uniform(0x80000000u), 0.0f);
}

TEST(Limits, LeaveNoRoomForOverflow) {
  for (const int bits : {16, 12, 8}) {
    const std::int64_t units = max_integer_sum / largest_integer_weight(bits);
    EXPECT_LE(units * largest_integer_weight(bits), std::int64_t{2147483647});
    EXPECT_LE(256 * (units * 128),
              std::int64_t{1} << 40);  // a limb's own sum is 256 times smaller than the limit
  }
  EXPECT_LE(max_batch_rows * 127, std::int64_t{2147483647});
  EXPECT_LE(max_machine_units * (std::int64_t{1} << 30), std::int64_t{1} << 52);
}

}  // namespace
}  // namespace wakesleep
