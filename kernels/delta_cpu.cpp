// The delta rule's error, weight * (state - sigma(a)) or weight * (value - mean), stochastically rounded to a
// multiple of 1/127.
#include <bit>
#include <cstring>

#include "kernels/cpu/distributions.hpp"
#include "kernels/cpu/instructions.hpp"
#include "kernels/cpu/random_words.hpp"

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

namespace {

/// The random halves of a stretch's units.
class Halves {
 public:
  void draw(const RowAddress& address, std::int64_t first, std::int64_t vectors) {
    random_words(address, first / 8, vectors / 8, random_);
  }
  std::uint32_t of_unit(std::int64_t i) const {
    // Two units share a word, the even one its low half, which is how the machine stores it.
    static_assert(std::endian::native == std::endian::little);
    using Half [[gnu::may_alias]] = std::uint16_t;
    return reinterpret_cast<const Half*>(random_.words)[i];
  }

 private:
  WordBuffer random_;
};

/// rounded[i] = round_delta(weight errors[i]) of the units from `first` on, whole vectors.
void round_vectors(const float* errors, float weight, std::int64_t first, std::int64_t end,
                   const Halves& halves, std::int32_t* rounded) {
  for (std::int64_t i = first; i < end; ++i) {
    rounded[i] = round_delta(weight * errors[i - first], halves.of_unit(i));
  }
}

/// deltas[i] = round_delta(weight errors[i]), where errors are whole vectors.
void round_stretch(const float* errors, float weight, std::int64_t count, const Halves& halves,
                   std::int8_t* deltas) {
  alignas(64) std::int32_t rounded[stretch_units];
  round_vectors(errors, weight, 0, whole_vectors(count), halves, rounded);
  narrow(rounded, count, deltas);
}

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

/// sums[i] = sum_k e_k s_k[first + i], integers that a double holds, and counts[i] = sum_k s_k[first + i].
void sum_states(const SharedTargets& targets, std::int64_t first, std::int64_t count, double* sums,
                std::int32_t* counts) {
  for (std::int64_t i = 0; i < count; ++i) {
    sums[i] = 0.0;
    counts[i] = 0;
  }
  for (std::int64_t k = 0; k < targets.samples; ++k) {
    const std::uint8_t* states = targets.states + k * targets.stride + first;
    const double weight = targets.relative[k];
    for (std::int64_t i = 0; i < count; ++i) sums[i] += weight * states[i];
    for (std::int64_t i = 0; i < count; ++i) counts[i] += states[i];
  }
}

}  // namespace

void delta(const LogitRow& row, const std::uint8_t* target, float weight, std::int64_t units,
           const RowAddress& address, std::int8_t* deltas) {
  with_distribution(row, [&](auto& distribution) {
    Halves halves;
    alignas(64) std::uint32_t states[stretch_units];
    alignas(64) float errors[stretch_units];
    for (std::int64_t first = 0; first < units; first += stretch_units) {
      distribution.read(row, first, units, false);
      halves.draw(address, first, distribution.vectors);
      widen(target + first, distribution.count, states);
      for (std::int64_t i = 0; i < distribution.vectors; ++i) errors[i] = distribution.error(i, states[i]);
      round_stretch(errors, weight, distribution.count, halves, deltas + first);
    }
  });
}

void round_errors(const float* errors, float weight, std::int64_t units, const RowAddress& address,
                  std::int8_t* deltas) {
  if (rounds_to_zero(absolute(weight))) {  // as of a sample that explains its image far worse than another
    std::memset(deltas, 0, static_cast<std::size_t>(units));
    return;
  }
  Halves halves;
  alignas(64) std::int32_t rounded[stretch_units];
  alignas(64) float rest[vector_units];
  for (std::int64_t first = 0; first < units; first += stretch_units) {
    const std::int64_t count = units - first < stretch_units ? units - first : stretch_units;
    const std::int64_t full = full_vectors(count);
    halves.draw(address, first, whole_vectors(count));
    round_vectors(errors + first, weight, 0, full, halves, rounded);
    if (full < count) {
      read_vector(errors + first + full, count - full, 0.0f, rest);
      round_vectors(rest, weight, full, whole_vectors(count), halves, rounded);
    }
    narrow(rounded, count, deltas + first);
  }
}

void shared_coefficient_delta(const LogitRow& row, const SharedTargets& targets, std::int64_t units,
                              const RowAddress& address, std::int8_t* deltas) {
  Bernoulli bernoulli;
  Halves halves;
  alignas(64) double sums[stretch_units];
  alignas(64) float errors[stretch_units] = {};
  for (std::int64_t first = 0; first < units; first += stretch_units) {
    bernoulli.read(row, first, units, false);
    halves.draw(address, first, bernoulli.vectors);
    const double total = sum_coefficients(targets, first, bernoulli.count, sums);
    for (std::int64_t i = 0; i < bernoulli.count; ++i) {
      errors[i] = sum_minus_probability(sums[i], total, bernoulli.logits[i], bernoulli.minor[i]);
    }
    round_stretch(errors, targets.scale, bernoulli.count, halves, deltas + first);
  }
}

void shared_delta(const LogitRow& row, const SharedTargets& targets, std::int64_t units,
                  const RowAddress& address, std::int8_t* deltas) {
  Bernoulli bernoulli;
  Halves halves;
  alignas(64) double sums[stretch_units];
  alignas(64) std::int32_t counts[stretch_units];
  alignas(64) float errors[stretch_units] = {};
  const double total = static_cast<double>(targets.total);
  const double samples = static_cast<double>(targets.samples);
  for (std::int64_t first = 0; first < units; first += stretch_units) {
    bernoulli.read(row, first, units, false);
    halves.draw(address, first, bernoulli.vectors);
    sum_states(targets, first, bernoulli.count, sums, counts);
    for (std::int64_t i = 0; i < bernoulli.count; ++i) {
      const double mean = sums[i] / total;
      errors[i] = targets.centred ? static_cast<float>(mean - static_cast<double>(counts[i]) / samples)
                                  : mean_minus_probability(mean, bernoulli.logits[i], bernoulli.minor[i]);
    }
    round_stretch(errors, targets.scale, bernoulli.count, halves, deltas + first);
  }
}

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
