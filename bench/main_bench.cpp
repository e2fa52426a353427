// Times single operations through the interface that the phases use. Options beside Google Benchmark's own
// (--benchmark_filter=sample, --benchmark_format=json):
//   --device=cpu|cuda   --threads=N (0: all)   --weight-bits=16|12|8
#include <charconv>
#include <cstdio>
#include <string_view>

#include "operation.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep::bench {

Settings& settings() {
  static Settings chosen;
  return chosen;
}

Ops& ops() {
  static const std::unique_ptr<Ops> made = [] {
    if (settings().device == "cuda") return make_cuda_ops();
    CpuOptions options;
    options.threads = settings().threads;
    return make_cpu_ops(options);
  }();
  return *made;
}

namespace {

int whole_number(std::string_view option, std::string_view value) {
  int number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size()) {
    throw UsageError("option " + std::string(option) + " has the value '" + std::string(value) +
                     "'; expected a whole number");
  }
  return number;
}

void read_option(std::string_view argument) {
  const std::size_t equals = argument.find('=');
  const std::string_view name = argument.substr(0, equals);
  const std::string_view value = equals == argument.npos ? std::string_view() : argument.substr(equals + 1);
  if (name == "--device" && (value == "cpu" || value == "cuda")) {
    settings().device = value;
  } else if (name == "--threads") {
    settings().threads = whole_number(name, value);
  } else if (name == "--weight-bits") {
    settings().weight_bits = whole_number(name, value);
  } else {
    throw UsageError("option '" + std::string(argument) +
                     "' is not known; expected --device=cpu|cuda, --threads=N, --weight-bits=16|12|8 or an "
                     "option of Google Benchmark (--help)");
  }
}

}  // namespace
}  // namespace wakesleep::bench

int main(int count, char** arguments) {
  benchmark::Initialize(&count, arguments);
  try {
    for (int i = 1; i < count; ++i) wakesleep::bench::read_option(arguments[i]);
    benchmark::AddCustomContext("backend", wakesleep::bench::ops().description());
    benchmark::AddCustomContext("weight bits", std::to_string(wakesleep::bench::settings().weight_bits));
    benchmark::RunSpecifiedBenchmarks();
  } catch (const wakesleep::Error& error) {
    std::fprintf(stderr, "operations_bench: %s\n", error.what());
    return 1;
  }
  benchmark::Shutdown();
}
