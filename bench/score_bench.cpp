// log p(target | input) of each row. Items are scored units.
#include "operation.hpp"

namespace wakesleep::bench {
namespace {

void score(benchmark::State& state) {
  const Layer layer(state);
  const std::int64_t units = layer.receiving.count();
  Buffer<std::int64_t> log_probabilities(ops(), layer.rows);
  log_probabilities.fill_zero();
  ScoreSink sink;
  sink.rows = log_probabilities.data();
  const std::int64_t bytes =
      layer.sending.count() + layer.conditional.integer_bytes() + units + 16 * layer.rows;
  measure(state, units, bytes,
          [&] { ops().score(layer.conditional.get(), layer.input(), layer.receiving.view(), sink); });
}
BENCHMARK(score)->Apply(layer_shapes);

// And the errors with it, which a training step keeps.
void score_and_errors(benchmark::State& state) {
  const Layer layer(state);
  const std::int64_t units = layer.receiving.count();
  Buffer<float> errors(ops(), units);
  Buffer<std::int64_t> log_probabilities(ops(), layer.rows);
  log_probabilities.fill_zero();
  ScoreSink sink;
  sink.rows = log_probabilities.data();
  const std::int64_t width = state.range(1);
  const std::int64_t bytes =
      layer.sending.count() + layer.conditional.integer_bytes() + 5 * units + 16 * layer.rows;
  measure(state, units, bytes, [&] {
    ops().score(layer.conditional.get(), layer.input(), layer.receiving.view(), sink,
                {errors.data(), layer.rows, width, width});
  });
}
BENCHMARK(score_and_errors)->Apply(layer_shapes);

}  // namespace
}  // namespace wakesleep::bench
