// output ~ p(. | input): product, sigmoid, random words and comparison. Items are sampled units.
#include "operation.hpp"

namespace wakesleep::bench {
namespace {

void sample(benchmark::State& state) {
  const Layer layer(state);
  const std::int64_t units = layer.receiving.count();
  measure(state, units, layer.sending.count() + layer.conditional.integer_bytes() + units, [&] {
    ops().sample(layer.conditional.get(), layer.input(), draw(Domain::wake_sample), 1,
                 layer.receiving.view());
  });
}
BENCHMARK(sample)->Apply(layer_shapes);

void sample_and_score(benchmark::State& state) {
  const Layer layer(state);
  const std::int64_t units = layer.receiving.count();
  Buffer<std::int64_t> log_probabilities(ops(), layer.rows);
  log_probabilities.fill_zero();
  ScoreSink sink;
  sink.rows = log_probabilities.data();
  measure(state, units, layer.sending.count() + layer.conditional.integer_bytes() + units, [&] {
    ops().sample(layer.conditional.get(), layer.input(), draw(Domain::evaluation_sample), 1,
                 layer.receiving.view(), sink);
  });
}
BENCHMARK(sample_and_score)->Apply(layer_shapes);

// An autoregressive prior, one unit after the other. Its weights above the diagonal are never read.
void sample_in_order(benchmark::State& state) {
  const std::int64_t units = state.range(0);
  const std::int64_t rows = state.range(1);
  const RandomConditional conditional(units, units);
  Conditional prior = conditional.get();
  prior.autoregressive = true;
  const Rows<std::uint8_t> top = random_states(rows, units);
  measure(state, rows * units, rows * units + conditional.integer_bytes(),
          [&] { ops().sample_in_order(prior, draw(Domain::sleep_sample), top.view()); });
}
BENCHMARK(sample_in_order)
    ->ArgNames({"units", "rows"})
    ->UseRealTime()
    ->Args({200, 100})
    ->Args({200, 1000})
    ->Args({1024, 1000});

}  // namespace
}  // namespace wakesleep::bench
