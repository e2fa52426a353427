#pragma once

#include <cstdint>

#include "wakesleep/ops.hpp"

namespace wakesleep::cpu {

ImportanceSummary summarize(const std::int64_t* log_weights, std::int64_t samples);

/// relative[k] = e_k; returns their sum.
std::int64_t weigh(const std::int64_t* log_weights, std::int64_t samples, int fraction_bits,
                   std::int32_t* relative);

}  // namespace wakesleep::cpu
