// The arithmetic contract: how real numbers become integers and back. Every formula stands here once; the CPU
// and CUDA kernels only loop over it. Derivations and bounds: docs/numerics.md.
#pragma once

#include <cstdint>

#include "wakesleep/math.hpp"
#include "wakesleep/portable.hpp"

namespace wakesleep {

/// Name and version of everything in this file, kept in every model: two programs that print the same name
/// give the same bits.
inline constexpr const char* arithmetic_contract = "wakesleep-exact-1";

// -------------------------------------------------------------------------------- limits

/// Sums of states times weights stay below 2^31 while units * largest state * largest_integer_weight(bits)
/// does. (Of 0/1 states 65,795 units for 16-bit weights, 1,049,088 for 12, 16,909,320 for 8; of fixed-point
/// states 518, 8,260 and 133,144.)
inline constexpr std::int64_t max_integer_sum = 2147483647;
/// Rows of a batch: 2^24 * 127 < 2^31 keeps gradient sums inside int32; 8,388,608 leaves room for an offset
/// of 128.
inline constexpr std::int64_t max_batch_rows = 8388608;
/// Rows of a gradient with fixed-point states: 133,144 * 127 * 127 < 2^31.
inline constexpr std::int64_t max_fixed_point_rows = 133144;
/// All units of a machine together, so that a row's log-probability (at most 2^30 a unit) stays inside int64.
inline constexpr std::int64_t max_machine_units = 4194304;
/// Layers of a machine: the layer's share of a random address.
inline constexpr std::int64_t max_layers = 16777215;

// -------------------------------------------------------------------------------- fixed-point states

/// A value x in [0, 1] is the state u = 0 .. 127, x = u / 127: with signed 8-bit weights, products of two
/// neighbours stay below 2^15.
inline constexpr std::int32_t largest_fixed_point_state = 127;

/// The value of a state that counts in units of 1 / largest_state; of 0/1 states (largest_state 1), itself.
WAKESLEEP_HOST_DEVICE float value_of_state(std::uint32_t state, std::int32_t largest_state) {
  return static_cast<float>(static_cast<std::int32_t>(state)) / static_cast<float>(largest_state);
}

/// The state of a grey value g: 127 g / 255 to the nearest integer.
WAKESLEEP_HOST_DEVICE std::uint8_t fixed_point_of_grey(std::uint32_t grey) {
  return static_cast<std::uint8_t>((grey * 127u + 127u) / 255u);
}

// -------------------------------------------------------------------------------- weights

/// Q: the largest |q| for `weight_bits` 16, 12 or 8. 32639 = 127 * 256 + 127 is what two signed 8-bit limbs
/// hold.
WAKESLEEP_HOST_DEVICE std::int32_t largest_integer_weight(int weight_bits) {
  return weight_bits == 16 ? 32639 : (weight_bits == 12 ? 2047 : 127);
}

inline constexpr std::int32_t largest_shift = 30;
inline constexpr std::int32_t shift_overflow = -31;  ///< what weight_shift returns when no shift fits

/// s: the largest integer in [-30, 30] with rint(largest * 2^s) <= Q, where `largest` is max |w| over a
/// receiving unit's weights; 30 for a row of zeros; shift_overflow when -30 is still too large or `largest`
/// is not finite.
WAKESLEEP_HOST_DEVICE std::int32_t weight_shift(float largest, int weight_bits) {
  if (!(largest <= 3.402823466e38f)) return shift_overflow;
  // largest = f * 2^e with f in [1/2, 1), so f * 2^(bits - 1) is the candidate that just fits the magnitude
  // bits.
  const std::int32_t e = static_cast<std::int32_t>(float_bits(largest) >> 23) - 126;
  std::int32_t shift = (weight_bits - 1) - e;
  if (shift > largest_shift) return largest_shift;
  if (shift < -largest_shift - 1) return shift_overflow;
  if (integer_to_even(largest * power_of_two(shift)) > largest_integer_weight(weight_bits)) --shift;
  return shift < -largest_shift ? shift_overflow : shift;
}

/// q = rint(w * 2^s), ties to even.
WAKESLEEP_HOST_DEVICE std::int32_t integer_weight(float weight, float two_to_shift) {
  return integer_to_even(weight * two_to_shift);
}

/// q = 256 * high + low, both signed 8-bit.
WAKESLEEP_HOST_DEVICE std::int32_t low_limb(std::int32_t q) { return ((q + 128) & 255) - 128; }
WAKESLEEP_HOST_DEVICE std::int32_t high_limb(std::int32_t q) { return (q + 128) >> 8; }
/// The sum of the limbs' sums. It fits 32 bits, though 256 * high may not: hence modulo 2^32.
WAKESLEEP_HOST_DEVICE std::int32_t join_limbs(std::int32_t high, std::int32_t low) {
  return static_cast<std::int32_t>(256u * static_cast<std::uint32_t>(high) + static_cast<std::uint32_t>(low));
}

/// What a sum counts in, 2^-s of the receiving unit's weights times 1 / largest_state of its inputs.
WAKESLEEP_HOST_DEVICE float scale_of_sum(std::int32_t shift, std::int32_t largest_state) {
  return power_of_two(-shift) / static_cast<float>(largest_state);
}

/// a = sum * scale + b, the only place where a sum becomes a float.
WAKESLEEP_HOST_DEVICE float pre_activation(std::int32_t sum, float scale, float bias) {
  return fma(static_cast<float>(sum), scale, bias);
}

// -------------------------------------------------------------------------------- sampling

/// A unit is on when its 32-bit random word is below this: floor(sigma(-|a|) * 2^32) for a <= 0, its
/// complement to 2^32 (capped at 2^32 - 1) for a > 0, so that both tails are as fine.
WAKESLEEP_HOST_DEVICE std::uint32_t on_threshold(float a, float minor) {
  const std::uint32_t t = static_cast<std::uint32_t>(minor * 4294967296.0f);
  const std::uint32_t complement = 0u - (t > 1u ? t : 1u);
  return a <= 0.0f ? t : complement;
}

/// s ~ Bernoulli(sigma(a)), with minor = minor_probability_for_drawing(a).
WAKESLEEP_HOST_DEVICE std::uint8_t sample_state(float a, float minor, std::uint32_t random_word) {
  return random_word < on_threshold(a, minor) ? 1 : 0;
}
WAKESLEEP_HOST_DEVICE std::uint8_t sample_state(float a, std::uint32_t random_word) {
  return sample_state(a, minor_probability_for_drawing(a), random_word);
}

/// Binarization of a grey value g / 255: on when r / 2^32 < g / 255, in integers; 255 is always on.
WAKESLEEP_HOST_DEVICE std::uint8_t sample_grey(std::uint32_t grey, std::uint32_t random_word) {
  return static_cast<std::uint64_t>(random_word) * 255u < static_cast<std::uint64_t>(grey) << 32 ? 1 : 0;
}

/// The standard normal deviate at which the distribution function is (r + 1/2) / 2^32: the inverse by Giles'
/// single precision polynomials ("Approximating the erfinv function", 2010), sqrt(2) erfinv(x), where
/// x = 1 - 2p and p is the probability of the tail that the word lies in. They are made for p above 2^-25;
/// errors: docs/numerics.md.
WAKESLEEP_HOST_DEVICE float standard_normal(std::uint32_t random_word) {
  const bool upper = (random_word >> 31) != 0u;
  const std::uint32_t tail = upper ? ~random_word : random_word;  // p = (tail + 1/2) / 2^32, below 1/2
  const float p = (static_cast<float>(static_cast<std::int32_t>(tail)) + 0.5f) * 2.3283064365386963e-10f;
  // Made of the integer, so that it is good to the last place in the middle, too.
  const float x =
      static_cast<float>(static_cast<std::int32_t>(0x7FFFFFFFu - tail)) * 4.6566128730773926e-10f +
      2.3283064365386963e-10f;
  const float w = -log((4.0f * p) * (1.0f - p));
  const bool central = w < 5.0f;
  const float t = central ? w - 2.5f : square_root(w) - 3.0f;
  float y = central ? 2.81022636e-8f : -2.00214257e-4f;
  y = fma(y, t, central ? 3.43273939e-7f : 1.00950558e-4f);
  y = fma(y, t, central ? -3.5233877e-6f : 1.34934322e-3f);
  y = fma(y, t, central ? -4.39150654e-6f : -3.67342844e-3f);
  y = fma(y, t, central ? 2.1858087e-4f : 5.73950773e-3f);
  y = fma(y, t, central ? -1.25372503e-3f : -7.6224613e-3f);
  y = fma(y, t, central ? -4.17768164e-3f : 9.43887047e-3f);
  y = fma(y, t, central ? 2.46640727e-1f : 1.00167406f);
  y = fma(y, t, central ? 1.50140941f : 2.83297682f);
  const float magnitude = (1.41421356f * x) * y;
  return upper ? magnitude : -magnitude;
}

/// u ~ Normal(mean, deviation^2) as a state: x to the nearest multiple of 1/127 in [0, 1].
WAKESLEEP_HOST_DEVICE std::uint8_t sample_gaussian(float mean, float deviation, std::uint32_t random_word) {
  const float scaled = 127.0f * fma(deviation, standard_normal(random_word), mean);
  const float positive = scaled > 0.0f ? scaled : 0.0f;  // of NaN 0
  return static_cast<std::uint8_t>(integer_to_even(positive < 127.0f ? positive : 127.0f));
}

/// The mean of a Gaussian unit as a value that it can have, in [0, 1].
WAKESLEEP_HOST_DEVICE float mean_in_range(float mean) {
  const float positive = mean > 0.0f ? mean : 0.0f;
  return positive < 1.0f ? positive : 1.0f;
}

// -------------------------------------------------------------------------------- deltas

/// state - sigma(a), without cancellation in either tail, with minor = minor_probability_for_drawing(a).
WAKESLEEP_HOST_DEVICE float state_minus_probability(std::uint32_t state, float a, float minor) {
  const float magnitude = ((state != 0u) == (a > 0.0f)) ? minor : 1.0f - minor;
  return state != 0u ? magnitude : -magnitude;
}
WAKESLEEP_HOST_DEVICE float state_minus_probability(std::uint32_t state, float a) {
  return state_minus_probability(state, a, minor_probability_for_drawing(a));
}

/// x - mean of a Gaussian unit, within [-1, 1]: what is rounded must be, and a mean farther off than that is
/// drawn back no faster.
WAKESLEEP_HOST_DEVICE float value_minus_mean(std::uint32_t state, float mean) {
  const float error = value_of_state(state, largest_fixed_point_state) - mean;
  const float above = error > -1.0f ? error : -1.0f;  // of NaN -1
  return above < 1.0f ? above : 1.0f;
}

/// The weight e_k / E of a sample, less `baseline`; in double, where both integers and 1 / K are good to the
/// last place of the float that they end as.
WAKESLEEP_HOST_DEVICE float sample_weight(std::int32_t relative, std::int64_t total, double baseline) {
  return static_cast<float>(static_cast<double>(relative) / static_cast<double>(total) - baseline);
}

/// sum_k c_k (s_k - sigma(a)) of sum = sum_k c_k s_k and total = sum_k c_k, at most 1 in magnitude, with
/// minor = minor_probability_for_drawing(a).
WAKESLEEP_HOST_DEVICE float sum_minus_probability(double sum, double total, float a, double minor) {
  const double error = a > 0.0f ? (sum - total) + total * minor : sum - total * minor;
  return static_cast<float>(error > 1.0 ? 1.0 : (error < -1.0 ? -1.0 : error));
}
WAKESLEEP_HOST_DEVICE float sum_minus_probability(double sum, double total, float a) {
  return sum_minus_probability(sum, total, a, minor_probability_for_drawing(a));
}

/// m - sigma(a) for a mean state m in [0, 1], without cancellation in either tail, with minor likewise.
WAKESLEEP_HOST_DEVICE float mean_minus_probability(double mean, float a, double minor) {
  return static_cast<float>(a > 0.0f ? (mean - 1.0) + minor : mean - minor);
}
WAKESLEEP_HOST_DEVICE float mean_minus_probability(double mean, float a) {
  return mean_minus_probability(mean, a, minor_probability_for_drawing(a));
}

/// Stochastic rounding of a delta in [-1, 1] to a multiple of 1/127: floor(127 delta + u), u = r / 65536 with
/// r 16 random bits, where 127 delta is first rounded once to a multiple of 1/65536 (ties to even).
/// Symmetric; the mean is off by at most 2^-17 of a quantum, and zero stays zero.
WAKESLEEP_HOST_DEVICE std::int32_t round_delta(float delta, std::uint32_t random_16_bits) {
  // |delta| * 127 * 65536 + 2^23 stays in [2^23, 2^24), where a float's last place is 1: one rounding, no
  // fraction.
  const std::uint32_t sum = float_bits(fma(absolute(delta), 8323072.0f, 8388608.0f));
  const std::int32_t magnitude = static_cast<std::int32_t>(sum) - 0x4B000000;
  const std::int32_t fixed = delta < 0.0f ? -magnitude : magnitude;
  return (fixed + static_cast<std::int32_t>(random_16_bits)) >> 16;
}

/// Whether every delta of at most this magnitude becomes zero, whatever the random bits.
WAKESLEEP_HOST_DEVICE bool rounds_to_zero(float magnitude) { return round_delta(magnitude, 65535u) == 0; }

// -------------------------------------------------------------------------------- log-probability

/// Log-probabilities are integers in units of 2^-20 nats.
inline constexpr int log_fraction_bits = 20;
inline constexpr double nats_per_log_unit = 1.0 / 1048576.0;

/// log p(state), rounded to 2^-20 nats, and never below -1024 nats a unit: -likelier_nats for the likelier
/// state, with likelier_nats = log1p_unit(minor_odds(a)) = log(1 + e^-|a|), and |a| less for the other.
WAKESLEEP_HOST_DEVICE std::int32_t log_bernoulli(std::uint32_t state, float a, float likelier_nats) {
  const float nats = (((state != 0u) == (a > 0.0f)) ? 0.0f : absolute(a)) + likelier_nats;
  return -static_cast<std::int32_t>(round_nonnegative(at_most(nats, 1024.0f) * 1048576.0f));
}
WAKESLEEP_HOST_DEVICE std::int32_t log_bernoulli(std::uint32_t state, float a) {
  return log_bernoulli(state, a, log1p_unit(minor_odds(a)));
}

/// What log-densities of Normal(., deviation^2) share.
struct GaussianDensity {
  float half_precision = 0;  ///< 1 / (2 deviation^2)
  float log_of_largest = 0;  ///< -log deviation - log(2 pi) / 2
};
WAKESLEEP_HOST_DEVICE GaussianDensity gaussian_density(float deviation) {
  return {0.5f / (deviation * deviation), -log(deviation) - 0.918938533f};
}

/// log p(x), a density in units of x, rounded to 2^-20 nats, and never below -1024 nats a unit, which the
/// least deviation, 1/32, reaches 1.4 beyond the mean. At most 2.55 nats, for that deviation.
WAKESLEEP_HOST_DEVICE std::int32_t log_gaussian(std::uint32_t state, float mean,
                                                const GaussianDensity& density) {
  const float error = value_of_state(state, largest_fixed_point_state) - mean;
  const float nats = fma(-(error * error), density.half_precision, density.log_of_largest);
  const float scaled = (nats > -1024.0f ? nats : -1024.0f) * 1048576.0f;  // of NaN -1024
  const std::int32_t rounded = static_cast<std::int32_t>(round_nonnegative(absolute(scaled)));
  return scaled < 0.0f ? -rounded : rounded;
}

/// What the importance weight of the largest sample of an image is: 2^30.
inline constexpr float relative_weight_one = 1073741824.0f;

/// e_k = rint(2^30 exp(lw_k - m)): the importance weight of a sample against the largest of its image. Log
/// weights are in units of 2^-fraction_bits nats (20 or 21).
WAKESLEEP_HOST_DEVICE std::int64_t relative_weight(std::int64_t log_weight, std::int64_t maximum,
                                                   int fraction_bits = log_fraction_bits) {
  const std::int64_t difference = log_weight - maximum;             // <= 0
  if (difference < -(std::int64_t{32} << fraction_bits)) return 0;  // below 2^-46 of the largest
  // The difference has at most 26 significant bits here, which are rounded once; the power of two changes
  // none.
  const float nats = static_cast<float>(static_cast<std::int32_t>(difference)) * power_of_two(-fraction_bits);
  const float scaled = exp_nonpositive(nats) * relative_weight_one;
  return static_cast<std::int64_t>(round_nonnegative(scaled));
}

/// Whether a Metropolis chain at a state of log weight `current` goes to the proposed one: always where that
/// is no smaller, else when r / 2^32 < exp(proposed - current).
WAKESLEEP_HOST_DEVICE bool accepts(std::int64_t proposed, std::int64_t current, std::uint32_t random_word) {
  const std::int64_t difference = proposed - current;
  if (difference >= 0) return true;
  if (difference < -(std::int64_t{32} << log_fraction_bits)) return false;  // below 2^-46
  const float nats = static_cast<float>(static_cast<std::int32_t>(difference)) * (1.0f / 1048576.0f);
  // The largest difference below zero, 2^-20, gives 1 - 2^-20, well below what a float rounds to 1.
  return random_word < static_cast<std::uint32_t>(exp_nonpositive(nats) * 4294967296.0f);
}

/// What a penalty on the activation of hidden units keeps to (sparse wake-sleep, docs/math.md).
struct Sparsity {
  float target = 0.1f;    ///< rho
  float strength = 0.0f;  ///< lambda
  float memory = 0.9f;    ///< beta of the running mean
};

/// m <- beta m + (1 - beta) q, q the share of a batch's rows in which the unit is on.
WAKESLEEP_HOST_DEVICE float running_activation(float mean, std::int64_t on, std::int64_t rows,
                                               const Sparsity& sparsity) {
  const float share = static_cast<float>(on) / static_cast<float>(rows);
  return fma(sparsity.memory, mean, (1.0f - sparsity.memory) * share);
}

/// lambda (rho - m), a term of the mean bias gradient, in the units of the integer gradient of `rows` rows.
WAKESLEEP_HOST_DEVICE std::int32_t sparsity_gradient(float mean, std::int64_t rows,
                                                     const Sparsity& sparsity) {
  const float term = sparsity.strength * (sparsity.target - mean);
  const double scaled = 127.0 * static_cast<double>(rows) * static_cast<double>(term);
  return static_cast<std::int32_t>(scaled < 0.0 ? scaled - 0.5 : scaled + 0.5);
}

/// Samples of VIMCO: their log weights are added up in 64 bits.
inline constexpr std::int64_t max_vimco_samples = 1024;

/// VIMCO's coefficients of grad log q(h^k | x) (Mnih & Rezende, ICML 2016), for K log weights, K from 2 on:
///   c_k = L - L_k - w_k,
///   L   = log 1/K sum_j w_j,
///   L_k = log 1/K (sum_{j != k} w_j + exp(mean_{j != k} log w_j)),
/// w_k in the last term of c_k self-normalised. No c_k leaves [-1025, 1024]. Returns sum_k |c_k|.
WAKESLEEP_HOST_DEVICE float vimco_coefficients(const std::int64_t* log_weights, std::int64_t samples,
                                               float* coefficients) {
  std::int64_t largest = 0;  // the place of the first maximum
  std::int64_t sum_of_logs = 0;
  for (std::int64_t k = 0; k < samples; ++k) {
    sum_of_logs += log_weights[k];
    if (log_weights[k] > log_weights[largest]) largest = k;
  }
  const std::int64_t maximum = log_weights[largest];
  std::int64_t second = log_weights[largest == 0 ? 1 : 0];
  std::int64_t total = 0;
  for (std::int64_t k = 0; k < samples; ++k) {
    total += relative_weight(log_weights[k], maximum);
    if (k != largest && log_weights[k] > second) second = log_weights[k];
  }
  // Against the second, without the largest, which it could not be seen beside.
  std::int64_t total_of_others = 0;
  for (std::int64_t k = 0; k < samples; ++k) {
    if (k != largest) total_of_others += relative_weight(log_weights[k], second);
  }
  float sum_of_magnitudes = 0.0f;
  for (std::int64_t k = 0; k < samples; ++k) {
    const std::int64_t mean_of_others = (sum_of_logs - log_weights[k]) / (samples - 1);
    const std::int64_t own = relative_weight(log_weights[k], maximum);
    const bool is_largest = k == largest;
    const std::int64_t base = is_largest ? second : maximum;
    const std::int64_t stand_in = relative_weight(mean_of_others < base ? mean_of_others : base, base);
    const std::int64_t without = (is_largest ? total_of_others : total - own) + stand_in;
    const double ratio = static_cast<double>(total) / static_cast<double>(without);
    const float gap = static_cast<float>(maximum - base) * (1.0f / 1048576.0f);
    const float gain = gap + log(static_cast<float>(ratio));
    const float weight = static_cast<float>(static_cast<double>(own) / static_cast<double>(total));
    coefficients[k] = (gain < 1024.0f ? gain : 1024.0f) - weight;
    sum_of_magnitudes += absolute(coefficients[k]);
  }
  return sum_of_magnitudes;
}

/// The least s >= 0 with x <= 2^s, for 0 <= x <= 2^100.
WAKESLEEP_HOST_DEVICE std::int32_t least_exponent(float x) {
  std::int32_t exponent = 0;
  while (x > power_of_two(exponent)) ++exponent;
  return exponent;
}

// -------------------------------------------------------------------------------- updates

enum class OptimizerKind : std::uint32_t { sgd, momentum, adam };

/// What an optimiser keeps for the whole run.
struct Optimizer {
  OptimizerKind kind = OptimizerKind::sgd;
  float momentum = 0.9f;  ///< mu of momentum
  float beta1 = 0.9f;     ///< Adam
  float beta2 = 0.999f;   ///< Adam
  float epsilon = 1e-8f;  ///< Adam
};

/// What changes from step to step, computed on the host in double and read as float32. Rates multiply the
/// MEAN gradient over the batch.
struct Rates {
  float rate = 0;               ///< learning rate; for Adam divided by 1 - beta1^t
  float decay = 0;              ///< learning rate * weight decay
  float mean = 0;               ///< 1 / (127 * rows of the batch): integer gradient -> mean gradient
  float second_correction = 1;  ///< Adam: 1 / (1 - beta2^t)
};

/// The mean over a batch, from its sum in units of 1/127.
WAKESLEEP_HOST_DEVICE float mean_gradient(std::int32_t integer_gradient, const Rates& rates) {
  return static_cast<float>(integer_gradient) * rates.mean;
}

/// What the mean gradients of a conditional's weights and biases count in, beside 1 / (127 rows): 1 for
/// Bernoulli units that receive 0/1 states.
struct GradientUnits {
  float weight = 1;
  float bias = 1;
};

/// Of a conditional whose sending states count in units of 1 / largest_input, and whose receiving units are
/// Gaussian where deviation > 0: their error counts in units of 1 / deviation^2.
WAKESLEEP_HOST_DEVICE GradientUnits gradient_units(std::int32_t largest_input, float deviation) {
  GradientUnits units;
  if (deviation > 0.0f) units.bias = 1.0f / (deviation * deviation);
  units.weight = units.bias / static_cast<float>(largest_input);
  return units;
}

/// Rates for integer gradients that count in `unit` / (127 rows).
WAKESLEEP_HOST_DEVICE Rates rates_in_units(Rates rates, float unit) {
  rates.mean *= unit;
  return rates;
}

/// The factor that keeps every component of a mean gradient within `limit`: 1, or limit over the largest
/// magnitude among them, of integer gradients whose largest magnitudes are given.
WAKESLEEP_HOST_DEVICE float clip_factor(std::int32_t largest_weight, std::int32_t largest_bias,
                                        const GradientUnits& units, float mean, float limit) {
  const float weight = static_cast<float>(largest_weight) * (mean * units.weight);
  const float bias = static_cast<float>(largest_bias) * (mean * units.bias);
  const float magnitude = weight > bias ? weight : bias;
  return magnitude > limit ? limit / magnitude : 1.0f;
}

/// What of (F_i + damping)^-1 natural gradients keep (NaturalGradient in natural_gradient.hpp).
enum class FisherForm : std::uint32_t { diagonal, woodbury, dense };

/// Order of the largest system that is solved for a receiving unit, of which one is kept for each.
inline constexpr std::int64_t max_fisher_order = 512;

/// Optimiser state below 2^-100 becomes zero, so that it never fades through subnormal numbers.
WAKESLEEP_HOST_DEVICE float flush_small(float x) { return absolute(x) < 7.8886090522101181e-31f ? 0.0f : x; }

/// One parameter's ascent along a mean gradient. `first` and `second` are the optimiser's state (unused ones
/// are left alone). Decay is decoupled: w <- (1 - rate * D) w + rate * direction.
///   sgd:      direction = g
///   momentum: v <- mu v + g,  direction = v
///   adam:     m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2,  direction = m^ / (sqrt(v^) + epsilon)
WAKESLEEP_HOST_DEVICE float updated_parameter(float parameter, float gradient, bool decayed,
                                              const Optimizer& optimizer, const Rates& rates, float& first,
                                              float& second) {
  const float kept = decayed ? fma(-rates.decay, parameter, parameter) : parameter;
  switch (optimizer.kind) {
    case OptimizerKind::sgd:
      return fma(rates.rate, gradient, kept);
    case OptimizerKind::momentum:
      first = flush_small(fma(optimizer.momentum, first, gradient));
      return fma(rates.rate, first, kept);
    case OptimizerKind::adam:
      break;
  }
  first = flush_small(fma(optimizer.beta1, first, (1.0f - optimizer.beta1) * gradient));
  second = flush_small(fma(optimizer.beta2, second, ((1.0f - optimizer.beta2) * gradient) * gradient));
  const float direction = first / (square_root(second * rates.second_correction) + optimizer.epsilon);
  return fma(rates.rate, direction, kept);
}

/// The same along an integer gradient.
WAKESLEEP_HOST_DEVICE float updated_parameter(float parameter, std::int32_t integer_gradient, bool decayed,
                                              const Optimizer& optimizer, const Rates& rates, float& first,
                                              float& second) {
  return updated_parameter(parameter, mean_gradient(integer_gradient, rates), decayed, optimizer, rates,
                           first, second);
}

WAKESLEEP_HOST_DEVICE bool is_finite(float x) { return (float_bits(x) & 0x7F800000u) != 0x7F800000u; }

// -------------------------------------------------------------------------------- initial values

/// Uniform in (-1, 1): odd multiples of 2^-24, symmetric about zero.
WAKESLEEP_HOST_DEVICE float symmetric_uniform(std::uint32_t random_word) {
  const std::int32_t odd = 2 * static_cast<std::int32_t>(random_word >> 8) + 1 - 16777216;
  return static_cast<float>(odd) * (1.0f / 16777216.0f);
}

}  // namespace wakesleep
