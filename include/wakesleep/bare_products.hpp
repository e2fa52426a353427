// The integer products of a training step and nothing else: what a step is measured against.
#pragma once

#include <functional>
#include <vector>

#include "wakesleep/ops.hpp"
#include "wakesleep/settings.hpp"

namespace wakesleep {

/// A callable that runs the products that a step of the settings' algorithm cannot do without, on batch_size
/// rows of random 0/1 states (K times as many where K samples are drawn), with the shapes, weight bits and
/// route of a training step on `ops`, and blocks until they are done. For every layer pair of wake-sleep: 4
/// forward products and 2 gradients. With K samples: the samples and their scores once, both gradients, and
/// the sleep phase if there is one; the first recognition layer on batch_size rows. `sizes` from the visible
/// layer upward. `ops` must outlive it.
std::function<void()> bare_products(Ops& ops, const std::vector<std::int64_t>& sizes,
                                    const TrainingSettings& settings);

}  // namespace wakesleep
