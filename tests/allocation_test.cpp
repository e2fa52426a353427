// Training takes no memory from the heap after its first step, and an evaluation only little at a time. Every
// `new` of the process is counted, so this is a program of its own. The products are the plain loop: oneDNN
// takes memory during its calls and gives it back.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "trainings.hpp"
#include "wakesleep/evaluate.hpp"
#include "wakesleep/trainer.hpp"

namespace {
std::atomic<std::int64_t> allocations{0};
std::atomic<std::size_t> largest{0};  ///< bytes of one allocation
}  // namespace

// The other forms of the global operators call these by default. Inlined, g++ takes them for a mismatched
// pair.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  ++allocations;
  if (bytes > largest) largest = bytes;
  if (void* memory = std::malloc(bytes > 0 ? bytes : 1)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace wakesleep {
namespace {

bool stop_at_once() { return true; }

std::int64_t allocations_after_the_first_step(const testing::Training& training, CpuRoute route, int threads,
                                              const PlacementSettings& placement) {
  CpuOptions options;
  options.route = route;
  options.threads = threads;
  const std::unique_ptr<Ops> ops = make_cpu_ops(options);
  Trainer trainer(*ops, testing::training_data(training), training.settings, placement);
  trainer.run_epoch(stop_at_once);
  EXPECT_EQ(trainer.step(), 1);
  const std::int64_t before = allocations;
  while (!trainer.finished()) trainer.run_epoch();
  EXPECT_GT(trainer.step(), trainer.steps_per_epoch());  // more than one order of the rows
  return allocations - before;
}

TEST(Allocation, NoneAfterTheFirstStep) {
  for (const testing::Training& training : testing::recorded_trainings()) {
    if (training.units > 100) continue;  // the small ones have every path, short last batches too
    for (const CpuRoute route : {CpuRoute::reference, CpuRoute::avx2}) {  // oneDNN allocates in its products
      if (!cpu_route_available(route)) continue;
      const bool fixed_point = training.settings.visible == Visible::gaussian;  // which is oneDNN's there
      if (route == CpuRoute::avx2 && fixed_point) continue;
      for (const int threads : {1, 3}) {
        for (const PlacementSettings& placement : {PlacementSettings{}, testing::streamed()}) {
          EXPECT_EQ(allocations_after_the_first_step(training, route, threads, placement), 0)
              << training.name;
        }
      }
    }
  }
}

// The working memory that is bounded is the backend's; beside it the host holds no matrix of a whole chunk.
TEST(Allocation, AnEvaluationReadsProbabilitiesInSmallPieces) {
  CpuOptions options;
  options.route = CpuRoute::reference;
  const std::unique_ptr<Ops> ops = make_cpu_ops(options);
  const std::int64_t wide = 2003, rows = 701;  // a layer's probabilities are 5.6 MB, eleven pieces
  Machine machine(*ops, {33, wide, 5}, 8);
  const DataSet data = binarize(testing::grey_rows(rows, 33), Binarization::fixed, 128, 1);
  machine.initialize(unit_means(data), 1);
  EvaluationSettings settings;
  settings.samples = 1;
  largest = 0;
  const Evaluation whole = evaluate(machine, data, settings);
  EXPECT_LT(largest, std::size_t{1} << 20);
  settings.memory_bytes = 1;  // an image at a time, so that no piece ends inside
  EXPECT_EQ(evaluate(machine, data, settings).layer_mismatch, whole.layer_mismatch);
}

TEST(Allocation, TheCountNoticesOne) {
  const std::int64_t before = allocations;
  largest = 0;
  std::vector<int>* const numbers = new std::vector<int>(3);
  delete numbers;
  EXPECT_GE(allocations - before, 1);
  EXPECT_GE(largest, 3 * sizeof(int));
}

}  // namespace
}  // namespace wakesleep
