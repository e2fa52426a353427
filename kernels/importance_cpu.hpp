#pragma once

#include <cstdint>

#include "wakesleep/ops.hpp"

namespace wakesleep::cpu {

ImportanceSummary summarize(const std::int64_t* log_weights, std::int64_t samples);

/// One image's chain (Ops::metropolis); returns how many proposals it accepted. `last` is where it ends.
std::int64_t run_chain(const std::int64_t* log_weights, std::int64_t samples, std::uint64_t seed,
                       PhiloxBlock counter, std::int32_t* visits, std::uint32_t& last);

/// relative[k] = e_k; returns their sum.
std::int64_t weigh(const std::int64_t* log_weights, std::int64_t samples, int fraction_bits,
                   std::int32_t* relative);

}  // namespace wakesleep::cpu
