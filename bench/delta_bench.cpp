// deltas = rounded (target - sigma(logits of input)). Items are deltas.
#include "operation.hpp"

namespace wakesleep::bench {
namespace {

void delta(benchmark::State& state) {
  const Layer layer(state);
  const std::int64_t units = layer.receiving.count();
  const Rows<std::int8_t> deltas = random_deltas(layer.rows, state.range(1));
  measure(state, units, layer.sending.count() + layer.conditional.integer_bytes() + 2 * units, [&] {
    ops().delta(layer.conditional.get(), layer.input(), layer.receiving.view(),
                draw(Domain::wake_generative_rounding), deltas.view());
  });
}
BENCHMARK(delta)->Apply(layer_shapes);

// The same of errors that were kept, weighted as 5 samples of an image are.
void round_errors(benchmark::State& state) {
  const std::int64_t rows = state.range(1) / 5 * 5;
  const std::int64_t units = state.range(0);
  const auto errors =
      random_buffer<float>(rows * units, [](std::uint32_t word) { return symmetric_uniform(word); });
  const auto relative = random_buffer<std::int32_t>(rows, [](std::uint32_t word) { return word >> 2; });
  const auto totals =
      random_buffer<std::int64_t>(rows / 5, [](std::uint32_t) { return std::int64_t{5} << 30; });
  const Rows<std::int8_t> deltas = random_deltas(rows, units);
  SampleWeights weights;
  weights.relative = relative.data();
  weights.total = totals.data();
  weights.samples = 5;
  measure(state, rows * units, 5 * rows * units, [&] {
    ops().round_errors({errors.data(), rows, units, units}, draw(Domain::wake_generative_rounding),
                       deltas.view(), weights);
  });
}
BENCHMARK(round_errors)->ArgNames({"units", "rows"})->UseRealTime()->Args({784, 500})->Args({200, 500});

}  // namespace
}  // namespace wakesleep::bench
