// What stands in for the CUDA backend where the program is built without it.
#include "wakesleep/error.hpp"
#include "wakesleep/ops.hpp"

namespace wakesleep {

std::unique_ptr<Ops> make_cuda_ops(const CudaOptions&) {
  throw DeviceError(
      "This program was built without CUDA and cannot use a GPU; build it with the CUDA toolkit installed "
      "and "
      "-DWAKESLEEP_CUDA=ON, or run on the CPU");
}

bool cuda_available(std::string* why_not) {
  if (why_not != nullptr) *why_not = "this program was built without CUDA (build with -DWAKESLEEP_CUDA=ON)";
  return false;
}

}  // namespace wakesleep
