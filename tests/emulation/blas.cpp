// Products by plain loops that hold callers to what cuBLASLt documents. Of the algorithms on offer two give
// wrong sums and one refuses to run, so that the choice among them is tested.
#include "cublasLt.h"

#include <type_traits>
#include <vector>

#include "cuda_fp16.h"

namespace {

std::uint64_t runs[emulation::algorithms];

bool aligned(const void* memory) { return reinterpret_cast<std::uintptr_t>(memory) % 16 == 0; }

template <class Value>
cublasStatus_t set(Value& attribute, const void* value, std::size_t bytes) {
  if (value == nullptr || bytes != sizeof(Value)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&attribute, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

/// What is documented for int8 with regular data ordering, and what the engine relies on for fp16.
cublasStatus_t judged(const cublasLtMatmulDescOpaque_t& operation, const cublasLtMatrixLayoutOpaque_t& a,
                      const cublasLtMatrixLayoutOpaque_t& b, const cublasLtMatrixLayoutOpaque_t& d) {
  const bool integers = operation.compute == CUBLAS_COMPUTE_32I;
  if (operation.transpose_a != CUBLAS_OP_T || operation.transpose_b != CUBLAS_OP_N) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  if (a.rows == 0 || a.columns == 0 || b.columns == 0 || a.rows != b.rows || d.rows != a.columns ||
      d.columns != b.columns) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  for (const cublasLtMatrixLayoutOpaque_t* layout : {&a, &b, &d}) {
    if (layout->leading_dimension < static_cast<std::int64_t>(layout->rows))
      return CUBLAS_STATUS_INVALID_VALUE;
  }
  const cudaDataType element = integers ? CUDA_R_8I : CUDA_R_16F;
  const cudaDataType sum = integers ? CUDA_R_32I : CUDA_R_32F;
  if (a.type != element || b.type != element || d.type != sum || operation.scale != sum) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  if (integers && (a.leading_dimension % 4 != 0 || b.leading_dimension % 4 != 0 ||
                   d.leading_dimension % 4 != 0 || a.columns % 4 != 0 || a.rows % 4 != 0)) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  // Not documented, but seen by others; and one number more, because any shape might be refused.
  if (integers && (b.columns <= 16 || b.columns == 31)) return CUBLAS_STATUS_NOT_SUPPORTED;
  return CUBLAS_STATUS_SUCCESS;
}

std::int32_t integer_of(std::int8_t element) { return element; }
std::int32_t integer_of(__half element) { return __half2int_rn(element); }

/// The elements of a matrix, which are integers whatever their type.
template <class Element>
std::vector<std::int32_t> integers_of(const cublasLtMatrixLayoutOpaque_t& layout, const void* elements) {
  std::vector<std::int32_t> integers;
  integers.reserve(layout.rows * layout.columns);
  for (std::uint64_t column = 0; column < layout.columns; ++column) {
    const Element* first =
        static_cast<const Element*>(elements) + column * static_cast<std::uint64_t>(layout.leading_dimension);
    for (std::uint64_t row = 0; row < layout.rows; ++row) integers.push_back(integer_of(first[row]));
  }
  return integers;
}

struct Sums {
  std::int64_t sum = 0;
  std::int64_t magnitudes = 0;
};
Sums sums_of(const std::int32_t* x, const std::int32_t* y, std::uint64_t terms) {
  Sums sums;
  for (std::uint64_t t = 0; t < terms;) {
    std::int32_t sum = 0;  // of so few products that it holds them
    std::int32_t magnitudes = 0;
    for (const std::uint64_t end = t + 4096 < terms ? t + 4096 : terms; t < end; ++t) {
      const std::int32_t product = x[t] * y[t];
      sum += product;
      magnitudes += product < 0 ? -product : product;
    }
    sums.sum += sum;
    sums.magnitudes += magnitudes;
  }
  return sums;
}

template <class Element, class Sum>
void multiply(const cublasLtMatrixLayoutOpaque_t& a_layout, const cublasLtMatrixLayoutOpaque_t& b_layout,
              const cublasLtMatrixLayoutOpaque_t& d_layout, const void* a, const void* b, void* d,
              std::uint64_t first_term) {
  const std::vector<std::int32_t> left = integers_of<Element>(a_layout, a);
  const std::vector<std::int32_t> right = integers_of<Element>(b_layout, b);
  const std::uint64_t terms = a_layout.rows;
  for (std::uint64_t n = 0; n < d_layout.columns; ++n) {
    for (std::uint64_t m = 0; m < d_layout.rows; ++m) {
      const Sums sums = sums_of(left.data() + m * terms + first_term, right.data() + n * terms + first_term,
                                terms - first_term);
      if (sums.sum != static_cast<std::int32_t>(sums.sum)) {
        emulation::fail("a product's sum left the 32-bit integers");
      }
      if (std::is_same_v<Sum, float> && sums.magnitudes > 1 << 24) {
        emulation::fail("a product's sum left the integers that float32 holds in any order");
      }
      static_cast<Sum*>(d)[n * static_cast<std::uint64_t>(d_layout.leading_dimension) + m] =
          static_cast<Sum>(sums.sum);
    }
  }
}

}  // namespace

namespace emulation {
std::uint64_t runs_of(Algorithm algorithm) { return runs[algorithm]; }
}  // namespace emulation

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = nullptr;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t) { return CUBLAS_STATUS_SUCCESS; }
std::size_t cublasLtGetVersion() { return 0; }
const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
      return "another status";
  }
}

