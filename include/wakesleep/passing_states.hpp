// The states of a few neighbouring layers, while a chain of samples passes through the machine.
#pragma once

#include <cstdint>
#include <vector>

#include "wakesleep/ops.hpp"

namespace wakesleep {

/// Two layers' states, and one more for each further branch: a branch reads the states of two layers while
/// the main line makes those of the next. Place n takes the memory of place n - (branches + 1).
class PassingStates {
 public:
  PassingStates(Ops& ops, int branches, std::int64_t rows, std::int64_t widest) {
    for (int place = 0; place < branches + 1; ++place) memory_.emplace_back(ops, rows * padded_units(widest));
  }
  States at(int place, std::int64_t rows, std::int64_t units) const {
    return {memory_[static_cast<std::size_t>(place) % memory_.size()].data(), rows, units,
            padded_units(units)};
  }

 private:
  std::vector<Buffer<std::uint8_t>> memory_;
};

}  // namespace wakesleep
