// Rows of the data set, in a shuffled order, as states. Items are units.
#include "operation.hpp"

namespace wakesleep::bench {
namespace {

constexpr std::int64_t data_rows = 50000;

void gather(benchmark::State& state, bool grey) {
  const std::int64_t units = state.range(0);
  const std::int64_t rows = state.range(1);
  const std::int64_t row_bytes = grey ? units : (units + 7) / 8;
  const Buffer<std::uint8_t> bytes =
      random_buffer<std::uint8_t>(data_rows * row_bytes, [](std::uint32_t word) { return word & 255u; });
  const Buffer<std::uint32_t> order =
      random_buffer<std::uint32_t>(rows, [](std::uint32_t word) { return word % data_rows; });
  Buffer<std::uint32_t> first(ops(), 1);
  first.fill_zero();
  DataRows data;
  data.bytes = bytes.data();
  data.rows = data_rows;
  data.units = units;
  data.row_bytes = row_bytes;
  data.grey = grey;
  const Rows<std::uint8_t> states = random_states(rows, units);
  measure(state, states.count(), rows * row_bytes + states.count(), [&] {
    ops().gather(data, order.data(), first.data(), draw(Domain::binarize_dynamic), states.view());
  });
}

void gather_shapes(benchmark::internal::Benchmark* registered) {
  registered->ArgNames({"units", "rows"})->UseRealTime();
  for (const std::int64_t rows : {100, 1000}) registered->Args({784, rows})->Args({4096, rows});
}
BENCHMARK_CAPTURE(gather, bits, false)->Apply(gather_shapes);
BENCHMARK_CAPTURE(gather, grey, true)->Apply(gather_shapes);

}  // namespace
}  // namespace wakesleep::bench
