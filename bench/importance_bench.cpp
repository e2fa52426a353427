// Summaries of the log weights of K samples for each image. Items are log weights.
#include "operation.hpp"

namespace wakesleep::bench {
namespace {

void importance(benchmark::State& state) {
  const std::int64_t images = state.range(0);
  const std::int64_t samples = state.range(1);
  constexpr std::uint32_t spread = 20u << 20;  // log weights that differ by up to 20 nats, about -100
  const Buffer<std::int64_t> log_weights =
      random_buffer<std::int64_t>(images * samples, [](std::uint32_t word) {
        return -(std::int64_t{100} << 20) + static_cast<std::int64_t>(word % spread);
      });
  Buffer<ImportanceSummary> summaries(ops(), images);
  measure(state, images * samples,
          8 * images * samples + images * static_cast<std::int64_t>(sizeof(ImportanceSummary)), [&] {
            ops().importance({log_weights.data(), images, samples, samples}, summaries.data());
          });
}
BENCHMARK(importance)
    ->ArgNames({"images", "samples"})
    ->UseRealTime()
    ->Args({1000, 10})
    ->Args({100, 1000})
    ->Args({1, 100000});

}  // namespace
}  // namespace wakesleep::bench
