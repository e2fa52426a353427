// The order of an epoch. Items are rows.
#include "operation.hpp"

namespace wakesleep::bench {
namespace {

void shuffle(benchmark::State& state) {
  const std::int64_t rows = state.range(0);
  const Buffer<std::uint32_t> order(ops(), rows);
  Draw epoch = draw(Domain::shuffle);
  measure(state, rows, 4 * rows, [&] {
    ++epoch.first_step;  // the same keys again would let the processor learn their branches
    ops().shuffle(epoch, rows, order.data());
  });
}
BENCHMARK(shuffle)->ArgNames({"rows"})->UseRealTime()->Arg(1600)->Arg(16000)->Arg(50000)->Arg(1000000);

}  // namespace
}  // namespace wakesleep::bench
