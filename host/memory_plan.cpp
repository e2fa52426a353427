#include "wakesleep/memory_plan.hpp"

#include <algorithm>
#include <memory>

#include "data_bits.hpp"
#include "wakesleep/arithmetic.hpp"
#include "wakesleep/machine.hpp"
#include "wakesleep/natural_gradient.hpp"
#include "wakesleep/training_algorithm.hpp"

namespace wakesleep {

namespace {

// Two batches tell what a row takes: one of so many rows, and one of twice as many.

/// From so many rows on the CPU backend has more working memory (chooses_rows in kernels/cpu/product.cpp).
/// Were only the larger trial such a batch, a row would seem to take more than it does, and what does not
/// grow with the rows less than nothing.
constexpr std::int64_t least_trial = 64;
constexpr std::int64_t largest_trial = 128;
/// Working memory is padded to whole sixteens of rows.
constexpr std::int64_t padding = 16;
/// Rows with their samples that a trial may always have.
constexpr std::int64_t cheap_rows = 2048;

/// Rows of the smaller trial: no more of them, with their samples, than the settings ask for, unless they are
/// cheap, and twice as many within the limits of exact sums.
std::int64_t trial_rows(const TrainingSettings& settings) {
  const std::int64_t rows_of_batch = rows_of_a_step(settings);
  const std::int64_t samples = rows_of_batch / settings.batch_size;
  const std::int64_t most = std::min(std::max(cheap_rows, rows_of_batch), max_batch_rows / 2);
  const std::int64_t padded = (settings.batch_size + padding - 1) / padding * padding;
  std::int64_t rows = std::clamp(padded, least_trial, largest_trial);
  while (rows > 1 && rows * samples > most) rows /= 2;
  return rows;
}

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
  check(settings);
  const std::int64_t before = held(ops);
  Machine machine(ops, sizes, settings.weight_bits, settings.prior, visible_units_of(settings));
  MemoryPlan plan;
  plan.parameters = held(ops) - before;
  TrainingSettings linear = settings;
  linear.fisher = FisherForm::diagonal;  // the other forms do not grow with the rows, or by their square
  const std::int64_t rows = trial_rows(settings);
  const std::int64_t small = held_with_batch(machine, linear, rows) - before - plan.parameters;
  TrainingSettings twice = linear;
  twice.batch_size = 2 * rows;
  if (rows_of_a_step(twice) <= max_batch_rows) {
    const std::int64_t larger = held_with_batch(machine, linear, 2 * rows) - before - plan.parameters;
    plan.per_row = (larger - small) / rows;
    plan.fixed = small - rows * plan.per_row;
  } else {  // no batch has a second row
    plan.per_row = small;
  }
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
  plan.data = decision.held() + data_rows * order_bytes_per_row;
  return plan;
}

}  // namespace wakesleep
