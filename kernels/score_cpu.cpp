// log p(target) of rows that share their logits, in units of 2^-20 nats: an integer sum, in whatever order.
#include "kernels/cpu/distributions.hpp"
#include "kernels/cpu/instructions.hpp"

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

std::int64_t score(const LogitRow& row, std::int64_t units, const std::uint8_t* targets, std::int64_t stride,
                   std::int64_t rows, const StateResults& results) {
  return with_distribution(row, [&](auto& distribution) {
    alignas(64) std::uint32_t states[stretch_units];
    std::int64_t total = 0;
    for (std::int64_t first = 0; first < units; first += stretch_units) {
      distribution.read(row, first, units, results.scored);
      for (std::int64_t r = 0; r < rows; ++r) {
        widen(targets + r * stride + first, distribution.count, states);
        total += report(distribution, states, r, results);
      }
    }
    return total;
  });
}

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
