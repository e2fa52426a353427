// The engine's interface as nvcc should read it. Everything in kernels/cuda/ includes this instead of the
// header itself.
#pragma once

#ifdef __CUDACC__
// nvcc judges Matrix's conversion to Matrix<const T> without its `requires` and calls it useless where T is
// const.
#pragma nv_diag_suppress 554
#endif
#include "wakesleep/ops.hpp"
