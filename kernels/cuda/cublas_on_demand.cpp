// cuBLASLt, loaded when the first GPU backend is made. Linked in the usual way it would be loaded and
// relocated by every program that links this library, hundreds of megabytes for those that never touch a GPU.
// The functions that the backend uses stand here under their own names, hidden from other libraries, and pass
// each call on.
#pragma GCC visibility push(hidden)
#include <cublasLt.h>
#pragma GCC visibility pop

#include <dlfcn.h>

#include <string>

#include "wakesleep/error.hpp"

namespace {

void* library() {
  static void* const handle = [] {
    const std::string name = "libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR);
    void* const loaded = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (loaded == nullptr) {
      throw wakesleep::DeviceError("cannot load " + name + ", which the GPU's products need: " + dlerror() +
                                   "; install cuBLAS of CUDA " + std::to_string(CUBLAS_VER_MAJOR) +
                                   " or put its folder on LD_LIBRARY_PATH");
    }
    return loaded;
  }();
  return handle;
}

template <class Function>
Function function_named(const char* name) {
  void* const address = dlsym(library(), name);
  if (address == nullptr) {
    throw wakesleep::DeviceError("cuBLASLt has no function " + std::string(name) +
                                 "; install the version that this program was built with");
  }
  return reinterpret_cast<Function>(address);
}

}  // namespace

#define WAKESLEEP_PASS_ON(result, name, parameters, arguments)                \
  result name parameters {                                                    \
    static const auto function = function_named<result(*) parameters>(#name); \
    return function arguments;                                                \
  }

extern "C" {

WAKESLEEP_PASS_ON(cublasStatus_t, cublasLtCreate, (cublasLtHandle_t * handle), (handle))
WAKESLEEP_PASS_ON(cublasStatus_t, cublasLtDestroy, (cublasLtHandle_t handle), (handle))
WAKESLEEP_PASS_ON(size_t, cublasLtGetVersion, (), ())
WAKESLEEP_PASS_ON(const char*, cublasLtGetStatusName, (cublasStatus_t status), (status))
WAKESLEEP_PASS_ON(cublasStatus_t, cublasLtMatmulDescInit_internal,
                  (cublasLtMatmulDesc_t operation, size_t size, cublasComputeType_t compute_type,
                   cudaDataType_t scale_type),
                  (operation, size, compute_type, scale_type))
WAKESLEEP_PASS_ON(cublasStatus_t, cublasLtMatmulDescSetAttribute,
                  (cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute,
                   const void* value, size_t bytes),
                  (operation, attribute, value, bytes))
WAKESLEEP_PASS_ON(cublasStatus_t, cublasLtMatrixLayoutInit_internal,
                  (cublasLtMatrixLayout_t layout, size_t size, cudaDataType type, uint64_t rows,
                   uint64_t columns, int64_t leading_dimension),
                  (layout, size, type, rows, columns, leading_dimension))
WAKESLEEP_PASS_ON(cublasStatus_t, cublasLtMatmulPreferenceInit_internal,
                  (cublasLtMatmulPreference_t preference, size_t size), (preference, size))
WAKESLEEP_PASS_ON(cublasStatus_t, cublasLtMatmulPreferenceSetAttribute,
                  (cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
                   const void* value, size_t bytes),
                  (preference, attribute, value, bytes))
WAKESLEEP_PASS_ON(cublasStatus_t, cublasLtMatmulAlgoGetHeuristic,
                  (cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                   cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                   cublasLtMatmulPreference_t preference, int most, cublasLtMatmulHeuristicResult_t results[],
                   int* count),
                  (handle, operation, a, b, c, d, preference, most, results, count))
WAKESLEEP_PASS_ON(cublasStatus_t, cublasLtMatmul,
                  (cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void* alpha, const void* a,
                   cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                   const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                   cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                   size_t workspace_bytes, cudaStream_t stream),
                  (handle, operation, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout,
                   algorithm, workspace, workspace_bytes, stream))

}  // extern "C"
