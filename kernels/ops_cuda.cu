// The CUDA backend: checks shapes, lets cuBLAS make the sums and queues the kernels that turn them into
// states, deltas and log-probabilities. Everything runs on one stream of its own; only copy_out, synchronize
// and copy_in of more than a staging slot block. Working memory is allocated at the first use of a shape.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "kernels/cuda/buffer.hpp"
#include "kernels/cuda/check.hpp"
#include "kernels/cuda/interface.hpp"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/product.cuh"
#include "kernels/cuda/staging.hpp"

namespace wakesleep {
namespace cuda {
namespace {

void require(bool condition, const char* what) {
  if (!condition)
    throw InternalError(std::string("An operation of the CUDA backend was called with ") + what);
}

/// Kernels and products read and write states and deltas several bytes at a time.
template <class T>
void require_lines(const Matrix<T>& matrix) {
  require(matrix.stride >= matrix.columns && matrix.stride % 64 == 0 &&
              reinterpret_cast<std::uintptr_t>(matrix.data) % 64 == 0,
          "states or deltas whose rows are not whole 64-byte lines; use the stride padded_units(columns)");
}

/// "13.0" of 13000.
std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

cudaDeviceProp properties_of(int ordinal) {
  cudaDeviceProp properties;
  WAKESLEEP_CUDA_CHECK(cudaGetDeviceProperties(&properties, ordinal));
  return properties;
}

std::string capability_text(const cudaDeviceProp& properties) {
  return std::to_string(properties.major) + "." + std::to_string(properties.minor);
}

struct Versions {
  int driver = 0;
  int runtime = 0;
};
Versions versions() {
  Versions found;
  WAKESLEEP_CUDA_CHECK(cudaDriverGetVersion(&found.driver));  // 0 where there is no driver
  WAKESLEEP_CUDA_CHECK(cudaRuntimeGetVersion(&found.runtime));
  return found;
}

/// Why the program has no machine code for the current device, if it has none.
std::string why_no_kernels(int ordinal) {
  const cudaError_t error = find_kernel_image();
  if (error == cudaSuccess) return "";
  cudaGetLastError();
  const cudaDeviceProp properties = properties_of(ordinal);
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction ||
      error == cudaErrorUnsupportedPtxVersion) {
    return "this program was built without code for the compute capability " + capability_text(properties) +
           " of " + properties.name +
           "; build it with -DCMAKE_CUDA_ARCHITECTURES=" + std::to_string(properties.major) +
           std::to_string(properties.minor);
  }
  return std::string("looking for kernels on ") + properties.name + " failed with " + describe(error);
}

/// Why a device cannot be used, in one clause; empty when it can.
std::string why_unusable(int ordinal) {
  const Versions found = versions();
  const std::string needed = "CUDA " + version_text(found.runtime);
  if (found.driver == 0) {
    return "no NVIDIA driver is installed; this program needs one for " + needed + " or newer";
  }
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess) cudaGetLastError();
  if (error == cudaErrorInsufficientDriver) {
    return "the NVIDIA driver is too old: it supports CUDA " + version_text(found.driver) +
           ", and this program needs " + needed + "; update the driver or build with an older toolkit";
  }
  if (error == cudaErrorNoDevice || (error == cudaSuccess && devices == 0)) {
    return "the NVIDIA driver finds no GPU; if there is one, see what CUDA_VISIBLE_DEVICES says";
  }
  if (error != cudaSuccess) return "asking the NVIDIA driver for its GPUs failed with " + describe(error);
  if (ordinal < 0 || ordinal >= devices) {
    return "there is no GPU number " + std::to_string(ordinal) + " among the " + std::to_string(devices) +
           " of this machine, which are numbered from 0";
  }
  const CurrentDevice current(ordinal);
  return why_no_kernels(ordinal);
}

class CudaOps final : public Ops {
 public:
  /// The device must be the current one.
  CudaOps(const CudaOptions& options, const cudaDeviceProp& properties)
      : ordinal_(options.ordinal),
        route_(options.route),
        resources_(std::make_unique<Resources>(*this, properties)),
        shuffle_memory_(*this) {
    products().check_route(ordinal_, properties.name);
    reset_peak();  // the check's memory is given back
    const Versions found = versions();
    description_ = std::string(properties.name) + ", compute capability " + capability_text(properties) +
                   ", CUDA driver " + version_text(found.driver) + ", runtime " +
                   version_text(found.runtime) + ", " + products().description();
  }

