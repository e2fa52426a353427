#include "wakesleep/memory_plan.hpp"

#include <algorithm>
#include <memory>

#include "data_bits.hpp"
#include "wakesleep/machine.hpp"
#include "wakesleep/natural_gradient.hpp"
#include "wakesleep/training_algorithm.hpp"

namespace wakesleep {

namespace {

/// Two batches that tell what a row takes: working memory is padded to 16 rows.
constexpr std::int64_t small_batch = 128;
constexpr std::int64_t less_small_batch = 256;

std::int64_t held(const Ops& ops) { return static_cast<std::int64_t>(ops.memory_use().current); }

/// What is held while the machine's algorithm has made all it needs for batches of `rows` rows.
std::int64_t held_with_batch(Machine& machine, TrainingSettings settings, std::int64_t rows) {
  settings.batch_size = rows;
  DeltaRule delta_rule(machine, settings);
  const std::unique_ptr<TrainingAlgorithm> algorithm = make_algorithm(machine, delta_rule, settings, rows);
  algorithm->reserve(rows);
  return held(machine.ops());
}

std::int64_t fisher_bytes(Machine& machine, const TrainingSettings& settings) {
  const std::int64_t before = held(machine.ops());
  const NaturalGradient natural_gradient(machine, settings);
  return held(machine.ops()) - before;
}

}  // namespace

MemoryPlan plan_memory(Ops& ops, const std::vector<std::int64_t>& sizes, const TrainingSettings& settings,
                       std::int64_t data_rows, const PlacementSettings& placement) {
  const std::int64_t before = held(ops);
  Machine machine(ops, sizes, settings.weight_bits, settings.prior, visible_units_of(settings));
  MemoryPlan plan;
  plan.parameters = held(ops) - before;
  TrainingSettings linear = settings;
  linear.fisher = FisherForm::diagonal;  // the other forms do not grow with the rows, or by their square
  const std::int64_t small = held_with_batch(machine, linear, small_batch);
  const std::int64_t less_small = held_with_batch(machine, linear, less_small_batch);
  plan.per_row = (less_small - small) / (less_small_batch - small_batch);
  plan.fixed = small - before - plan.parameters - small_batch * plan.per_row;
  if (is_used(settings, "fisher")) {
    plan.fixed += fisher_bytes(machine, settings) - fisher_bytes(machine, linear);
  }
  const std::int64_t without_data = plan.total(settings.batch_size);
  const std::size_t available = ops.available_memory();
  const std::size_t left = available - std::min(available, static_cast<std::size_t>(without_data));
  const std::int64_t row_bytes = machine.has_gaussian_visible() ? sizes.front() : packed_bytes(sizes.front());
  const PlacementDecision decision =
      decide_placement(placement, settings.batch_size, data_rows, row_bytes, left);
  plan.streamed = decision.streamed;
  plan.data = decision.held() + data_rows * static_cast<std::int64_t>(sizeof(std::uint32_t));
  return plan;
}

}  // namespace wakesleep
