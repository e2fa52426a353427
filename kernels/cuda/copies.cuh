// How tiles of operands come to a block and to the lanes that multiply them: copies that go on while it
// computes, and loads in the layout of mma.cuh.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace wakesleep::cuda {

/// Begins to copy 16 bytes to the block's shared memory where they `exist`; elsewhere zeros come there, and
/// `from` is not read. Both addresses are multiples of 16.
__device__ inline void begin_copy(void* to, const void* from, bool exist = true) {
#if __CUDA_ARCH__ >= 800
  const auto shared = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(from), "r"(exist ? 16 : 0)
               : "memory");
#else
  *static_cast<uint4*>(to) = exist ? *static_cast<const uint4*>(from) : uint4{};
#endif
}

/// What the calling thread has begun since the last call becomes a group.
__device__ inline void close_group() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/// Waits until all of the calling thread's groups but the latest `pending` have arrived.
template <int pending>
__device__ void await_groups() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

/// Four matrices of 8 rows of 16 bytes in shared memory: lanes 8 i .. 8 i + 7 give the rows of matrix i, and
/// every lane receives word lane % 4 of row lane / 4 of each. All lanes of a warp must call it.
__device__ inline void load_matrices(std::uint32_t (&words)[4], const void* row) {
  const auto shared = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(shared)
               : "memory");
}

/// The same matrices as columns: every lane receives of each matrix the bytes 2 group and 2 group + 1 of the
/// rows 2 member and 2 member + 1, group = lane / 4 and member = lane % 4; in a word, those of the first row
/// are the lower ones.
__device__ inline void load_matrices_transposed(std::uint32_t (&words)[4], const void* row) {
  const auto shared = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(shared)
               : "memory");
}

}  // namespace wakesleep::cuda
