// Stands in for NVIDIA's header of this name: what the CUDA backend uses of the runtime, made of ordinary
// host code (device.cpp, blocks.cpp). docs/testing.md says what this shows and what it does not.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <set>

// -------------------------------------------------------------------------------- the language
#define __host__
#define __device__
#define __global__
#define __shared__ static  // blocks run one after the other, on one host thread

struct dim3 {
  unsigned int x, y, z;
  constexpr dim3(unsigned int x_ = 1, unsigned int y_ = 1, unsigned int z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct uint2 {
  unsigned int x, y;
};
struct uint4 {
  unsigned int x, y, z, w;
};
inline uint2 make_uint2(unsigned int x, unsigned int y) { return {x, y}; }
inline uint4 make_uint4(unsigned int x, unsigned int y, unsigned int z, unsigned int w) {
  return {x, y, z, w};
}

extern dim3 threadIdx, blockIdx, blockDim, gridDim;

void __syncthreads();
/// Whether any of the block's threads says so. Blocks that run at the same time must not call it.
inline int __syncthreads_or(int of_thread) {
  static int any;
  __syncthreads();
  any = 0;
  __syncthreads();
  if (of_thread != 0) any = 1;
  __syncthreads();
  return any;
}
inline void __syncwarp() {}  // threads that take turns meet at the next exchange

namespace emulation {
/// The word that the lane `other` of the calling thread's warp gives. All lanes must call it.
std::uint64_t exchange(std::uint64_t word, unsigned int other);
unsigned int lane();
/// The same for several words at a time: `use` gets those of all lanes.
struct Words {
  std::uint32_t word[6];
};
void exchange(const Words& own, const std::function<void(const Words* of_lane)>& use);

inline constexpr unsigned int multiprocessors = 3;
/// Of a cooperative launch.
void* block_memory();
void grid_barrier();
/// How often whole grids have passed such a barrier.
std::uint64_t grid_barriers_passed();
}  // namespace emulation

template <class T>
T __shfl_xor_sync(unsigned int, T value, int mask) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t));
  std::uint64_t word = 0;
  std::memcpy(&word, &value, sizeof(value));
  word = emulation::exchange(word, emulation::lane() ^ static_cast<unsigned int>(mask));
  std::memcpy(&value, &word, sizeof(value));
  return value;
}

template <class T>
T __shfl_sync(unsigned int, T value, int from) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t));
  std::uint64_t word = 0;
  std::memcpy(&word, &value, sizeof(value));
  word = emulation::exchange(word, static_cast<unsigned int>(from));
  std::memcpy(&value, &word, sizeof(value));
  return value;
}

inline unsigned long long atomicAdd(unsigned long long* sum, unsigned long long value) {
  const unsigned long long old = *sum;
  *sum = old + value;
  return old;
}
inline unsigned int atomicAdd(unsigned int* sum, unsigned int value) {
  const unsigned int old = *sum;
  *sum = old + value;
  return old;
}
inline int atomicAdd(int* sum, int value) {
  const int old = *sum;
  *sum = static_cast<int>(static_cast<unsigned int>(old) + static_cast<unsigned int>(value));
  return old;
}
template <class T>
inline T atomicMax(T* largest, T value) {
  const T old = *largest;
  if (value > old) *largest = value;
  return old;
}
template <class T>
inline T atomicExch(T* word, T value) {
  const T old = *word;
  *word = value;
  return old;
}
inline void __threadfence() {}
inline unsigned int atomicCAS(unsigned int* word, unsigned int expected, unsigned int value) {
  const unsigned int old = *word;
  if (old == expected) *word = value;
  return old;
}

/// Byte i of the result is the one of (y, x), eight bytes, that digit i of the selector picks.
inline unsigned int __byte_perm(unsigned int x, unsigned int y, unsigned int selector) {
  const std::uint64_t both = std::uint64_t{y} << 32 | x;
  unsigned int result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned int digit = selector >> (4 * i) & 7u;
    result |= static_cast<unsigned int>(both >> (8 * digit) & 0xFFu) << (8 * i);
  }
  return result;
}
/// sum + the products of the signed bytes.
inline int __dp4a(int x, int y, int sum) {
  for (int i = 0; i < 4; ++i) {
    sum += static_cast<std::int8_t>(x >> (8 * i)) * static_cast<std::int8_t>(y >> (8 * i));
  }
  return sum;
}
#define __launch_bounds__(threads, blocks)

/// x + y rounded down, of numbers whose sum a double holds exactly.
inline float __fadd_rd(float x, float y) {
  const double sum = static_cast<double>(x) + static_cast<double>(y);
  const float nearest = static_cast<float>(sum);
  return static_cast<double>(nearest) > sum ? std::nextafterf(nearest, -HUGE_VALF) : nearest;
}

// -------------------------------------------------------------------------------- the runtime
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorDevicesUnavailable = 46,
  cudaErrorInvalidDeviceFunction = 98,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorECCUncorrectable = 214,
  cudaErrorUnsupportedPtxVersion = 222,
  cudaErrorSystemNotReady = 802,
  cudaErrorSystemDriverMismatch = 803,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
  cudaErrorStreamCaptureMerge = 902,
  cudaErrorStreamCaptureUnmatched = 903,
  cudaErrorStreamCaptureUnjoined = 904,
  cudaErrorStreamCaptureIsolation = 905,
  cudaErrorCapturedEvent = 907,
};
const char* cudaGetErrorName(cudaError_t error);
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();

struct cudaDeviceProp {
  char name[256];
  int major;
  int minor;
  int multiProcessorCount;
  int l2CacheSize;
  int cooperativeLaunch;
};
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* ordinal);
cudaError_t cudaSetDevice(int ordinal);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int ordinal);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaDeviceSynchronize();

struct cudaFuncAttributes {};
template <class Function>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, Function) {
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* all_bytes);
cudaError_t cudaMalloc(void** memory, std::size_t bytes);
cudaError_t cudaFree(void* memory);
cudaError_t cudaMallocHost(void** memory, std::size_t bytes);
cudaError_t cudaFreeHost(void* memory);

typedef struct CUstream_st* cudaStream_t;
typedef struct CUevent_st* cudaEvent_t;
typedef struct CUgraph_st* cudaGraph_t;
typedef struct CUgraphExec_st* cudaGraphExec_t;

enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
enum { cudaStreamNonBlocking = 1, cudaEventDefault = 0, cudaEventDisableTiming = 2 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t stream);
cudaError_t cudaMemset2DAsync(void* memory, std::size_t pitch, int value, std::size_t width,
                              std::size_t height, cudaStream_t stream);

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int flags);

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end);

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);

// -------------------------------------------------------------------------------- the emulation
namespace emulation {

using Work = std::function<void()>;

/// Queues work on a stream, to be run when somebody waits for it, or adds it to what the stream captures.
cudaError_t queue(cudaStream_t stream, Work work);
/// Calls `thread` for every thread of a grid.
void run_grid(dim3 grid, dim3 block, const Work& thread);
/// The same with all blocks there at once, each with shared memory of its own.
void run_cooperative_grid(unsigned int grid, dim3 block, std::size_t memory_bytes, const Work& thread);
/// The devices on which the process has a context, which every call opens on the current one; and none again.
const std::set<int>& contexts();
void forget_contexts();
/// Passes time on the device, as cudaEventElapsedTime sees it.
void spend(std::uint64_t microseconds);
/// Says what broke a rule, and ends the program.
[[noreturn]] void fail(const char* what);

}  // namespace emulation