cublasStatus_t cublasLtMatmulDescInit(cublasLtMatmulDesc_t operation, cublasComputeType_t compute,
                                      cudaDataType scale) {
  *operation = {compute, scale, CUBLAS_OP_N, CUBLAS_OP_N};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              std::size_t bytes) {
  const bool a = attribute == CUBLASLT_MATMUL_DESC_TRANSA;
  return set(a ? operation->transpose_a : operation->transpose_b, value, bytes);
}
cublasStatus_t cublasLtMatrixLayoutInit(cublasLtMatrixLayout_t layout, cudaDataType type, std::uint64_t rows,
                                        std::uint64_t columns, std::int64_t leading_dimension) {
  *layout = {type, rows, columns, leading_dimension};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceInit(cublasLtMatmulPreference_t preference) {
  *preference = {0, 7, {256, 256, 256, 256}};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, std::size_t bytes) {
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
    return set(preference->memory_bytes, value, bytes);
  if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK)
    return set(preference->reductions, value, bytes);
  return set(preference->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int most,
                                              cublasLtMatmulHeuristicResult_t results[], int* count) {
  *count = 0;
  const cublasStatus_t status = judged(*operation, *a, *b, *d);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  if ((preference->reductions & 4u) != 0)
    emulation::fail("partial sums might be rounded to the type of the output");
  for (std::uint64_t i = 0; i < emulation::algorithms && *count < most; ++i) {
    const std::uint64_t number = b->columns % 2 == 1 ? emulation::algorithms - 1 - i : i;
    results[(*count)++] = {{number}, preference->memory_bytes, CUBLAS_STATUS_SUCCESS};
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void*,
                              cublasLtMatrixLayout_t, void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              std::size_t workspace_bytes, cudaStream_t stream) {
  const cublasStatus_t status = judged(*operation, *a_layout, *b_layout, *d_layout);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  if (!aligned(a) || !aligned(b) || !aligned(d) || !aligned(workspace)) return CUBLAS_STATUS_NOT_SUPPORTED;
  const bool integers = operation->compute == CUBLAS_COMPUTE_32I;
  const bool plain =
      integers ? *static_cast<const std::int32_t*>(alpha) == 1 && *static_cast<const std::int32_t*>(beta) == 0
               : *static_cast<const float*>(alpha) == 1.0f && *static_cast<const float*>(beta) == 0.0f;
  if (!plain || algorithm->number == emulation::refused) return CUBLAS_STATUS_NOT_SUPPORTED;
  const auto product = [=, number = algorithm->number, a_shape = *a_layout, b_shape = *b_layout,
                        d_shape = *d_layout] {
    ++runs[number];
    if (workspace_bytes > 0) {
      static_cast<char*>(workspace)[0] = 0x5A;
      static_cast<char*>(workspace)[workspace_bytes - 1] = 0x5A;
    }
    char* const last_sum =
        static_cast<char*>(d) +
        4 * ((d_shape.columns - 1) * static_cast<std::uint64_t>(d_shape.leading_dimension) + d_shape.rows -
             1);
    std::uint32_t was_there = 0;
    std::memcpy(&was_there, last_sum, sizeof(was_there));
    const std::uint64_t first_term = number == emulation::forgetful ? 1 : 0;
    if (integers) {
      multiply<std::int8_t, std::int32_t>(a_shape, b_shape, d_shape, a, b, d, first_term);
    } else {
      multiply<__half, float>(a_shape, b_shape, d_shape, a, b, d, first_term);
    }
    if (number == emulation::incomplete) {
      std::memcpy(last_sum, &was_there, sizeof(was_there));
    } else if (number != emulation::forgetful) {
      emulation::spend(number == emulation::slow ? 100 : 10);
    }
  };
  return emulation::queue(stream, product) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                          : CUBLAS_STATUS_NOT_SUPPORTED;
}
