// What the benchmarks of single operations share: the backend under test, the shapes, and random operands.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "wakesleep/ops.hpp"

namespace wakesleep::bench {

/// Set by main() from the command line, before the first benchmark runs.
struct Settings {
  std::string device = "cpu";
  int threads = 0;  ///< of the CPU; 0: all
  int weight_bits = 16;
};
Settings& settings();

/// The backend that the settings name, made on first use.
Ops& ops();

/// (sending, receiving, rows): the layers of 784-200-200-200 at batch 100 and 1000, the same rows without any
/// product (a prior: what is left is the elementwise work), and one wide layer.
inline void layer_shapes(benchmark::internal::Benchmark* registered) {
  registered->ArgNames({"sending", "receiving", "rows"})->UseRealTime();
  for (const std::int64_t rows : {100, 1000}) {
    registered->Args({784, 200, rows})->Args({200, 784, rows})->Args({200, 200, rows});
    registered->Args({0, 784, rows})->Args({4096, 4096, rows});
  }
}

/// (sending, receiving): the weights of the same layers.
inline void weight_shapes(benchmark::internal::Benchmark* registered) {
  registered->ArgNames({"sending", "receiving"})->UseRealTime();
  registered->Args({784, 200})->Args({200, 784})->Args({200, 200})->Args({4096, 4096});
}

/// The four words of block `index` of a stream of random words, the same in every run.
inline PhiloxBlock random_block(std::int64_t index) {
  return philox4x32_10(draw_counter(static_cast<std::uint32_t>(index), 0, 0, 0), 1);
}

/// `count` random values, each made from one random word.
template <class T, class FromWord>
Buffer<T> random_buffer(std::int64_t count, const FromWord& from_word) {
  std::vector<T> values(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; i += 4) {
    const PhiloxBlock block = random_block(i / 4);
    for (std::int64_t k = 0; k < std::min<std::int64_t>(4, count - i); ++k) {
      values[static_cast<std::size_t>(i + k)] = static_cast<T>(from_word(block.word[k]));
    }
  }
  Buffer<T> buffer(ops(), count);
  buffer.copy_in(values.data());
  return buffer;
}

/// A conditional distribution with small random weights; 0 sending units make a prior.
class RandomConditional {
 public:
  RandomConditional(std::int64_t sending, std::int64_t receiving) {
    const auto small = [](std::uint32_t word) { return symmetric_uniform(word) / 64; };
    bias_ = random_buffer<float>(receiving, small);
    conditional_.bias = bias_.data();
    conditional_.receiving = receiving;
    conditional_.sending = sending;
    if (sending == 0) return;
    weight_ = random_buffer<float>(receiving * sending, small);
    integers_ = ops().make_integer_weights(receiving, sending, settings().weight_bits);
    conditional_.weight = {weight_.data(), receiving, sending, sending};
    conditional_.integers = integers_.get();
    ops().quantize(conditional_, nullptr, nullptr);
  }

  const Conditional& get() const { return conditional_; }
  std::int64_t weights() const { return conditional_.receiving * conditional_.sending; }
  /// Bytes of the integer weights, in one or two 8-bit limbs.
  std::int64_t integer_bytes() const { return weights() * (settings().weight_bits > 8 ? 2 : 1); }

 private:
  Buffer<float> weight_;
  Buffer<float> bias_;
  std::unique_ptr<IntegerWeights> integers_;
  Conditional conditional_;
};

/// Rows of one byte per unit.
template <class T>
class Rows {
 public:
  template <class FromWord>
  Rows(std::int64_t rows, std::int64_t units, const FromWord& from_word)
      : buffer_(random_buffer<T>(rows * padded_units(units), from_word)),
        view_{buffer_.data(), rows, units, padded_units(units)} {}

  Matrix<T> view() const { return view_; }
  std::int64_t count() const { return view_.rows * view_.columns; }

 private:
  Buffer<T> buffer_;
  Matrix<T> view_;
};

inline Rows<std::uint8_t> random_states(std::int64_t rows, std::int64_t units) {
  return {rows, units, [](std::uint32_t word) { return word & 1u; }};
}
inline Rows<std::int8_t> random_deltas(std::int64_t rows, std::int64_t units) {
  return {rows, units, [](std::uint32_t word) { return static_cast<int>(word % 255u) - 127; }};
}

/// One conditional of a benchmark's shape with the states on both sides of it.
struct Layer {
  explicit Layer(const benchmark::State& state)
      : rows(state.range(2)),
        conditional(state.range(0), state.range(1)),
        sending(random_states(rows, state.range(0))),
        receiving(random_states(rows, state.range(1))) {}

  /// A prior has no input.
  ConstStates input() const { return sending.count() > 0 ? sending.view() : States{}; }

  std::int64_t rows;
  RandomConditional conditional;
  Rows<std::uint8_t> sending;
  Rows<std::uint8_t> receiving;
};

inline Draw draw(Domain domain) {
  Draw addresses;
  addresses.seed = 1;
  addresses.domain = domain;
  addresses.layer = 1;
  return addresses;
}

/// Runs `operation` until the time is up; `items` and `bytes` are those of one run.
template <class Operation>
void measure(benchmark::State& state, std::int64_t items, std::int64_t bytes, const Operation& operation) {
  for ([[maybe_unused]] auto _ : state) {
    operation();
    ops().synchronize();
  }
  state.SetItemsProcessed(state.iterations() * items);
  state.SetBytesProcessed(state.iterations() * bytes);
}

}  // namespace wakesleep::bench
