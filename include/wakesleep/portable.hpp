// What lets one definition serve the host compiler and nvcc alike. Nothing else belongs here.
#pragma once

// `static`, because the CPU kernels compile these functions once per instruction set: a shared inline
// function could be linked in its AVX-512 form into code that runs where there is none.
#if defined(__CUDACC__)
#define WAKESLEEP_HOST_DEVICE static __host__ __device__ inline
#else
#define WAKESLEEP_HOST_DEVICE static inline
#endif

namespace wakesleep {

// Whether __builtin_rintf is an instruction, and not a function of the C library.
#if defined(__SSE4_1__) && !defined(__CUDACC__)
static constexpr bool rint_is_an_instruction = true;
#else
static constexpr bool rint_is_an_instruction = false;
#endif

/// n / d for n = 0 or in [2^-64, 1] and d in [1, 4], correctly rounded. On a GPU the steps that its compiler
/// takes, without their guard against quotients that leave the normal range, which there are none of.
WAKESLEEP_HOST_DEVICE float quotient(float n, float d) {
#if defined(__CUDA_ARCH__)
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(d));
  inverse = __builtin_fmaf(__builtin_fmaf(-d, inverse, 1.0f), inverse, inverse);
  const float q = n * inverse;
  const float nearer = __builtin_fmaf(__builtin_fmaf(-d, q, n), inverse, q);
  return __builtin_fmaf(__builtin_fmaf(-d, nearer, n), inverse, nearer);
#else
  return n / d;
#endif
}

}  // namespace wakesleep
