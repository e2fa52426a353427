// log p(target) of one row, in units of 2^-20 nats: an integer sum, in whatever order.
#include "kernels/cpu/instructions.hpp"
#include "kernels/cpu/logits.hpp"

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

std::int64_t score(const LogitRow& row, const std::uint8_t* target, std::int64_t units) {
  alignas(64) float logits[stretch_units];
  std::int64_t sum = 0;
  for (std::int64_t first = 0; first < units; first += stretch_units) {
    const std::int64_t count = units - first < stretch_units ? units - first : stretch_units;
    compute_logits(row, first, count, logits);
    for (std::int64_t i = 0; i < count; ++i) sum += log_bernoulli(target[first + i], logits[i]);
  }
  return sum;
}

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
