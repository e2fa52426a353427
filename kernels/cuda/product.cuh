// The integer products of the CUDA backend, by two routes that give the same integers.
//
//   forward:   sums[r][i]     = sum_j states[r][j] * q[i][j]
//   gradient:  gradient[i][j] = sum_r deltas[r][i] * states[r][j]
#pragma once

#include <cstdint>
#include <string>

#include "kernels/cuda/interface.hpp"
#include "kernels/cuda/limbs.hpp"
#include "kernels/cuda/logits.cuh"
#include "kernels/cuda/matmul.cuh"
#include "kernels/cuda/workspace.hpp"

namespace wakesleep::cuda {

/// The integer weights of one conditional on the device.
class CudaWeights : public IntegerWeights {
 public:
  /// All integers zero. Throws UsageError, with the limit named, when `sending` is too wide for exact sums.
  CudaWeights(Ops& ops, CudaRoute route, std::int64_t receiving, std::int64_t sending, int bits,
              std::int32_t largest_input);

  const Limbs& limbs() const { return limbs_; }
  float* scales() const { return scales_.data(); }  ///< scale_of_sum of each receiving unit

 private:
  Limbs limbs_;
  Buffer<std::byte> elements_;
  Buffer<float> scales_;
};

/// The products of one stream, with their working memory.
class Products {
 public:
  Products(Ops& ops, cudaStream_t stream, const BlasHandle& blas, TestElements& test_elements,
           const ProductOptions& options, OutgrownMemory& outgrown);

  /// Working memory for both products of batches of `rows` rows.
  void reserve(const CudaWeights& weights, std::int64_t rows);

  /// What forward() works in, for each row of its input.
  std::int64_t forward_bytes_per_row(const CudaWeights& weights) const;

  /// The pre-activations of `input`, valid until the next product; biases are filled in by the caller.
  Logits forward(const CudaWeights& weights, ConstStates input);

  /// Dense [deltas.columns x states.columns], of states 0 .. largest_state; and bias_gradient = column sums
  /// of the deltas, unless it is null.
  void gradient(ConstDeltas deltas, ConstStates states, std::int32_t* gradient, std::int32_t* bias_gradient,
                std::int32_t largest_state);

  /// The column sums alone.
  void bias_gradient(ConstDeltas deltas, std::int32_t* bias_gradient);

  /// At least `count` zeros, which whoever changes them leaves as zeros.
  std::int32_t* zeros(std::int64_t count);

  /// Multiplies random integers at the route's limits, with states up to largest_state, and compares with
  /// 64-bit sums; throws InternalError, naming route and device, where they differ. Done once per process,
  /// device, route and largest state. Blocks.
  void check_route(const std::string& device, std::int32_t largest_state = 1);

  /// Of Matmul.
  std::string description() const { return matmul_.description(); }

 private:
  /// rows x stride elements of the route's kind; the summed dimension is contiguous.
  struct Operand {
    const void* data = nullptr;
    std::int64_t rows = 0;
    std::int64_t stride = 0;
  };
  /// Where the sums go: the first `columns` of each row.
  struct Result {
    std::int32_t* data = nullptr;
    std::int64_t columns = 0;
    std::int64_t stride = 0;
  };

  /// result[r][i] = sum over `terms` of left[r][.] * right[i][.]. right.rows, `terms` and all strides but the
  /// result's are multiples of 16; |left| |right| <= largest_product.
  void multiply(const Operand& left, const Operand& right, std::int64_t terms, std::int64_t largest_product,
                const Result& result);
  /// One call of cuBLASLt; sums [left.rows x stride] are int32 on the int8 route and float32 on the fp16
  /// route.
  void multiply_piece(const Operand& left, const Operand& right, std::int64_t first_term, std::int64_t terms,
                      void* sums, std::int64_t stride);
  void check_case(std::int64_t terms, std::int32_t largest_left, std::int32_t largest_right,
                  const std::string& device);

  Operand as_operand(ConstStates states);
  std::int64_t terms_at_once(std::int64_t largest_product) const;
  /// Whether one call of cuBLASLt can write the result itself.
  bool direct(const Operand& right, std::int64_t terms, std::int64_t largest_product,
              const Result& result) const;

  Ops& ops_;
  cudaStream_t stream_;
  int ordinal_;
  CudaRoute route_;
  Matmul matmul_;
  Workspace left_, right_;  ///< copies of operands in the form that the route multiplies
  Workspace sums_;          ///< what forward() returns
  Workspace piece_;         ///< sums of one call of cuBLASLt where they need another form
  Workspace zeros_;
  std::int64_t zeros_count_ = 0;
};

}  // namespace wakesleep::cuda
