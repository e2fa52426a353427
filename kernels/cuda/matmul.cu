#include "kernels/cuda/matmul.cuh"

#include <array>
#include <limits>
#include <map>
#include <mutex>
#include <tuple>

#include "kernels/cuda/capture.hpp"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/limbs.hpp"
#include "kernels/cuda/philox.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/several.cuh"
#include "kernels/cuda/stream.hpp"

namespace wakesleep::cuda {
namespace {

constexpr int most_candidates = 16;
constexpr int timed_runs = 4;
constexpr std::uint32_t alignment = 16;  ///< of every matrix, in bytes
constexpr std::int64_t checked_sums = 512;

const char* name_of(CudaRoute route) { return route == CudaRoute::int8 ? "int8" : "fp16"; }

cudaDataType element_type(CudaRoute route) { return route == CudaRoute::int8 ? CUDA_R_8I : CUDA_R_16F; }
cudaDataType sum_type(CudaRoute route) { return route == CudaRoute::int8 ? CUDA_R_32I : CUDA_R_32F; }
cublasComputeType_t compute_type(CudaRoute route) {
  return route == CudaRoute::int8 ? CUBLAS_COMPUTE_32I : CUBLAS_COMPUTE_32F;
}

std::string text_of(const MatmulShape& shape) {
  return std::to_string(shape.left_rows) + " x " + std::to_string(shape.right_rows) + " sums of " +
         std::to_string(shape.terms) + " terms";
}

bool aligned(const void* matrix) { return reinterpret_cast<std::uintptr_t>(matrix) % alignment == 0; }

/// The sum that a warp checks: half of them lie on the last row or in the last column, where tiles are cut
/// off.
struct CheckedSum {
  std::int64_t left_row;
  std::int64_t right_row;
};
__device__ CheckedSum checked_sum(std::int64_t index, const MatmulShape& shape) {
  const PhiloxBlock random = random_block({{static_cast<std::uint32_t>(index), 0, 0, 0}}, 1);
  CheckedSum sum = {static_cast<std::int64_t>(random.word[0]) % shape.left_rows,
                    static_cast<std::int64_t>(random.word[1]) % shape.right_rows};
  if (index % 4 == 0) sum.left_row = shape.left_rows - 1;
  if (index % 4 == 1 || index == 0) sum.right_row = shape.right_rows - 1;
  return sum;
}

/// One warp adds up one of checked_sums sums again, in 64-bit integers.
template <class Element, class Sum>
__global__ void check_kernel(MatmulShape shape, const Element* left, const Element* right, const Sum* sums,
                             std::uint32_t* wrong) {
  const CheckedSum place = checked_sum(position().row, shape);
  std::int64_t expected = 0;
  for (std::int64_t term = threadIdx.x; term < shape.terms; term += warp_lanes) {
    expected += std::int64_t{as_integer(left[place.left_row * shape.left_stride + term])} *
                as_integer(right[place.right_row * shape.right_stride + term]);
  }
  expected = warp_reduce(expected, Plus{});
  // Both fit a double exactly, which also tells a sum that is no number.
  const double found = static_cast<double>(sums[place.left_row * shape.sums_stride + place.right_row]);
  if (threadIdx.x == 0 && found != static_cast<double>(expected)) atomicAdd(wrong, 1u);
}

template <class Element, class Sum>
void queue_check(cudaStream_t stream, const MatmulShape& shape, const void* left, const void* right,
                 const void* sums, std::uint32_t* wrong) {
  launch(check_kernel<Element, Sum>, over_rows(checked_sums, warp_lanes), stream, shape,
         static_cast<const Element*>(left), static_cast<const Element*>(right), static_cast<const Sum*>(sums),
         wrong);
}

template <class Element>
__global__ void test_elements_kernel(std::int64_t count, Element* elements) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const PhiloxBlock random =
      random_block({{static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i >> 32), 1, 0}}, 1);
  elements[i] = as_element<Element>(static_cast<std::int32_t>(random.word[0] % 3) - 1);
}

/// What the engine's own kernel sums at a time, so that it reads a row on the right once for so many on the
/// left.
constexpr int own_left_rows = 16;

