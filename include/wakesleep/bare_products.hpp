// Integer products and nothing else: those of a training step, which the step is measured against, and large
// ones, which show what the device can do.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "wakesleep/memory_plan.hpp"
#include "wakesleep/ops.hpp"
#include "wakesleep/settings.hpp"

namespace wakesleep {

/// Products that can be run again and again. The Ops that they were made for must outlive them.
struct BareProducts {
  /// Runs them all so many times and blocks until the last is done. Where the backend makes recordings, they
  /// are replayed as a trainer's steps are: as many at a time, once they have run for the first time.
  std::function<void(std::int64_t times)> run;
  /// Of one run: rows x receiving x sending units of every product, forward or gradient. What a route makes
  /// of a product is not counted: the second limb of 12- and 16-bit weights, padding, a transposed operand.
  std::int64_t multiply_adds = 0;
};

/// The products of a step of the settings' algorithm, each by itself with its sums in memory (a GPU's step
/// may make them together with what follows, and take less time), on batch_size rows of random 0/1 states (K
/// times as many where K samples are drawn), with the shapes, weight bits and route of a training step on
/// `ops`. For every layer pair of wake-sleep: 4 forward products and 2 gradients. With K samples: the
/// samples and their scores once, both gradients, and the sleep phase if there is one; the first recognition
/// layer on batch_size rows. An autoregressive prior adds its scores and its gradient, as whole squares.
/// `sizes` from the visible layer upward.
BareProducts bare_products(Ops& ops, const std::vector<std::int64_t>& sizes,
                           const TrainingSettings& settings);

/// Adds to the plan of a training of these sizes and settings what bare_products() holds beside it: a
/// machine, states and deltas of every layer, and a gradient.
void add_bare_products(MemoryPlan& plan, const std::vector<std::int64_t>& sizes,
                       const TrainingSettings& settings);

/// One forward product of `width` rows, as many sending and as many receiving units, with 8-bit weights: each
/// multiply-add once on every route, and every dimension long. Weights and 0/1 states are random, since
/// hardware may be faster on others.
BareProducts square_product(Ops& ops, std::int64_t width);

}  // namespace wakesleep
