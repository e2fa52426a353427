// An optimiser's step on one conditional, and the integers of its new weights. Items are parameters.
#include "operation.hpp"

namespace wakesleep::bench {
namespace {

constexpr std::int64_t batch_rows = 100;

/// State vectors an optimiser keeps per parameter.
int vectors_of(OptimizerKind kind) { return static_cast<int>(kind); }
static_assert(static_cast<int>(OptimizerKind::sgd) == 0 && static_cast<int>(OptimizerKind::momentum) == 1 &&
              static_cast<int>(OptimizerKind::adam) == 2);

void update(benchmark::State& state, OptimizerKind kind) {
  const std::int64_t sending = state.range(0);
  const std::int64_t receiving = state.range(1);
  const RandomConditional conditional(sending, receiving);
  const auto integer = [](std::uint32_t word) { return static_cast<int>(word % 2001u) - 1000; };
  const Buffer<std::int32_t> gradient = random_buffer<std::int32_t>(receiving * sending, integer);
  const Buffer<std::int32_t> bias_gradient = random_buffer<std::int32_t>(receiving, integer);

  std::vector<Buffer<float>> vectors;
  for (int i = 0; i < 2 * vectors_of(kind); ++i) {
    vectors.emplace_back(ops(), i % 2 == 0 ? receiving * sending : receiving);
    vectors.back().fill_zero();
  }
  OptimizerState optimizer_state;
  if (vectors.size() >= 2) {
    optimizer_state.weight_first = vectors[0].data();
    optimizer_state.bias_first = vectors[1].data();
  }
  if (vectors.size() == 4) {
    optimizer_state.weight_second = vectors[2].data();
    optimizer_state.bias_second = vectors[3].data();
  }
  Optimizer optimizer;
  optimizer.kind = kind;
  // A rate so small that the weights stay where they began, however often the update runs.
  Rates host_rates;
  host_rates.rate = 1e-12f;
  host_rates.mean = 1.0f / (127.0f * batch_rows);
  Buffer<Rates> rates(ops(), 1);
  rates.copy_in(&host_rates);

  const std::int64_t parameters = (sending + 1) * receiving;
  const std::int64_t float_bytes = 4 * parameters * (2 + 2 * vectors_of(kind));  // read and written
  const std::int64_t gradient_bytes = 4 * parameters;
  measure(state, parameters, float_bytes + gradient_bytes + conditional.integer_bytes(), [&] {
    ops().update(conditional.get(), optimizer_state, optimizer, rates.data(), gradient.data(),
                 bias_gradient.data(), nullptr, nullptr);
  });
}
BENCHMARK_CAPTURE(update, sgd, OptimizerKind::sgd)->Apply(weight_shapes);
BENCHMARK_CAPTURE(update, momentum, OptimizerKind::momentum)->Apply(weight_shapes);
BENCHMARK_CAPTURE(update, adam, OptimizerKind::adam)->Apply(weight_shapes);

}  // namespace
}  // namespace wakesleep::bench
