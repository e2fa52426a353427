// gradient = deltas^T . states, and the sums of the deltas. Items are the gradient's integers.
#include "operation.hpp"

namespace wakesleep::bench {
namespace {

void gradient(benchmark::State& state) {
  const std::int64_t sending = state.range(0);
  const std::int64_t receiving = state.range(1);
  const std::int64_t rows = state.range(2);
  const Rows<std::uint8_t> states = random_states(rows, sending);
  const Rows<std::int8_t> deltas = random_deltas(rows, receiving);
  Buffer<std::int32_t> sums(ops(), receiving * sending);
  Buffer<std::int32_t> bias_sums(ops(), receiving);
  const std::int64_t items = (sending + 1) * receiving;
  measure(state, items, states.count() + deltas.count() + 4 * items, [&] {
    ops().gradient(deltas.view(), sending > 0 ? states.view() : States{}, sending > 0 ? sums.data() : nullptr,
                   bias_sums.data());
  });
}
BENCHMARK(gradient)->Apply(layer_shapes);

}  // namespace
}  // namespace wakesleep::bench
