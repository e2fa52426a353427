// The 3 x 3 lines: the data on which wake-sleep is small enough to be seen exactly. An orientation is drawn,
// vertical twice as often as horizontal, then one or two of the three lines in it; so six of the twelve
// patterns have probability 2/18, and six 1/18.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "reference/small_machines.hpp"
#include "wakesleep/evaluate.hpp"

namespace wakesleep::testing {

/// Each pattern as often as its eighteenths say: 18 rows, pixel (r, c) at 3 r + c.
inline std::vector<Bits> eighteen_lines() {
  std::vector<Bits> rows;
  for (const bool vertical : {true, false}) {
    for (unsigned lines = 1; lines < 7; ++lines) {
      Bits pattern;
      for (unsigned r = 0; r < 3; ++r) {
        for (unsigned c = 0; c < 3; ++c) pattern.push_back(lines >> (vertical ? c : r) & 1u);
      }
      rows.insert(rows.end(), vertical ? 2 : 1, pattern);
    }
  }
  return rows;
}

/// 18 x `copies` rows in exactly the distribution of the lines.
inline DataSet lines_data(std::size_t copies) {
  const std::vector<Bits> once = eighteen_lines();
  std::vector<Bits> rows;
  for (std::size_t copy = 0; copy < copies; ++copy) rows.insert(rows.end(), once.begin(), once.end());
  return data_set_of(rows);
}

/// KL(lines || p) in nats, exactly: by enumeration of the machine's hidden states.
inline double kl_from_lines(const Machine& machine) {
  const std::vector<Bits> rows = eighteen_lines();
  const std::vector<double> log_p = exact_log_likelihood(machine, data_set_of(rows));
  double kl = 0;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const bool vertical = r < 12;
    kl += (std::log(vertical ? 2.0 / 18 : 1.0 / 18) - log_p[r]) / 18;
  }
  return kl;
}

}  // namespace wakesleep::testing
