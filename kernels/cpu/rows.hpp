// The elementwise kernels of the CPU backend, one row at a time. They are compiled once per instruction set
// (namespace WAKESLEEP_INSTRUCTIONS: baseline, avx2, avx512); dispatch.cpp picks a table at run time. Every
// table gives the same bits, because the formulas in include/wakesleep/ are the same IEEE operations in the
// same order.
#pragma once

#include <cstdint>

#include "wakesleep/arithmetic.hpp"
#include "wakesleep/ops.hpp"

namespace wakesleep::cpu {

/// What the logits of one row are made of: kept values, or sum = 256 * high + low (high null: low alone; both
/// null: a prior, 0). And what they are the logits of.
struct LogitRow {
  const float* kept = nullptr;
  const std::int32_t* high = nullptr;
  const std::int32_t* low = nullptr;
  const float* scale = nullptr;  ///< scale_of_sum of every unit; unused for a prior
  const float* bias = nullptr;
  float deviation = 0;  ///< of Gaussian units, whose logits are their means; 0: Bernoulli units
};

/// Address of a row's draws; the unit group completes it.
struct RowAddress {
  std::uint64_t seed = 0;
  std::uint32_t row = 0;
  std::uint32_t step = 0;
  std::uint32_t domain_and_layer = 0;
};

/// The samples of one image that share a row of deltas, and their weights.
struct SharedTargets {
  const std::uint8_t* states = nullptr;  ///< of the first sample
  std::int64_t stride = 0;
  std::int64_t samples = 1;
  const std::int32_t* relative = nullptr;
  std::int64_t total = 1;
  const float* coefficient = nullptr;  ///< instead of the two above
  bool centred = false;
  float scale = 1.0f;
};

/// The integers of an autoregressive prior, those that one unit sends side by side: columns[j * stride + i] =
/// q_ij for i > j; what else stands there is not read.
struct OrderedWeights {
  const std::int16_t* columns = nullptr;
  std::int64_t stride = 0;
  const float* scale = nullptr;
  const float* bias = nullptr;
};

/// Rows that sample_in_order takes through their units together, and how far apart their sums lie: where a
/// layer is as wide as a power of two, the sums of one unit must not all fall into the same set of a cache.
inline constexpr std::int64_t rows_in_order = 16;
constexpr std::int64_t ordered_sums_stride(std::int64_t units) { return units + 16; }

/// What is wanted of rows of states beside the states: their log-probabilities, in 2^-20 nats, and their
/// errors, state - sigma(a), or value - mean of Gaussian units.
struct StateResults {
  bool scored = false;
  std::int64_t* log_probabilities = nullptr;  ///< if scored: [r] += sign * that of row r; may be null
  int sign = 1;
  float* errors = nullptr;  ///< of the first row; may be null
  std::int64_t errors_stride = 0;
};

struct RowKernels {
  const char* name;

  /// A unit that is on has the state `on`.
  void (*gather_bits)(const std::uint8_t* bits, std::int64_t units, std::uint8_t on, std::uint8_t* states);
  void (*gather_grey)(const std::uint8_t* grey, std::int64_t units, const RowAddress& address,
                      std::uint8_t* states);
  void (*gather_fixed_point)(const std::uint8_t* grey, std::int64_t units, std::uint8_t* states);

  /// The bits of a row, as gather_bits reads them, up to `row_bytes` bytes; those of no unit are 0.
  void (*pack_bits)(const std::uint8_t* states, std::int64_t units, std::int64_t row_bytes,
                    std::uint8_t* bits);

  /// Rows of samples that share their logits, row r with the draws at addresses[r]. Returns the sum of their
  /// log-probabilities if they are scored.
  std::int64_t (*sample)(const LogitRow& logits, std::int64_t units, const RowAddress* addresses,
                         std::uint8_t* states, std::int64_t stride, std::int64_t rows,
                         const StateResults& results);
  /// Ops::sample_in_order of up to rows_in_order rows, row r with the draws at addresses[r]. `sums` is
  /// working memory of rows_in_order * ordered_sums_stride(units) integers.
  void (*sample_in_order)(const OrderedWeights& weights, std::int64_t units, const RowAddress* addresses,
                          std::uint8_t* states, std::int64_t stride, std::int64_t rows, std::int32_t* sums);
  void (*delta)(const LogitRow& logits, const std::uint8_t* target, float weight, std::int64_t units,
                const RowAddress& address, std::int8_t* deltas);
  /// deltas = round_delta(weight * errors).
  void (*round_errors)(const float* errors, float weight, std::int64_t units, const RowAddress& address,
                       std::int8_t* deltas);
  void (*shared_delta)(const LogitRow& logits, const SharedTargets& targets, std::int64_t units,
                       const RowAddress& address, std::int8_t* deltas);
  void (*shared_coefficient_delta)(const LogitRow& logits, const SharedTargets& targets, std::int64_t units,
                                   const RowAddress& address, std::int8_t* deltas);
  void (*logits)(const LogitRow& logits, std::int64_t units, float* values);
  /// The same as `sample` with rows of states that are given.
  std::int64_t (*score)(const LogitRow& logits, std::int64_t units, const std::uint8_t* targets,
                        std::int64_t stride, std::int64_t rows, const StateResults& results);
  void (*probabilities)(const LogitRow& logits, std::int64_t units, float* probabilities);

  /// sums[u] = sum over rows of deltas[row][u], for a block of units.
  void (*sum_columns)(const std::int8_t* deltas, std::int64_t rows, std::int64_t stride, std::int64_t units,
                      std::int32_t* sums);
  /// counts[u] += rows in which unit u is on.
  void (*count_columns)(const std::uint8_t* states, std::int64_t rows, std::int64_t stride,
                        std::int64_t units, std::int64_t* counts);

  /// max |g|.
  std::int32_t (*largest_integer)(const std::int32_t* integers, std::int64_t count);
  /// updated_parameter over `count` parameters; false if one of them is no longer finite.
  bool (*update)(float* parameters, float* first, float* second, const std::int32_t* gradient,
                 std::int64_t count, bool decayed, const Optimizer& optimizer, const Rates& rates);
  /// The same along mean gradients.
  bool (*update_along)(float* parameters, float* first, float* second, const float* gradient,
                       std::int64_t count, bool decayed, const Optimizer& optimizer, const Rates& rates);
  /// Ops::natural_gradient of one receiving unit of `sending` weights.
  void (*natural_gradient)(const FisherInverse& inverse, std::int64_t unit, std::int64_t sending,
                           const Rates& rates, const std::int32_t* gradient, std::int32_t bias_gradient,
                           float* natural, float* natural_bias);
  /// Ops::draw_weights of one receiving unit.
  void (*draw_weights)(const RowAddress& address, float limit, std::int64_t count, float* weights);
  /// max |w|, or +infinity when a weight is not finite.
  float (*largest_magnitude)(const float* weights, std::int64_t count);
  /// q = rint(w 2^s) as limbs (high null: low alone, |q| <= 127) ...
  void (*quantize_limbs)(const float* weights, std::int64_t count, float two_to_shift, std::int8_t* high,
                         std::int8_t* low);
  /// ... or as one signed 16-bit integer ...
  void (*quantize_words)(const float* weights, std::int64_t count, float two_to_shift, std::int16_t* words);
  /// ... or as floats that carry integers (high null: q itself in low).
  void (*quantize_floats)(const float* weights, std::int64_t count, float two_to_shift, float* high,
                          float* low);
};

/// Throws DeviceError when this machine lacks the instructions asked for.
const RowKernels& row_kernels(CpuInstructions instructions);

}  // namespace wakesleep::cpu