  ~CudaOps() override {
    int previous = ordinal_;
    WAKESLEEP_CUDA_REPORT(cudaGetDevice(&previous));
    WAKESLEEP_CUDA_REPORT(cudaSetDevice(ordinal_));
    shuffle_memory_.release();
    resources_.reset();
    WAKESLEEP_CUDA_REPORT(cudaSetDevice(previous));
  }

  std::string description() const override { return description_; }
  std::string device() const override { return "cuda"; }

  // -------------------------------------------------------------------------------------------- memory
  void* allocate(std::size_t bytes) override {
    if (bytes == 0) return nullptr;
    const CurrentDevice current(ordinal_);
    void* memory = nullptr;
    const cudaError_t error = cudaMalloc(&memory, bytes);
    if (error == cudaErrorMemoryAllocation) throw_out_of_memory(bytes);
    WAKESLEEP_CUDA_CHECK(error);
    note_allocation(bytes);
    return memory;
  }

  /// Waits for the device, which may still be using the memory.
  void deallocate(void* memory, std::size_t bytes) noexcept override {
    WAKESLEEP_CUDA_REPORT(cudaFree(memory));
    note_deallocation(bytes);
  }

  void copy_in(void* to, const void* from_host, std::size_t bytes) override {
    if (bytes == 0) return;
    const CurrentDevice current(ordinal_);
    if (bytes <= StagingRing::slot_bytes) {
      resources_->staging.copy_in(to, from_host, bytes, stream());
    } else {
      WAKESLEEP_CUDA_CHECK(cudaMemcpyAsync(to, from_host, bytes, cudaMemcpyHostToDevice, stream()));
      resources_->stream.synchronize();
    }
  }

  void copy_out(void* to_host, const void* from, std::size_t bytes) override {
    const CurrentDevice current(ordinal_);
    if (bytes > 0)
      WAKESLEEP_CUDA_CHECK(cudaMemcpyAsync(to_host, from, bytes, cudaMemcpyDeviceToHost, stream()));
    resources_->stream.synchronize();
  }

  void fill_zero(void* memory, std::size_t bytes) override {
    if (bytes == 0) return;
    const CurrentDevice current(ordinal_);
    WAKESLEEP_CUDA_CHECK(cudaMemsetAsync(memory, 0, bytes, stream()));
  }

  void synchronize() override {
    const CurrentDevice current(ordinal_);
    resources_->stream.synchronize();
  }

  // -------------------------------------------------------------------------------------------- weights
  std::unique_ptr<IntegerWeights> make_integer_weights(std::int64_t receiving, std::int64_t sending,
                                                       int bits) override {
    return std::make_unique<CudaWeights>(*this, route_, receiving, sending, bits);
  }

  void quantize(const Conditional& conditional, std::uint32_t* diverged, const std::uint32_t* step) override {
    if (conditional.integers == nullptr) return;
    const CurrentDevice current(ordinal_);
    const CudaWeights& weights = weights_of(conditional);
    cuda::quantize(stream(), conditional.weight, weights.bits, weights.limbs(), weights.scales(), diverged,
                   step);
  }

  void reserve(const Conditional& conditional, std::int64_t rows) override {
    if (is_prior(conditional) || rows == 0) return;
    const CurrentDevice current(ordinal_);
    products().reserve(weights_of(conditional), rows);
  }

  // -------------------------------------------------------------------------------------------- the step
  void shuffle(const Draw& draw, std::int64_t rows, std::uint32_t* order) override {
    if (rows == 0) return;
    const CurrentDevice current(ordinal_);
    cuda::shuffle(stream(), draw, rows, order, shuffle_memory_);
  }

  void gather(const DataRows& data, const std::uint32_t* order, const std::uint32_t* first, const Draw& draw,
              States states) override {
    require(states.columns == data.units, "states of another width than the data");
    if (states.rows == 0) return;
    require_lines(states);
    const CurrentDevice current(ordinal_);
    cuda::gather(stream(), data, order, first, draw, states);
  }

