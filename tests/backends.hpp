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
  bool cuda = false;
  CpuOptions cpu;
  CudaOptions gpu;
};

inline std::vector<Backend> all_backends() {
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
  std::vector<Backend> backends = {
      cpu("cpu_int8", CpuRoute::int8, 1, CpuInstructions::best, 0),
      cpu("cpu_int8_2_threads_uneven_pieces", CpuRoute::int8, 2, CpuInstructions::best, 7),
      cpu("cpu_int8_3_threads_avx2", CpuRoute::int8, 3, CpuInstructions::avx2, 0),
      cpu("cpu_float32", CpuRoute::float32, 2, CpuInstructions::best, 0),
      cpu("cpu_reference_baseline", CpuRoute::reference, 1, CpuInstructions::baseline, 0),
  };
  for (const CudaRoute route : {CudaRoute::int8, CudaRoute::fp16}) {
    Backend b;
    b.name = route == CudaRoute::int8 ? "cuda_int8" : "cuda_fp16";
    b.cuda = true;
    b.gpu.route = route;
    backends.push_back(b);
  }
  return backends;
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
