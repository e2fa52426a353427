// One product of two matrices of integers by cuBLASLt. Which of its algorithms is used for a shape is decided
// at the first use of the shape: each candidate is checked against sums in 64-bit integers, on random
// operands and on the real ones, timed on the real ones, and the fastest is kept for the rest of the process.
// Beside them stands a kernel of the engine's own, for few int8 rows and for what cuBLASLt refuses.
#pragma once

#include <cublasLt.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/cuda/check.hpp"
#include "kernels/cuda/interface.hpp"

namespace wakesleep::cuda {

/// cuBLASLt's state, without memory or stream of its own. It may serve several streams.
class BlasHandle {
 public:
  BlasHandle() { WAKESLEEP_CUDA_CHECK(cublasLtCreate(&handle_)); }
  ~BlasHandle() { WAKESLEEP_CUDA_REPORT(cublasLtDestroy(handle_)); }
  BlasHandle(const BlasHandle&) = delete;
  BlasHandle& operator=(const BlasHandle&) = delete;
  cublasLtHandle_t get() const { return handle_; }

 private:
  cublasLtHandle_t handle_ = nullptr;
};

/// How products are made, the same on every lane of a backend.
struct ProductOptions {
  int ordinal = 0;
  CudaRoute route = CudaRoute::int8;
  std::int64_t memory_bytes = 0;  ///< of working memory for cuBLASLt
};

/// sums[r][i] = sum over t < terms of left[r][t] * right[i][t]. Elements are those of the route; sums are
/// int32 on the int8 route and float32 on the fp16 route. right_rows and sums_stride are multiples of 4,
/// terms and the other strides of 16, and every matrix starts at a multiple of 16 bytes.
struct MatmulShape {
  std::int64_t left_rows = 0;
  std::int64_t right_rows = 0;
  std::int64_t terms = 0;
  std::int64_t left_stride = 0;
  std::int64_t right_stride = 0;
  std::int64_t sums_stride = 0;
  auto operator<=>(const MatmulShape&) const = default;
};

/// What algorithms are checked on beside the real operands, in which whatever is 0 at a shape's first use
/// (pixels that are off in a whole batch, a prior that has learnt nothing) could be left out without harm:
/// random elements, each -1, 0 or 1, so that every route holds their sums. One for all lanes of a backend.
class TestElements {
 public:
  TestElements(Ops& ops, CudaRoute route) : ops_(ops), route_(route) {}

  /// At least `count` of them, valid until the next call. Blocks where there are not as many yet, and throws
  /// InternalError if that falls into a recording.
  const std::byte* get(std::int64_t count, cudaStream_t stream);

 private:
  Ops& ops_;
  CudaRoute route_;
  Buffer<std::byte> memory_;
};

/// The products of one stream.
class Matmul {
 public:
  Matmul(Ops& ops, cudaStream_t stream, const BlasHandle& blas, TestElements& test_elements,
         const ProductOptions& options)
      : ops_(ops),
        stream_(stream),
        blas_(blas),
        test_elements_(test_elements),
        options_(options),
        memory_(ops, options.memory_bytes),
        wrong_(ops, 1) {}

  /// Memory for what algorithms of such a product will be checked on: operands of so many elements.
  void reserve(std::int64_t left_elements, std::int64_t right_elements);

  /// Blocks at the first use of a shape, and throws InternalError if that falls into a recording or if no
  /// algorithm gives the right sums.
  void run(const MatmulShape& shape, const void* left, const void* right, void* sums);

  /// "int8 products (cuBLASLt 13.1.0)", with how many algorithms have been dropped and how many shapes the
  /// engine's own kernel multiplies so far, if any.
  std::string description() const;

 private:
  struct Plan;
  struct Plans;
  struct Operands {
    const void* left;
    const void* right;
    void* sums;
  };

  static Plans& plans();
  const Plan& plan_for(const MatmulShape& shape, const Operands& operands);
  Plan choose(const MatmulShape& shape, const Operands& operands);
  /// The same sums of other elements.
  Operands test_operands(const MatmulShape& shape, void* sums);
  Plan described(const MatmulShape& shape) const;
  cublasStatus_t queue(const Plan& plan, const Operands& operands);
  /// Whether the algorithm runs and gives the right sums.
  bool is_right(const Plan& plan, const MatmulShape& shape, const Operands& operands);
  float milliseconds(const Plan& plan, const Operands& operands);

  Ops& ops_;
  cudaStream_t stream_;
  const BlasHandle& blas_;
  TestElements& test_elements_;
  ProductOptions options_;
  Buffer<std::byte> memory_;
  Buffer<std::uint32_t> wrong_;  ///< wrong sums of the algorithm under test
};

}  // namespace wakesleep::cuda
