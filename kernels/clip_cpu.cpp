// The largest magnitude of a gradient.
#include "kernels/cpu/instructions.hpp"

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

std::int32_t largest_integer(const std::int32_t* integers, std::int64_t count) {
  std::int32_t largest = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int32_t magnitude = integers[i] < 0 ? -integers[i] : integers[i];
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest;
}

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
