// Code that is rarely needed.
#pragma once

/// What is rarely needed stays out of the way of what is not: it is called.
#if defined(__CUDACC__)
#define WAKESLEEP_RARELY __device__ __noinline__ static
#else
#define WAKESLEEP_RARELY static
#endif
