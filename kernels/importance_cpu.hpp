#pragma once

#include <cstdint>

#include "wakesleep/ops.hpp"

namespace wakesleep::cpu {

ImportanceSummary summarize(const std::int64_t* log_weights, std::int64_t samples);

}  // namespace wakesleep::cpu
