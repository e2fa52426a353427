// A gradient and the step along it, as one operation and as two. Items are parameters. Several are queued before the
// host waits, as in a step, so that a GPU's launches are not what is measured.
#include "operation.hpp"

namespace wakesleep::bench {
namespace {

constexpr int queued = 32;

void learn(benchmark::State& state, bool as_one) {
  const std::int64_t sending = state.range(0);
  const std::int64_t receiving = state.range(1);
  const std::int64_t rows = state.range(2);
  const RandomConditional conditional(sending, receiving);
  const Rows<std::uint8_t> states = random_states(rows, sending);
  const Rows<std::int8_t> deltas = random_deltas(rows, receiving);
  const Buffer<std::int32_t> gradient(ops(), receiving * sending);
  const Buffer<std::int32_t> bias_gradient(ops(), receiving);
  // A rate so small that the weights stay where they began, however often they learn.
  Rates host_rates;
  host_rates.rate = 1e-12f;
  host_rates.mean = 1.0f / (127.0f * static_cast<float>(rows));
  Buffer<Rates> rates(ops(), 1);
  rates.copy_in(&host_rates);

  Learning learning;
  learning.rates = rates.data();
  learning.gradient = gradient.data();
  learning.bias_gradient = bias_gradient.data();

  const std::int64_t parameters = (sending + 1) * receiving;
  const std::int64_t bytes =
      states.count() + deltas.count() + 4 * 2 * parameters + conditional.integer_bytes();
  measure(state, queued * parameters, queued * bytes, [&] {
    for (int i = 0; i < queued; ++i) {
      if (as_one) {
        ops().learn(conditional.get(), deltas.view(), states.view(), learning);
      } else {
        ops().gradient(deltas.view(), states.view(), gradient.data(), bias_gradient.data());
        ops().update(conditional.get(), {}, {}, rates.data(), gradient.data(), bias_gradient.data(), nullptr,
                     nullptr);
      }
    }
  });
}

void shapes(benchmark::internal::Benchmark* registered) {
  registered->ArgNames({"sending", "receiving", "rows"})->UseRealTime();
  for (const std::int64_t rows : {100, 1000}) {
    registered->Args({784, 200, rows})->Args({200, 784, rows})->Args({200, 200, rows});
  }
  registered->Args({1024, 1024, 1024});
}
BENCHMARK_CAPTURE(learn, as_one, true)->Apply(shapes);
BENCHMARK_CAPTURE(learn, as_gradient_and_update, false)->Apply(shapes);

}  // namespace
}  // namespace wakesleep::bench
