// Picks the row kernels and the products for this machine.
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "kernels/cpu/avx2_product.hpp"
#include "kernels/cpu/product.hpp"
#include "kernels/cpu/rows.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep::cpu {

namespace baseline {
extern const RowKernels table;
}

#if defined(__x86_64__)
namespace avx2 {
extern const RowKernels table;
extern const Avx2Products products;
}  // namespace avx2
namespace avx512 {
extern const RowKernels table;
}

namespace {
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
bool has_dot_products() {
  if (__builtin_cpu_supports("avx512vnni")) return true;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & 1u << 4) != 0;  // AVX-VNNI
}
}  // namespace

const Avx2Products* avx2_products() { return has_avx2() ? &avx2::products : nullptr; }

CpuRoute best_route() { return has_avx2() && !has_dot_products() ? CpuRoute::avx2 : CpuRoute::int8; }

const RowKernels& row_kernels(CpuInstructions instructions) {
  switch (instructions) {
    case CpuInstructions::best:
      return has_avx512() ? avx512::table : has_avx2() ? avx2::table : baseline::table;
    case CpuInstructions::avx512:
      if (!has_avx512())
        throw DeviceError("this CPU has no AVX-512 (F, BW, DQ, VL): choose avx2, baseline or best");
      return avx512::table;
    case CpuInstructions::avx2:
      if (!has_avx2()) throw DeviceError("this CPU has no AVX2 with FMA: choose baseline or best");
      return avx2::table;
    case CpuInstructions::baseline:
      break;
  }
  return baseline::table;
}
#else
const RowKernels& row_kernels(CpuInstructions instructions) {
  if (instructions == CpuInstructions::avx2 || instructions == CpuInstructions::avx512) {
    throw DeviceError("this CPU is no x86-64 and has no AVX: choose baseline or best");
  }
  return baseline::table;
}

const Avx2Products* avx2_products() { return nullptr; }

CpuRoute best_route() { return CpuRoute::int8; }
#endif

}  // namespace wakesleep::cpu

namespace wakesleep {

bool cpu_route_available(CpuRoute route) {
  return route != CpuRoute::avx2 || cpu::avx2_products() != nullptr;
}

}  // namespace wakesleep