  void sample(const Conditional& conditional, ConstStates input, const Draw& draw, std::int64_t samples,
              States output, const ScoreSink& sink) override {
    require(output.columns == conditional.receiving, "an output of another width than the conditional");
    if (output.rows == 0) return;
    require(samples > 0 && output.rows % samples == 0, "output rows that are no multiple of the samples");
    require_lines(output);
    const CurrentDevice current(ordinal_);
    const std::int64_t rows_per_input = is_prior(conditional) ? 1 : repeats(output.rows, input.rows);
    cuda::sample(stream(), logits_of(conditional, input), rows_per_input, draw, samples, output, sink);
  }

  void delta(const Conditional& conditional, ConstStates input, ConstStates target, const Draw& draw,
             Deltas deltas) override {
    require(target.columns == conditional.receiving && deltas.columns == conditional.receiving,
            "a target or deltas of another width than the conditional");
    require(target.rows == deltas.rows && (is_prior(conditional) || input.rows == deltas.rows),
            "input, target and deltas of different numbers of rows");
    if (deltas.rows == 0) return;
    require_lines(target);
    require_lines(deltas);
    const CurrentDevice current(ordinal_);
    cuda::delta(stream(), logits_of(conditional, input), target, draw, deltas);
  }

  void gradient(ConstDeltas deltas, ConstStates states, std::int32_t* gradient,
                std::int32_t* bias_gradient) override {
    require(gradient == nullptr || states.rows == deltas.rows,
            "deltas and states of different numbers of rows");
    require(deltas.rows <= max_batch_rows, "more rows than exact sums allow");
    if (deltas.rows == 0) {
      if (gradient != nullptr) fill_zero(gradient, bytes_of<std::int32_t>(deltas.columns * states.columns));
      if (bias_gradient != nullptr) fill_zero(bias_gradient, bytes_of<std::int32_t>(deltas.columns));
      return;
    }
    require_lines(deltas);
    const CurrentDevice current(ordinal_);
    if (gradient != nullptr) {
      require_lines(states);
      products().gradient(deltas, states, gradient);
    }
    if (bias_gradient != nullptr) cuda::bias_gradient(stream(), deltas, bias_gradient);
  }

  void update(const Conditional& conditional, const OptimizerState& state, const Optimizer& optimizer,
              const Rates* rates, const std::int32_t* gradient, const std::int32_t* bias_gradient,
              std::uint32_t* diverged, const std::uint32_t* step) override {
    const CurrentDevice current(ordinal_);
    ParameterUpdate biases;
    biases.parameters = {conditional.bias, 1, conditional.receiving, conditional.receiving};
    biases.first = state.bias_first;
    biases.second = state.bias_second;
    biases.gradient = bias_gradient;
    biases.diverged = diverged;
    biases.step = step;
    cuda::update(stream(), biases, optimizer, rates);
    if (is_prior(conditional)) return;
    ParameterUpdate weights;
    weights.parameters = conditional.weight;
    weights.first = state.weight_first;
    weights.second = state.weight_second;
    weights.gradient = gradient;
    weights.decayed = true;
    cuda::update(stream(), weights, optimizer, rates);
    quantize(conditional, diverged, step);  // finds weights that are not finite, too
  }

  // -------------------------------------------------------------------------------------------- reading out
  void score(const Conditional& conditional, ConstStates input, ConstStates target,
             const ScoreSink& sink) override {
    require(target.columns == conditional.receiving, "a target of another width than the conditional");
    const std::int64_t rows = is_prior(conditional) ? target.rows : std::max(input.rows, target.rows);
    if (rows == 0) return;
    const CurrentDevice current(ordinal_);
    const std::int64_t rows_per_input = is_prior(conditional) ? 1 : repeats(rows, input.rows);
    cuda::score(stream(), logits_of(conditional, input), rows, rows_per_input, target,
                repeats(rows, target.rows), sink);
  }

  void importance(Matrix<const std::int64_t> log_weights, ImportanceSummary* summaries) override {
    if (log_weights.rows == 0) return;
    const CurrentDevice current(ordinal_);
    cuda::importance(stream(), log_weights, summaries);
  }

