// The integer products of a wake-sleep step and nothing else: what a step is measured against.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "wakesleep/ops.hpp"

namespace wakesleep {

/// A callable that runs the 4 forward products and 2 gradient products of every layer pair on `batch_rows`
/// rows of random 0/1 states, with the shapes, weight bits and route of a training step on `ops`, and blocks
/// until they are done. `sizes` from the visible layer upward. `ops` must outlive it.
std::function<void()> bare_products(Ops& ops, const std::vector<std::int64_t>& sizes, int weight_bits,
                                    std::int64_t batch_rows);

}  // namespace wakesleep
