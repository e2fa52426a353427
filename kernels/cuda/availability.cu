#include "kernels/cuda/availability.hpp"

#include <dlfcn.h>

#include "kernels/cuda/check.hpp"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/kernels.cuh"

namespace wakesleep::cuda {
namespace {

/// "13.0" of 13000.
std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string capability_text(const cudaDeviceProp& properties) {
  return std::to_string(properties.major) + "." + std::to_string(properties.minor);
}

struct Versions {
  int driver = 0;
  int runtime = 0;
};
Versions versions() {
  Versions found;
  WAKESLEEP_CUDA_CHECK(cudaDriverGetVersion(&found.driver));  // 0 where there is no driver
  WAKESLEEP_CUDA_CHECK(cudaRuntimeGetVersion(&found.runtime));
  return found;
}

/// Why the program has no machine code for the current device, if it has none.
std::string why_no_kernels(int ordinal) {
  const cudaError_t error = find_kernel_image();
  if (error == cudaSuccess) return "";
  cudaGetLastError();
  const cudaDeviceProp properties = properties_of(ordinal);
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction ||
      error == cudaErrorUnsupportedPtxVersion) {
    return "this program was built without code for the compute capability " + capability_text(properties) +
           " of " + properties.name +
           "; build it with -DCMAKE_CUDA_ARCHITECTURES=" + std::to_string(properties.major) +
           std::to_string(properties.minor);
  }
  return std::string("looking for kernels on ") + properties.name + " failed with " + describe(error);
}

}  // namespace

bool has_context(int ordinal) noexcept {
  // The runtime has loaded the driver by now. It has no function of its own for this, and its way to the
  // driver's functions may open a context.
  using GetState = int (*)(int ordinal, unsigned int* flags, int* active);
  static const GetState get_state = [] {
    void* const driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    return reinterpret_cast<GetState>(
        dlsym(driver != nullptr ? driver : RTLD_DEFAULT, "cuDevicePrimaryCtxGetState"));
  }();
  unsigned int flags = 0;
  int active = 0;
  return get_state == nullptr || get_state(ordinal, &flags, &active) != 0 || active != 0;
}

cudaDeviceProp properties_of(int ordinal) {
  cudaDeviceProp properties;
  WAKESLEEP_CUDA_CHECK(cudaGetDeviceProperties(&properties, ordinal));
  return properties;
}

std::string why_unusable(int ordinal) {
  const Versions found = versions();
  const std::string needed = "CUDA " + version_text(found.runtime);
  if (found.driver == 0) {
    return "no NVIDIA driver is installed; this program needs one for " + needed + " or newer";
  }
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess) cudaGetLastError();
  if (error == cudaErrorInsufficientDriver) {
    return "the NVIDIA driver is too old: it supports CUDA " + version_text(found.driver) +
           ", and this program needs " + needed + "; update the driver or build with an older toolkit";
  }
  if (error == cudaErrorNoDevice || (error == cudaSuccess && devices == 0)) {
    return "the NVIDIA driver finds no GPU; if there is one, see what CUDA_VISIBLE_DEVICES says";
  }
  if (error != cudaSuccess) return "asking the NVIDIA driver for its GPUs failed with " + describe(error);
  if (ordinal < 0 || ordinal >= devices) {
    return "there is no GPU number " + std::to_string(ordinal) + " among the " + std::to_string(devices) +
           " of this machine, which are numbered from 0";
  }
  const CurrentDevice current(ordinal);
  return why_no_kernels(ordinal);
}

std::string description_of(const cudaDeviceProp& properties) {
  const Versions found = versions();
  return std::string(properties.name) + ", compute capability " + capability_text(properties) +
         ", CUDA driver " + version_text(found.driver) + ", runtime " + version_text(found.runtime);
}

}  // namespace wakesleep::cuda