  void probabilities(const Conditional& conditional, ConstStates input,
                     Matrix<float> probabilities) override {
    require(probabilities.columns == conditional.receiving,
            "probabilities of another width than the conditional");
    require(is_prior(conditional) || input.rows == probabilities.rows,
            "input and probabilities of different numbers of rows");
    if (probabilities.rows == 0) return;
    const CurrentDevice current(ordinal_);
    cuda::probabilities(stream(), logits_of(conditional, input), probabilities);
  }

  void multiply(const Conditional& conditional, ConstStates input) override {
    if (input.rows == 0) return;
    const CurrentDevice current(ordinal_);
    logits_of(conditional, input);
  }

  void count(ConstStates states, std::int64_t* counts) override {
    if (states.rows == 0) return;
    require_lines(states);
    const CurrentDevice current(ordinal_);
    cuda::count(stream(), states, counts);
  }

 private:
  /// The size that cuBLAS itself would choose for the device.
  static constexpr std::int64_t blas_bytes(const cudaDeviceProp& properties) {
    return std::int64_t{properties.major >= 9 ? 32 : 4} << 20;
  }

  struct Resources {
    Resources(CudaOps& ops, const cudaDeviceProp& properties)
        : products(ops, stream.get(), ops.route_, blas_bytes(properties)) {}
    Stream stream;
    StagingRing staging;
    Products products;
  };

  template <class T>
  static std::size_t bytes_of(std::int64_t count) {
    return static_cast<std::size_t>(count) * sizeof(T);
  }

  static bool is_prior(const Conditional& conditional) { return conditional.integers == nullptr; }

  /// How many consecutive rows one of `of` rows stands for.
  static std::int64_t repeats(std::int64_t rows, std::int64_t of) {
    require(of > 0 && rows % of == 0, "rows that are no multiple of those they repeat");
    return rows / of;
  }

  const CudaWeights& weights_of(const Conditional& conditional) const {
    const auto& weights = static_cast<const CudaWeights&>(*conditional.integers);
    require(weights.limbs().route == route_ && weights.receiving == conditional.receiving &&
                weights.sending == conditional.sending && conditional.weight.rows == conditional.receiving &&
                conditional.weight.columns == conditional.sending,
            "weights of another shape or route than the conditional");
    return weights;
  }

  /// Queues the product. For a prior there is none, and the input is ignored.
  Logits logits_of(const Conditional& conditional, ConstStates input) {
    Logits logits;
    if (!is_prior(conditional)) {
      require(input.columns == conditional.sending, "an input of another width than the conditional");
      require_lines(input);
      logits = products().forward(weights_of(conditional), input);
    }
    logits.bias = conditional.bias;
    return logits;
  }

  [[noreturn]] void throw_out_of_memory(std::size_t bytes) {
    cudaGetLastError();
    std::size_t free_bytes = 0;
    std::size_t all_bytes = 0;
    WAKESLEEP_CUDA_CHECK(cudaMemGetInfo(&free_bytes, &all_bytes));
    throw DeviceError("The GPU is out of memory: " + std::to_string(bytes) + " bytes were needed, " +
                      std::to_string(memory_use().current) + " are held by this run and " +
                      std::to_string(free_bytes) + " of " + std::to_string(all_bytes) +
                      " are free; use a smaller batch, fewer samples at a time or smaller layers");
  }

  cudaStream_t stream() const { return resources_->stream.get(); }
  Products& products() { return resources_->products; }

  int ordinal_;
  CudaRoute route_;
  std::string description_;
  std::unique_ptr<Resources> resources_;
  Workspace shuffle_memory_;
};

}  // namespace
}  // namespace cuda

std::unique_ptr<Ops> make_cuda_ops(const CudaOptions& options) {
  const std::string why_not = cuda::why_unusable(options.ordinal);
  if (!why_not.empty()) throw DeviceError("The CUDA device cannot be used: " + why_not);
  const cuda::CurrentDevice current(options.ordinal);
  return std::make_unique<cuda::CudaOps>(options, cuda::properties_of(options.ordinal));
}

bool cuda_available(std::string* why_not) {
  std::string reason;
  try {
    reason = cuda::why_unusable(CudaOptions{}.ordinal);
  } catch (const Error& error) {
    reason = error.what();
  }
  if (why_not != nullptr) *why_not = reason;
  return reason.empty();
}

}  // namespace wakesleep
