// Declares the row kernels of the instruction set that this file is compiled for.
#pragma once

#include "kernels/cpu/rows.hpp"

#ifndef WAKESLEEP_INSTRUCTIONS
#error "compiled once per instruction set with -DWAKESLEEP_INSTRUCTIONS=baseline, avx2 or avx512"
#endif

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

void gather_bits(const std::uint8_t* bits, std::int64_t units, std::uint8_t on, std::uint8_t* states);
void gather_grey(const std::uint8_t* grey, std::int64_t units, const RowAddress& address,
                 std::uint8_t* states);
void gather_fixed_point(const std::uint8_t* grey, std::int64_t units, std::uint8_t* states);
void pack_bits(const std::uint8_t* states, std::int64_t units, std::int64_t row_bytes, std::uint8_t* bits);
std::int64_t sample(const LogitRow& logits, std::int64_t units, const RowAddress* addresses,
                    std::uint8_t* states, std::int64_t stride, std::int64_t rows,
                    const StateResults& results);
void sample_in_order(const OrderedWeights& weights, std::int64_t units, const RowAddress* addresses,
                     std::uint8_t* states, std::int64_t stride, std::int64_t rows, std::int32_t* sums);
void delta(const LogitRow& logits, const std::uint8_t* target, float weight, std::int64_t units,
           const RowAddress& address, std::int8_t* deltas);
void round_errors(const float* errors, float weight, std::int64_t units, const RowAddress& address,
                  std::int8_t* deltas);
void shared_delta(const LogitRow& logits, const SharedTargets& targets, std::int64_t units,
                  const RowAddress& address, std::int8_t* deltas);
void shared_coefficient_delta(const LogitRow& logits, const SharedTargets& targets, std::int64_t units,
                              const RowAddress& address, std::int8_t* deltas);
void logits(const LogitRow& row, std::int64_t units, float* values);
std::int64_t score(const LogitRow& logits, std::int64_t units, const std::uint8_t* targets,
                   std::int64_t stride, std::int64_t rows, const StateResults& results);
void probabilities(const LogitRow& logits, std::int64_t units, float* probabilities);
void sum_columns(const std::int8_t* deltas, std::int64_t rows, std::int64_t stride, std::int64_t units,
                 std::int32_t* sums);
void count_columns(const std::uint8_t* states, std::int64_t rows, std::int64_t stride, std::int64_t units,
                   std::int64_t* counts);
std::int32_t largest_integer(const std::int32_t* integers, std::int64_t count);
bool update(float* parameters, float* first, float* second, const std::int32_t* gradient, std::int64_t count,
            bool decayed, const Optimizer& optimizer, const Rates& rates);
bool update_along(float* parameters, float* first, float* second, const float* gradient, std::int64_t count,
                  bool decayed, const Optimizer& optimizer, const Rates& rates);
void natural_gradient(const FisherInverse& inverse, std::int64_t unit, std::int64_t sending,
                      const Rates& rates, const std::int32_t* gradient, std::int32_t bias_gradient,
                      float* natural, float* natural_bias);
void draw_weights(const RowAddress& address, float limit, std::int64_t count, float* weights);
float largest_magnitude(const float* weights, std::int64_t count);
void quantize_limbs(const float* weights, std::int64_t count, float two_to_shift, std::int8_t* high,
                    std::int8_t* low);
void quantize_words(const float* weights, std::int64_t count, float two_to_shift, std::int16_t* words);
void quantize_floats(const float* weights, std::int64_t count, float two_to_shift, float* high, float* low);

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
