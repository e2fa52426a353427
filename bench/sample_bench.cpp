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

}  // namespace
}  // namespace wakesleep::bench
