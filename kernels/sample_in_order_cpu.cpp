// States of an autoregressive prior, unit after unit: s_i ~ Bernoulli(sigma(sum_{j < i} q_ij s_j 2^-s_i +
// b_i)). A unit is drawn for several rows at a time, and one that is on adds what it sends to the sums of the
// units after it. The sums are integers, so that they are those of the dense product.
#include "kernels/cpu/instructions.hpp"
#include "kernels/cpu/random_words.hpp"

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

namespace {

/// Units whose random words are drawn at a time.
constexpr std::int64_t stretch = 128;

/// One unit in several rows, side by side: vectors are always whole, and what stands behind the last row is
/// drawn for nothing.
struct UnitInRows {
  alignas(64) float logits[rows_in_order] = {};
  alignas(64) float minor[rows_in_order];
  alignas(64) std::uint32_t on[rows_in_order];

  void draw(const std::uint32_t* words) {
    for (std::int64_t r = 0; r < rows_in_order; ++r) minor[r] = minor_odds(logits[r]);
    for (std::int64_t r = 0; r < rows_in_order; ++r) minor[r] = probability_of_odds(minor[r]);
    for (std::int64_t r = 0; r < rows_in_order; ++r) on[r] = sample_state(logits[r], minor[r], words[r]);
  }
};

}  // namespace

void sample_in_order(const OrderedWeights& weights, std::int64_t units, const RowAddress* addresses,
                     std::uint8_t* states, std::int64_t stride, std::int64_t rows, std::int32_t* sums) {
  const std::int64_t sums_stride = ordered_sums_stride(units);
  for (std::int64_t i = 0; i < rows * sums_stride; ++i) sums[i] = 0;
  WordBuffer random;
  alignas(64) std::uint32_t words[stretch][rows_in_order] = {};
  UnitInRows drawn;
  for (std::int64_t first = 0; first < units; first += stretch) {
    const std::int64_t end = units - first < stretch ? units : first + stretch;
    for (std::int64_t r = 0; r < rows; ++r) {
      random_words(addresses[r], first / 4, (end - first + 3) / 4, random);
      for (std::int64_t unit = first; unit < end; ++unit) words[unit - first][r] = random.words[unit - first];
    }
    for (std::int64_t unit = first; unit < end; ++unit) {
      for (std::int64_t r = 0; r < rows; ++r) {
        drawn.logits[r] =
            pre_activation(sums[r * sums_stride + unit], weights.scale[unit], weights.bias[unit]);
      }
      drawn.draw(words[unit - first]);
      const std::int16_t* column = weights.columns + unit * weights.stride;
      for (std::int64_t r = 0; r < rows; ++r) {
        states[r * stride + unit] = static_cast<std::uint8_t>(drawn.on[r]);
        if (drawn.on[r] == 0) continue;
        std::int32_t* of_row = sums + r * sums_stride;
        for (std::int64_t later = unit + 1; later < units; ++later) of_row[later] += column[later];
      }
    }
  }
}

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
