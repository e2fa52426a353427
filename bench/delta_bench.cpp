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

}  // namespace
}  // namespace wakesleep::bench