/// Products that cuBLASLt may refuse: its int8 kernels have been seen to refuse 16 rows or fewer on the left,
/// which are a small batch or the gradient of a small layer. One warp for each row on the right.
__global__ void own_product_kernel(MatmulShape shape, const std::int8_t* left, const std::int8_t* right,
                                   std::int32_t* sums) {
  const std::int64_t right_row = position().row;
  if (right_row >= shape.right_rows) return;
  const std::int64_t first_left = std::int64_t{own_left_rows} * blockIdx.y;
  const auto four_words = [](const std::int8_t* elements) {
    return load<4>(reinterpret_cast<const std::int32_t*>(elements));
  };
  std::int32_t sum[own_left_rows] = {};
  for (std::int64_t term = 16 * threadIdx.x; term < shape.terms; term += 16 * warp_lanes) {
    const Several<std::int32_t, 4> right_terms = four_words(right + right_row * shape.right_stride + term);
#pragma unroll
    for (int r = 0; r < own_left_rows; ++r) {
      if (first_left + r >= shape.left_rows) continue;
      const Several<std::int32_t, 4> left_terms =
          four_words(left + (first_left + r) * shape.left_stride + term);
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        sum[r] = __dp4a(left_terms.element[word], right_terms.element[word], sum[r]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < own_left_rows; ++r) {
    if (first_left + r >= shape.left_rows) continue;  // the same in all lanes
    const std::int32_t total = warp_reduce(sum[r], Plus{});
    if (threadIdx.x == 0) sums[(first_left + r) * shape.sums_stride + right_row] = total;
  }
}

template <class Value>
void set(cublasLtMatmulDesc_t description, cublasLtMatmulDescAttributes_t attribute, Value value) {
  WAKESLEEP_CUDA_CHECK(cublasLtMatmulDescSetAttribute(description, attribute, &value, sizeof(value)));
}
template <class Value>
void set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute, Value value) {
  WAKESLEEP_CUDA_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)));
}

/// What an algorithm must be content with. Intermediate results are never rounded to the type of the output.
cublasLtMatmulPreferenceOpaque_t preference_of(std::int64_t memory_bytes) {
  cublasLtMatmulPreferenceOpaque_t preference;
  WAKESLEEP_CUDA_CHECK(cublasLtMatmulPreferenceInit(&preference));
  set(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(memory_bytes));
  set(&preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_INPLACE |
                                 CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  for (const auto matrix :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    set(&preference, matrix, alignment);
  }
  return preference;
}

}  // namespace

const std::byte* TestElements::get(std::int64_t count, cudaStream_t stream) {
  if (count * element_bytes(route_) > memory_.size()) {
    refuse_while_capturing("more elements to check products on");
    memory_ = {};  // freed before more is allocated
    memory_ = Buffer<std::byte>(ops_, count * element_bytes(route_));
    if (route_ == CudaRoute::int8) {
      launch(test_elements_kernel<std::int8_t>, over_elements(count), stream, count,
             reinterpret_cast<std::int8_t*>(memory_.data()));
    } else {
      launch(test_elements_kernel<__half>, over_elements(count), stream, count,
             reinterpret_cast<__half*>(memory_.data()));
    }
    WAKESLEEP_CUDA_CHECK(cudaStreamSynchronize(stream));  // other lanes will read them
  }
  return memory_.data();
}

void Matmul::reserve(std::int64_t left_elements, std::int64_t right_elements) {
  test_elements_.get(left_elements + right_elements, stream_);
}

Matmul::Operands Matmul::test_operands(const MatmulShape& shape, void* sums) {
  const std::int64_t left = shape.left_rows * shape.left_stride;
  const std::int64_t right = shape.right_rows * shape.right_stride;
  const std::byte* const elements = test_elements_.get(left + right, stream_);
  return {elements, elements + left * element_bytes(options_.route), sums};
}

/// A product as cuBLASLt wants it described, and the algorithm that makes it, or that the engine's own kernel
/// does. Plain values: nothing to release.
struct Matmul::Plan {
  MatmulShape shape;
  bool own = false;
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t right;
  cublasLtMatrixLayoutOpaque_t left;
  cublasLtMatrixLayoutOpaque_t sums;
  cublasLtMatmulAlgo_t algorithm;
};

/// The plans of the process, and for each device and route how many algorithms it has been denied and how
/// many shapes the engine's own kernel multiplies.
struct Matmul::Plans {
  std::mutex mutex;
  std::map<std::tuple<int, CudaRoute, std::int64_t, MatmulShape>, Plan> chosen;
  std::map<std::pair<int, CudaRoute>, int> dropped;
  std::map<std::pair<int, CudaRoute>, int> own;
};

Matmul::Plans& Matmul::plans() {
  static Plans plans;
  return plans;
}

