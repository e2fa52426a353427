// The integer products of the CPU backend, by four routes that give the same integers.
//
//   forward:   sums[r][i]     = sum_j states[r][j] * q[i][j]
//   gradient:  gradient[i][j] = sum_r deltas[r][i] * states[r][j]
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <set>
#include <string>

#include "kernels/cpu/rows.hpp"
#include "kernels/cpu/threads.hpp"
#include "wakesleep/matrix.hpp"
#include "wakesleep/ops.hpp"

namespace wakesleep::cpu {

/// Integer weights as the route reads them: `limbs` matrices [receiving x sending] under each other, the high
/// limb first. int8 and reference: signed bytes. float32: floats that carry integers, one matrix where q
/// itself keeps every partial sum within 2^24. avx2: q itself in panels of receiving units
/// (avx2_product.hpp), as a signed byte of 8 bits or as two bytes; its products are of 0/1 states, so that
/// fixed-point states go by the route int8.
class CpuWeights : public IntegerWeights {
 public:
  /// Throws UsageError, with the limit named, when `sending` is too wide for exact sums.
  CpuWeights(Ops& ops, CpuRoute route, std::int64_t receiving, std::int64_t sending, int bits,
             std::int32_t largest_input = 1);

  /// Writes the integers of receiving unit i and its scale_of_sum.
  void quantize_row(const RowKernels& kernels, std::int64_t i, const float* weights, std::int32_t shift);

  CpuRoute route;  ///< of the products
  int limbs = 1;
  Buffer<std::int8_t> bytes;    ///< [limbs * receiving x sending], routes int8 and reference
  Buffer<float> floats;         ///< the same for float32
  Buffer<std::uint8_t> panels;  ///< route avx2
  Buffer<float> scale;          ///< scale_of_sum of every receiving unit

 private:
  void quantize_panel_row(const RowKernels& kernels, std::int64_t i, const float* weights,
                          float two_to_shift);
};

/// One thread's access to the products: primitives and scratch memory of its own. `reserve_*` makes what a
/// shape needs, may allocate, and is
/// called by the thread that owns the Ops; the products themselves allocate nothing from it.
class Products {
 public:
  Products(Ops& ops, CpuRoute route);
  Products(Products&&) noexcept;
  ~Products();

  void reserve_forward(const CpuWeights& weights, std::int64_t rows, std::int64_t stride);
  /// Sums [states.rows x limbs * receiving] of a piece of a batch, valid until the next call.
  const std::int32_t* forward(const CpuWeights& weights, ConstStates states);

  void reserve_gradient(ConstDeltas deltas, ConstStates states, Range receiving,
                        std::int32_t largest_state = 1);
  /// Rows receiving.begin .. receiving.end - 1 of the dense gradient [deltas.columns x states.columns], of
  /// states 0 .. largest_state.
  void gradient(ConstDeltas deltas, ConstStates states, Range receiving, std::int32_t* gradient,
                std::int32_t largest_state = 1);

 private:
  struct Library;
  using GradientShape = std::array<std::int64_t, 6>;
  Library& library();
  void reserve_gradient_of_all(ConstDeltas deltas, ConstStates states, Range receiving,
                               std::int32_t largest_state);
  void gradient_of_all(ConstDeltas deltas, ConstStates states, Range receiving, std::int32_t* gradient,
                       std::int32_t largest_state);
  std::int64_t copy_rows_with_errors(ConstDeltas deltas, ConstStates states, Range receiving);
  Ops* ops_;
  CpuRoute route_;
  std::unique_ptr<Library> library_;
  Buffer<std::int32_t> sums_;
  Buffer<float> float_left_, float_right_, float_sums_;
  Buffer<std::uint8_t> packed_;  ///< operands as the route avx2 reads them
  std::set<GradientShape> reserved_gradients_;
  Buffer<std::int64_t> chosen_rows_;    ///< that have errors and make up a gradient, ...
  Buffer<std::int8_t> copied_deltas_;   ///< ... their deltas of the receiving units
  Buffer<std::uint8_t> copied_states_;  ///< ... and their states
};

/// Multiplies random integers at the route's limits, with states 0 .. largest_state, and compares with 64-bit
/// sums; throws InternalError where they differ. Done once per process, route and largest state.
void check_route(Ops& ops, CpuRoute route, std::int32_t largest_state = 1);

/// What `best` is on this processor.
CpuRoute best_route();

/// "int8 products (oneDNN 2.6.3)" and the like.
std::string route_text(CpuRoute route);

}  // namespace wakesleep::cpu
