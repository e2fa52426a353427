// Random conditionals and states of awkward sizes, for tests of operations.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "backends.hpp"
#include "wakesleep/ops.hpp"

namespace wakesleep::testing {

inline std::uint32_t word_at(std::uint32_t group, std::uint32_t row, std::uint32_t step, std::uint32_t tag,
                             int index, std::uint64_t seed) {
  return philox4x32_10({{group, row, step, tag}}, seed).word[index];
}
inline double uniform(std::uint32_t index, std::uint32_t what) {
  return word_at(index, what, 1, 2, 0, 3) / 4294967296.0;
}

/// Weights and biases on the host and on the backend, and the weights as the engine must see them: rounded to
/// multiples of 2^-s, s chosen by trying.
struct TestConditional {
  TestConditional(Ops& ops, std::int64_t receiving, std::int64_t sending, int bits, double size = 2.0,
                  std::int32_t largest_input = 1)
      : weights(static_cast<std::size_t>(receiving * sending)), biases(static_cast<std::size_t>(receiving)) {
    for (std::size_t i = 0; i < weights.size(); ++i) {
      weights[i] = static_cast<float>(size * (2 * uniform(static_cast<std::uint32_t>(i), 5) - 1));
    }
    for (std::size_t i = 0; i < biases.size(); ++i) {
      biases[i] = static_cast<float>(2 * uniform(static_cast<std::uint32_t>(i), 6) - 1);
    }
    seen.resize(weights.size());
    for (std::int64_t i = 0; i < receiving && sending > 0; ++i) {
      double largest = 0;
      for (std::int64_t j = 0; j < sending; ++j) largest = std::max(largest, std::fabs(double{weight(i, j)}));
      const double limit = bits == 16 ? 32639 : bits == 12 ? 2047 : 127;
      int shift = -30;
      while (shift < 30 && std::nearbyint(std::ldexp(largest, shift + 1)) <= limit) ++shift;
      for (std::int64_t j = 0; j < sending; ++j) {
        seen[static_cast<std::size_t>(i * sending + j)] =
            std::ldexp(std::nearbyint(std::ldexp(double{weight(i, j)}, shift)), -shift);
      }
    }
    bias_buffer = to_device(ops, biases);
    view.bias = bias_buffer.data();
    view.receiving = receiving;
    view.sending = sending;
    view.largest_input = largest_input;
    if (sending == 0) return;
    weight_buffer = to_device(ops, weights);
    integers = ops.make_integer_weights(receiving, sending, bits, largest_input);
    view.weight = {weight_buffer.data(), receiving, sending, sending};
    view.integers = integers.get();
    ops.quantize(view, nullptr, nullptr);
  }

  float weight(std::int64_t i, std::int64_t j) const {
    return weights[static_cast<std::size_t>(i * view_sending(j) + j)];
  }
  std::int64_t view_sending(std::int64_t) const {
    return static_cast<std::int64_t>(weights.size() / biases.size());
  }

  double logit(std::int64_t i, const std::uint8_t* input) const {
    double a = biases[static_cast<std::size_t>(i)];
    for (std::int64_t j = 0; j < view.sending; ++j) {
      a += input[j] / static_cast<double>(view.largest_input) *
           seen[static_cast<std::size_t>(i * view.sending + j)];
    }
    return a;
  }

  std::vector<float> weights, biases;
  std::vector<double> seen;
  Buffer<float> weight_buffer, bias_buffer;
  std::unique_ptr<IntegerWeights> integers;
  Conditional view;
};

/// Random states 0 .. largest_state on the host, with garbage in the padding, which no operation may care
/// about.
struct TestStates {
  TestStates(Ops& ops, std::int64_t rows_, std::int64_t units_, std::uint32_t what,
             std::uint32_t largest_state = 1)
      : rows(rows_), units(units_), host(static_cast<std::size_t>(rows_ * padded_units(units_)), 0xAA) {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t u = 0; u < units; ++u) {
        host[static_cast<std::size_t>(r * padded_units(units) + u)] = static_cast<std::uint8_t>(
            word_at(static_cast<std::uint32_t>(u), static_cast<std::uint32_t>(r), what, 9, 0, 1) %
            (largest_state + 1));
      }
    }
    buffer = to_device(ops, host);
  }
  States view() const { return {buffer.data(), rows, units, padded_units(units)}; }
  const std::uint8_t* row(std::int64_t r) const { return host.data() + r * padded_units(units); }

  std::int64_t rows, units;
  std::vector<std::uint8_t> host;
  Buffer<std::uint8_t> buffer;
};

struct Size {
  std::int64_t rows, sending, receiving;
};
inline const std::vector<Size> awkward_sizes = {{1, 1, 1},    {0, 3, 5},   {1, 31, 33},
                                                {33, 33, 31}, {7, 37, 19}, {16, 64, 64},
                                                {65, 200, 5}, {3, 5, 200}, {20, 130, 1030}};

}  // namespace wakesleep::testing