/// cuBLASLt stores matrices by columns, so our row-major matrices are the transposes of what it sees. With
///   A = right, lda = right_stride: it sees right^T (terms x right_rows), and takes op(A) = its transpose
///   B = left,  ldb = left_stride:  it sees left^T (terms x left_rows), and takes op(B) as it is
/// D = op(A) op(B) = right . left^T is right_rows x left_rows by columns, which is left . right^T by rows.
///
/// Both operands have their summed dimension contiguous, the form ("TN") that integer matrix units want.
/// cuBLAS documents for its int8 kernels on them (cublasLtMatmul, "To use IMMA kernels", regular data
/// ordering): pointers aligned to 4 bytes, better 16; leading dimensions of A, B and C multiples of 4; m and
/// k multiples of 4. Some devices refuse other shapes, so m, k and the leading dimensions of operands are
/// padded to 16 throughout. n is free by the documentation, and yet has been refused where it is small:
/// own_product_kernel stands in. fp16 has no such rules but is fastest with the same padding.
Matmul::Plan Matmul::described(const MatmulShape& shape) const {
  const auto extent = [](std::int64_t value) { return static_cast<std::uint64_t>(value); };
  const cudaDataType element = element_type(options_.route);
  const cudaDataType sum = sum_type(options_.route);
  Plan plan;
  plan.shape = shape;
  WAKESLEEP_CUDA_CHECK(cublasLtMatmulDescInit(&plan.operation, compute_type(options_.route), sum));
  set(&plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, static_cast<std::int32_t>(CUBLAS_OP_T));
  set(&plan.operation, CUBLASLT_MATMUL_DESC_TRANSB, static_cast<std::int32_t>(CUBLAS_OP_N));
  WAKESLEEP_CUDA_CHECK(cublasLtMatrixLayoutInit(&plan.right, element, extent(shape.terms),
                                                extent(shape.right_rows), shape.right_stride));
  WAKESLEEP_CUDA_CHECK(cublasLtMatrixLayoutInit(&plan.left, element, extent(shape.terms),
                                                extent(shape.left_rows), shape.left_stride));
  WAKESLEEP_CUDA_CHECK(cublasLtMatrixLayoutInit(&plan.sums, sum, extent(shape.right_rows),
                                                extent(shape.left_rows), shape.sums_stride));
  return plan;
}

cublasStatus_t Matmul::queue(const Plan& plan, const Operands& operands) {
  if (plan.own) {
    const std::int64_t tiles = (plan.shape.left_rows + own_left_rows - 1) / own_left_rows;
    launch(own_product_kernel, over_rows(plan.shape.right_rows, tiles * warp_lanes), stream_, plan.shape,
           static_cast<const std::int8_t*>(operands.left), static_cast<const std::int8_t*>(operands.right),
           static_cast<std::int32_t*>(operands.sums));
    return CUBLAS_STATUS_SUCCESS;
  }
  // The library takes descriptors as pointers to what it does not change.
  Plan& described = const_cast<Plan&>(plan);
  const std::int32_t integer[] = {1, 0};
  const float real[] = {1.0f, 0.0f};
  const bool integers = options_.route == CudaRoute::int8;
  const void* one = integers ? static_cast<const void*>(&integer[0]) : &real[0];
  const void* zero = integers ? static_cast<const void*>(&integer[1]) : &real[1];
  return cublasLtMatmul(blas_.get(), &described.operation, one, operands.right, &described.right,
                        operands.left, &described.left, zero, operands.sums, &described.sums, operands.sums,
                        &described.sums, &plan.algorithm, memory_.data(), memory_.bytes(), stream_);
}

bool Matmul::is_right(const Plan& plan, const MatmulShape& shape, const Operands& operands) {
  // Nothing that an algorithm tried before has written may pass for this one's sums.
  WAKESLEEP_CUDA_CHECK(
      cudaMemset2DAsync(operands.sums, static_cast<std::size_t>(shape.sums_stride) * sizeof(std::int32_t),
                        0xA5, static_cast<std::size_t>(shape.right_rows) * sizeof(std::int32_t),
                        static_cast<std::size_t>(shape.left_rows), stream_));
  if (queue(plan, operands) != CUBLAS_STATUS_SUCCESS) {
    cudaGetLastError();
    return false;
  }
  WAKESLEEP_CUDA_CHECK(cudaMemsetAsync(wrong_.data(), 0, wrong_.bytes(), stream_));
  if (options_.route == CudaRoute::int8) {
    queue_check<std::int8_t, std::int32_t>(stream_, shape, operands.left, operands.right, operands.sums,
                                           wrong_.data());
  } else {
    queue_check<__half, float>(stream_, shape, operands.left, operands.right, operands.sums, wrong_.data());
  }
  std::uint32_t wrong = 0;
  WAKESLEEP_CUDA_CHECK(
      cudaMemcpyAsync(&wrong, wrong_.data(), wrong_.bytes(), cudaMemcpyDeviceToHost, stream_));
  WAKESLEEP_CUDA_CHECK(cudaStreamSynchronize(stream_));
  return wrong == 0;
}

