// The delta rule's error, weight * (state - sigma(a)), stochastically rounded to a multiple of 1/127.
#include "kernels/cpu/instructions.hpp"
#include "kernels/cpu/logits.hpp"
#include "kernels/cpu/random_words.hpp"

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

namespace {

/// The logits of a stretch and the random halves of its units; up to the next whole vector, logits are 0.
struct Stretch {
  alignas(64) float logits[stretch_units];
  alignas(64) std::uint32_t halves[words_at_a_time];

  void read(const LogitRow& row, const RowAddress& address, std::int64_t first, std::int64_t count) {
    WordBuffer random;
    random_words(address, first / 8, whole_vectors(count) / 8, random);
    compute_logits(row, first, count, logits);
    for (std::int64_t i = count; i < whole_vectors(count); ++i) logits[i] = 0.0f;
    // Two units share a word, the even one its low half.
    for (std::int64_t pair = 0; pair < whole_vectors(count) / 2; ++pair) {
      halves[2 * pair] = random.words[pair] & 0xFFFFu;
      halves[2 * pair + 1] = random.words[pair] >> 16;
    }
  }
};

/// sums[i] = sum_k c_k s_k[first + i], in the order of k; returns sum_k c_k.
double sum_coefficients(const SharedTargets& targets, std::int64_t first, std::int64_t count, double* sums) {
  double total = 0.0;
  for (std::int64_t i = 0; i < count; ++i) sums[i] = 0.0;
  for (std::int64_t k = 0; k < targets.samples; ++k) {
    const std::uint8_t* states = targets.states + k * targets.stride + first;
    const double coefficient = targets.coefficient[k];
    total += coefficient;
    for (std::int64_t i = 0; i < count; ++i) sums[i] += states[i] != 0 ? coefficient : 0.0;
  }
  return total;
}

/// sums[i] = sum_k e_k s_k[first + i] and, for a baseline, counts[i] = sum_k s_k[first + i].
void sum_states(const SharedTargets& targets, std::int64_t first, std::int64_t count, std::int64_t* sums,
                std::int32_t* counts) {
  for (std::int64_t i = 0; i < count; ++i) sums[i] = counts[i] = 0;
  for (std::int64_t k = 0; k < targets.samples; ++k) {
    const std::uint8_t* states = targets.states + k * targets.stride + first;
    const std::int64_t weight = targets.relative[k];
    for (std::int64_t i = 0; i < count; ++i) {
      sums[i] += states[i] != 0 ? weight : 0;
      counts[i] += states[i];
    }
  }
}

}  // namespace

void delta(const LogitRow& row, const std::uint8_t* target, float weight, std::int64_t units,
           const RowAddress& address, std::int8_t* deltas) {
  Stretch stretch;
  alignas(64) std::uint32_t states[stretch_units];
  alignas(64) std::int32_t rounded[stretch_units];
  for (std::int64_t first = 0; first < units; first += stretch_units) {
    const std::int64_t count = units - first < stretch_units ? units - first : stretch_units;
    stretch.read(row, address, first, count);
    for (std::int64_t i = 0; i < count; ++i) states[i] = target[first + i];
    for (std::int64_t i = count; i < whole_vectors(count); ++i) states[i] = 0;
    for (std::int64_t i = 0; i < whole_vectors(count); ++i) {
      rounded[i] =
          round_delta(weight * state_minus_probability(states[i], stretch.logits[i]), stretch.halves[i]);
    }
    for (std::int64_t i = 0; i < count; ++i) deltas[first + i] = static_cast<std::int8_t>(rounded[i]);
  }
}

void shared_coefficient_delta(const LogitRow& row, const SharedTargets& targets, std::int64_t units,
                              const RowAddress& address, std::int8_t* deltas) {
  Stretch stretch;
  alignas(64) double sums[stretch_units];
  for (std::int64_t first = 0; first < units; first += stretch_units) {
    const std::int64_t count = units - first < stretch_units ? units - first : stretch_units;
    stretch.read(row, address, first, count);
    const double total = sum_coefficients(targets, first, count, sums);
    for (std::int64_t i = 0; i < count; ++i) {
      const float error = sum_minus_probability(sums[i], total, stretch.logits[i]);
      deltas[first + i] = static_cast<std::int8_t>(round_delta(targets.scale * error, stretch.halves[i]));
    }
  }
}

void shared_delta(const LogitRow& row, const SharedTargets& targets, std::int64_t units,
                  const RowAddress& address, std::int8_t* deltas) {
  Stretch stretch;
  alignas(64) std::int64_t sums[stretch_units];
  alignas(64) std::int32_t counts[stretch_units];
  const double total = static_cast<double>(targets.total);
  const double samples = static_cast<double>(targets.samples);
  for (std::int64_t first = 0; first < units; first += stretch_units) {
    const std::int64_t count = units - first < stretch_units ? units - first : stretch_units;
    stretch.read(row, address, first, count);
    sum_states(targets, first, count, sums, counts);
    for (std::int64_t i = 0; i < count; ++i) {
      const double mean = static_cast<double>(sums[i]) / total;
      const float error = targets.centred
                              ? static_cast<float>(mean - static_cast<double>(counts[i]) / samples)
                              : mean_minus_probability(mean, stretch.logits[i]);
      deltas[first + i] = static_cast<std::int8_t>(round_delta(targets.scale * error, stretch.halves[i]));
    }
  }
}

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
