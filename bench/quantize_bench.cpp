// Integer weights from master weights. Items are weights.
#include "operation.hpp"

namespace wakesleep::bench {
namespace {

void quantize(benchmark::State& state) {
  const RandomConditional conditional(state.range(0), state.range(1));
  const std::int64_t weights = conditional.weights();
  measure(state, weights, 4 * weights + conditional.integer_bytes(),
          [&] { ops().quantize(conditional.get(), nullptr, nullptr); });
}
BENCHMARK(quantize)->Apply(weight_shapes);

}  // namespace
}  // namespace wakesleep::bench
