// The backends that every shared test body runs on.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "wakesleep/ops.hpp"

namespace wakesleep::testing {

struct Backend {
  std::string name;
  bool cuda = false;  ///< a GPU, or one that is emulated on the CPU (tests/emulation/)
  CpuOptions cpu;
  CudaOptions gpu;
};

inline std::vector<Backend> cpu_backends() {
  const auto cpu = [](std::string name, CpuRoute route, int threads, CpuInstructions instructions,
                      std::int64_t piece_rows) {
    Backend b;
    b.name = std::move(name);
    b.cpu.route = route;
    b.cpu.threads = threads;
    b.cpu.instructions = instructions;
    b.cpu.piece_rows = piece_rows;
    return b;
  };
  return {
      cpu("cpu_int8", CpuRoute::int8, 1, CpuInstructions::best, 0),
      cpu("cpu_int8_2_threads_uneven_pieces", CpuRoute::int8, 2, CpuInstructions::best, 7),
      cpu("cpu_int8_3_threads_avx2", CpuRoute::int8, 3, CpuInstructions::avx2, 0),
      cpu("cpu_avx2_2_threads_uneven_pieces", CpuRoute::avx2, 2, CpuInstructions::best, 7),
      cpu("cpu_float32", CpuRoute::float32, 2, CpuInstructions::best, 0),
      cpu("cpu_reference_baseline", CpuRoute::reference, 1, CpuInstructions::baseline, 0),
  };
}

inline std::vector<Backend> cuda_backends(const std::string& name) {
  const auto gpu = [&](const char* suffix, CudaRoute route, CudaReplay replay) {
    Backend b;
    b.name = name + suffix;
    b.cuda = true;
    b.gpu.route = route;
    b.gpu.replay = replay;
    return b;
  };
  return {
      gpu("_int8", CudaRoute::int8, CudaReplay::graph),
      gpu("_fp16", CudaRoute::fp16, CudaReplay::fastest),
      gpu("_int8_persistent", CudaRoute::int8, CudaReplay::persistent),
  };
}

#if defined(WAKESLEEP_EMULATED_CUDA)
const std::string cuda_name = "emulated_cuda";
inline std::vector<Backend> all_backends() { return cuda_backends(cuda_name); }
#else
const std::string cuda_name = "cuda";
inline std::vector<Backend> all_backends() {
  std::vector<Backend> backends = cpu_backends();
  for (Backend& b : cuda_backends(cuda_name)) backends.push_back(std::move(b));
  return backends;
}
#endif

/// A GPU that runs one operation after the other, for tests of a whole training.
inline Backend cuda_on_one_stream() {
  Backend b;
  b.name = cuda_name + "_int8_one_stream";
  b.cuda = true;
  b.gpu.replay = CudaReplay::graph;
  b.gpu.branches = 1;
  return b;
}

inline std::ostream& operator<<(std::ostream& out, const Backend& backend) { return out << backend.name; }

inline std::unique_ptr<Ops> make_ops(const Backend& backend) {
  return backend.cuda ? make_cuda_ops(backend.gpu) : make_cpu_ops(backend.cpu);
}

/// Base of the shared test bodies: `ops()` is the backend; the test is skipped, saying why, where it cannot
/// run.
class BackendTest : public ::testing::TestWithParam<Backend> {
 protected:
  void SetUp() override {
    std::string why_not;
    if (GetParam().cuda && !cuda_available(&why_not)) GTEST_SKIP() << "needs a GPU: " << why_not;
    if (!cpu_route_available(GetParam().cpu.route)) GTEST_SKIP() << "needs a processor with AVX2";
    ops_ = make_ops(GetParam());
  }
  Ops& ops() { return *ops_; }

 private:
  std::unique_ptr<Ops> ops_;
};

/// A buffer filled from a host vector, and back.
template <class T>
Buffer<T> to_device(Ops& ops, const std::vector<T>& host) {
  Buffer<T> buffer(ops, static_cast<std::int64_t>(host.size()));
  buffer.copy_in(host.data());
  return buffer;
}
template <class T>
std::vector<T> to_host(const Buffer<T>& buffer) {
  std::vector<T> host(static_cast<std::size_t>(buffer.size()));
  buffer.copy_out(host.data());
  return host;
}

#define WAKESLEEP_ON_EVERY_BACKEND(suite)                                                            \
  INSTANTIATE_TEST_SUITE_P(Backends, suite, ::testing::ValuesIn(wakesleep::testing::all_backends()), \
                           [](const auto& instance) { return instance.param.name; })

}  // namespace wakesleep::testing
