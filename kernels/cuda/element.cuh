// Operands of products hold integers, as signed bytes or as fp16 numbers.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

namespace wakesleep::cuda {

template <class Element>
__device__ Element as_element(std::int32_t value);
template <>
__device__ inline std::int8_t as_element<std::int8_t>(std::int32_t value) {
  return static_cast<std::int8_t>(value);
}
template <>
__device__ inline __half as_element<__half>(std::int32_t value) {
  return __int2half_rn(value);
}

__device__ inline std::int32_t as_integer(std::int8_t element) { return element; }
__device__ inline std::int32_t as_integer(__half element) { return __half2int_rn(element); }

}  // namespace wakesleep::cuda
