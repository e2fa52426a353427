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

}  // namespace wakesleep
