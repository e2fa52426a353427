// Products with 0/1 states for processors that have AVX2 but no instructions for 8-bit dot products (VNNI).
//
// An element of the result is a sum over terms. The terms are taken in steps of 4 bytes: four terms of 8 bits
// or two of 16. One instruction multiplies the 4 bytes of a row of the left operand, broadcast, with those of
// 8 columns of the right operand. So the right operand lies in panels of 16 columns, and a panel step by
// step:
//
//     step 0   | column 0: 4 bytes | column 1: 4 bytes | ... | column 15: 4 bytes |      64 bytes
//     step 1   | column 0: 4 bytes | ...
//
// Terms and columns that fill up the last step and panel are zeros.
#pragma once

#include <cstdint>

#include "kernels/cpu/threads.hpp"
#include "wakesleep/matrix.hpp"

namespace wakesleep::cpu {

constexpr std::int64_t panel_columns = 16;
constexpr std::int64_t step_bytes = 4;

/// Steps of `terms` terms.
constexpr std::int64_t steps_for(std::int64_t terms, std::int64_t bytes_a_term) {
  return (terms * bytes_a_term + step_bytes - 1) / step_bytes;
}

/// Bytes of the panels of an operand [terms x columns].
constexpr std::int64_t panel_bytes(std::int64_t terms, std::int64_t columns, std::int64_t bytes_a_term) {
  const std::int64_t panels = (columns + panel_columns - 1) / panel_columns;
  return panels * steps_for(terms, bytes_a_term) * panel_columns * step_bytes;
}

/// The functions are compiled with AVX2, hence the table (avx2_products in dispatch.cpp).
struct Avx2Products {
  /// sums[r][i] = sum_j states[r][j] * weights[i][j] for `receiving` units, dense; the weights are panels of
  /// 8-bit terms of magnitude at most 127. Rows of states are padded to whole steps, with anything.
  void (*forward_bytes)(ConstStates states, const std::uint8_t* weights, std::int64_t receiving,
                        std::int32_t* sums);

  /// The same with 16-bit terms; the sums fit 32 bits. `scratch`: forward_scratch() bytes.
  void (*forward_words)(ConstStates states, const std::uint8_t* weights, std::int64_t receiving,
                        std::uint8_t* scratch, std::int32_t* sums);

  /// gradient[i][j] = sum_r deltas[r][units.begin + i] * states[r][j] for the units of a range, dense.
  /// `scratch`: gradient_scratch() bytes.
  void (*gradient)(ConstDeltas deltas, ConstStates states, Range units, std::uint8_t* scratch,
                   std::int32_t* gradient);
};

constexpr std::int64_t forward_scratch(std::int64_t rows, std::int64_t sending) {
  return rows * steps_for(sending, 2) * step_bytes;
}

/// Rows whose deltas and states are packed at a time.
constexpr std::int64_t gradient_rows = 1024;

constexpr std::int64_t gradient_scratch(std::int64_t rows, std::int64_t units) {
  const std::int64_t packed = rows < gradient_rows ? rows : gradient_rows;
  return panel_bytes(packed, units, 1) + panel_bytes(packed, panel_columns, 1);
}

/// Null on a processor without AVX2.
const Avx2Products* avx2_products();

}  // namespace wakesleep::cpu
