// cuBLAS, loaded when the first GPU backend is made. Linked in the usual way it would be loaded and relocated
// by every program that links this library, 200 MB of resident memory for those that never touch a GPU. The
// functions that the backend uses stand here under their own names, hidden from other libraries, and pass
// each call on.
#pragma GCC visibility push(hidden)
#include <cublas_v2.h>
#pragma GCC visibility pop

#include <dlfcn.h>

#include <string>

#include "wakesleep/error.hpp"

namespace {

void* library() {
  static void* const handle = [] {
    const std::string name = "libcublas.so." + std::to_string(CUBLAS_VER_MAJOR);
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
    throw wakesleep::DeviceError("cuBLAS has no function " + std::string(name) +
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

WAKESLEEP_PASS_ON(cublasStatus_t, cublasCreate_v2, (cublasHandle_t * handle), (handle))
WAKESLEEP_PASS_ON(cublasStatus_t, cublasDestroy_v2, (cublasHandle_t handle), (handle))
WAKESLEEP_PASS_ON(cublasStatus_t, cublasGetVersion_v2, (cublasHandle_t handle, int* version),
                  (handle, version))
WAKESLEEP_PASS_ON(cublasStatus_t, cublasSetStream_v2, (cublasHandle_t handle, cudaStream_t stream),
                  (handle, stream))
WAKESLEEP_PASS_ON(cublasStatus_t, cublasSetWorkspace_v2,
                  (cublasHandle_t handle, void* workspace, size_t bytes), (handle, workspace, bytes))
WAKESLEEP_PASS_ON(cublasStatus_t, cublasSetPointerMode_v2, (cublasHandle_t handle, cublasPointerMode_t mode),
                  (handle, mode))
WAKESLEEP_PASS_ON(cublasStatus_t, cublasSetMathMode, (cublasHandle_t handle, cublasMath_t mode),
                  (handle, mode))
WAKESLEEP_PASS_ON(const char*, cublasGetStatusName, (cublasStatus_t status), (status))
WAKESLEEP_PASS_ON(cublasStatus_t, cublasGemmEx,
                  (cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,
                   int k, const void* alpha, const void* a, cudaDataType a_type, int lda, const void* b,
                   cudaDataType b_type, int ldb, const void* beta, void* c, cudaDataType c_type, int ldc,
                   cublasComputeType_t compute_type, cublasGemmAlgo_t algorithm),
                  (handle, transa, transb, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type,
                   ldc, compute_type, algorithm))

}  // extern "C"