float Matmul::milliseconds(const Plan& plan, const Operands& operands) {
  Stopwatch stopwatch;
  stopwatch.start(stream_);
  for (int i = 0; i < timed_runs; ++i) WAKESLEEP_CUDA_CHECK(queue(plan, operands));
  return stopwatch.stop(stream_);
}

/// Leaves the sums of the candidate that was tried last, right or wrong.
Matmul::Plan Matmul::choose(const MatmulShape& shape, const Operands& operands) {
  const std::string product = std::string("The ") + name_of(options_.route) + " product of " + text_of(shape);
  refuse_while_capturing("a product of a shape that had not been made before");
  if (!aligned(operands.left) || !aligned(operands.right) || !aligned(operands.sums)) {
    throw InternalError(product + " has a matrix that is not aligned to " + std::to_string(alignment) +
                        " bytes; allocate it with Ops::allocate");
  }
  Plan plan = described(shape);
  cublasLtMatmulPreferenceOpaque_t preference = preference_of(options_.memory_bytes);
  std::array<cublasLtMatmulHeuristicResult_t, most_candidates> candidates = {};
  int count = 0;
  const cublasStatus_t asked =
      cublasLtMatmulAlgoGetHeuristic(blas_.get(), &plan.operation, &plan.right, &plan.left, &plan.sums,
                                     &plan.sums, &preference, most_candidates, candidates.data(), &count);
  if (asked != CUBLAS_STATUS_SUCCESS) count = 0;
  const Operands test = test_operands(shape, operands.sums);
  // Other lanes may be at work, which would be measured with the candidates.
  ops_.synchronize();
  Plan fastest = plan;
  float least = std::numeric_limits<float>::infinity();
  int dropped = 0;
  const auto consider = [&](const Plan& candidate) {
    if (!is_right(candidate, shape, test) || !is_right(candidate, shape, operands)) {
      ++dropped;
      return;
    }
    const float time = milliseconds(candidate, operands);
    if (time >= least) return;
    least = time;
    fastest = candidate;
  };
  for (int i = 0; i < count; ++i) {
    const cublasLtMatmulHeuristicResult_t& candidate = candidates[static_cast<std::size_t>(i)];
    if (candidate.state != CUBLAS_STATUS_SUCCESS) continue;
    plan.algorithm = candidate.algo;
    consider(plan);
  }
  const bool none_is_right = least == std::numeric_limits<float>::infinity();
  if (options_.route == CudaRoute::int8 && (shape.left_rows <= own_left_rows || none_is_right)) {
    plan.own = true;
    consider(plan);
  }
  plans().dropped[{options_.ordinal, options_.route}] += dropped;
  if (least == std::numeric_limits<float>::infinity()) {
    throw InternalError(product +
                        (dropped > 0 ? " failed its check with every one of the " + std::to_string(dropped) +
                                           " algorithms that there are"
                                     : " has no algorithm in cuBLASLt (" + describe(asked) + ")") +
                        "; use the other route or another device");
  }
  if (fastest.own) ++plans().own[{options_.ordinal, options_.route}];
  return fastest;
}

const Matmul::Plan& Matmul::plan_for(const MatmulShape& shape, const Operands& operands) {
  const std::tuple key{options_.ordinal, options_.route, options_.memory_bytes, shape};
  const std::lock_guard<std::mutex> lock(plans().mutex);
  const auto known = plans().chosen.find(key);
  if (known != plans().chosen.end()) return known->second;
  return plans().chosen.emplace(key, choose(shape, operands)).first->second;
}

void Matmul::run(const MatmulShape& shape, const void* left, const void* right, void* sums) {
  const Operands operands{left, right, sums};
  WAKESLEEP_CUDA_CHECK(queue(plan_for(shape, operands), operands));
}

std::string Matmul::description() const {
  const std::size_t version = cublasLtGetVersion();
  const std::lock_guard<std::mutex> lock(plans().mutex);
  const int dropped = plans().dropped[{options_.ordinal, options_.route}];
  const int own = plans().own[{options_.ordinal, options_.route}];
  return std::string(name_of(options_.route)) + " products (cuBLASLt " + std::to_string(version / 10000) +
         "." + std::to_string(version / 100 % 100) + "." + std::to_string(version % 100) +
         (dropped > 0 ? ", without " + std::to_string(dropped) + " algorithms that failed a check" : "") +
         (own > 0 ? ", " + std::to_string(own) + " shapes by the engine's own kernel" : "") + ")";
}

}  // namespace wakesleep::cuda
