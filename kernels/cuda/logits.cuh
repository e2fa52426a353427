// Where the kernels find the pre-activations of a conditional.
#pragma once

#include <cstdint>

#include "wakesleep/arithmetic.hpp"
#include "wakesleep/portable.hpp"

namespace wakesleep::cuda {

/// Integer sums as the products leave them, and what turns them into pre-activations. A prior has biases
/// only.
struct Logits {
  const std::int32_t* sums = nullptr;  ///< [input rows x stride]; null for a prior
  std::int64_t stride = 0;
  std::int64_t low_limb_offset =
      0;  ///< columns from a unit's sum of high limbs to that of low limbs; 0: one limb
  const float* scales = nullptr;  ///< 2^-s of each unit
  const float* bias = nullptr;
};

/// The pre-activation of one unit given one input row.
WAKESLEEP_HOST_DEVICE float logit(const Logits& logits, std::int64_t row, std::int64_t unit) {
  if (logits.sums == nullptr) return pre_activation(0, 1.0f, logits.bias[unit]);
  const std::int32_t* sums = logits.sums + row * logits.stride + unit;
  std::uint32_t sum = static_cast<std::uint32_t>(sums[0]);
  // Unsigned, since 256 * high alone may leave the 32 bits that the whole sum fits.
  if (logits.low_limb_offset != 0)
    sum = sum * 256u + static_cast<std::uint32_t>(sums[logits.low_limb_offset]);
  return pre_activation(static_cast<std::int32_t>(sum), logits.scales[unit], logits.bias[unit]);
}

}  // namespace wakesleep::cuda
