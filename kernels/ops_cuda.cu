// The CUDA backend: lets cuBLASLt make the sums and queues the kernels that turn them into states, deltas and
// log-probabilities, or, of small products, one kernel that does both. The main line and every branch have a stream each; only copy_out, synchronize, a
// readback's result, filling an upload, copy_in of more than a staging slot and the first use of a shape
// block.
#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "kernels/cuda/availability.hpp"
#include "kernels/cuda/capture.hpp"
#include "kernels/cuda/check.hpp"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/interface.hpp"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/lane.hpp"
#include "kernels/cuda/pinned_copy.hpp"
#include "kernels/cuda/pinned_upload.hpp"
#include "kernels/cuda/program.cuh"
#include "kernels/cuda/replay.hpp"
#include "kernels/cuda/staging.hpp"
#include "kernels/shapes.hpp"

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

class CudaOps;

/// Operations that are launched together, on the main lane.
class CudaRecording final : public Recording {
 public:
  CudaRecording(CudaOps& ops, cudaGraph_t graph, const Draft& draft, int blocks, CudaReplay wish,
                const std::string& why_not_persistent);
  ~CudaRecording() override;
  void replay() override;
  /// Returns what is to be said of it in the backend's description.
  std::string prepare(cudaStream_t stream) const {
    replay_.prepare(stream);
    return replay_.description();
  }

 private:
  CudaOps& ops_;
  Replay replay_;
};

class CudaReadback final : public Readback {
 public:
  CudaReadback(CudaOps& ops, std::size_t bytes) : ops_(ops), copy_(bytes) {}
  void request(const void* from) override;
  const void* result() override {
    refuse_while_capturing("the result of a readback");
    return copy_.result();
  }

 private:
  CudaOps& ops_;
  PinnedCopy copy_;
};

class CudaUpload final : public Upload {
 public:
  CudaUpload(CudaOps& ops, std::size_t bytes) : ops_(ops), upload_(bytes) {}
  void* fill() override {
    refuse_while_capturing("the memory of an upload");
    return upload_.fill();
  }
  void send(void* to, std::size_t bytes) override;
  void await() override;

 private:
  CudaOps& ops_;
  PinnedUpload upload_;
};

/// A step learns two layers while its chain makes a third.
constexpr int most_branches = 3;

class CudaOps final : public Ops {
 public:
  /// The device must be the current one.
  CudaOps(const CudaOptions& options, const cudaDeviceProp& properties)
      : ordinal_(options.ordinal),
        route_(options.route),
        replay_(options.replay),
        branches_(options.branches),
        persistent_blocks_(options.replay == CudaReplay::graph ? 0 : cuda::persistent_blocks(properties)),
        cache_bytes_(properties.l2CacheSize),
        device_name_(properties.name),
        device_description_(description_of(properties)),
        resources_(std::make_unique<Resources>(*this, properties)) {
    products().check_route(device_name_);
    reset_peak();  // the check's memory is given back
    streams_live_ = true;
  }

  ~CudaOps() override {
    const CurrentDevice current(ordinal_, std::nothrow);
    WAKESLEEP_CUDA_REPORT(wait_for_streams());  // copies may still read the staging ring
    streams_live_ = false;
    resources_.reset();
  }

  std::string description() const override {
    return device_description_ + ", " + resources_->main.products.description() +
           (recordings_.empty() ? "" : ", " + recordings_);
  }
  std::string device() const override { return "cuda"; }

  // -------------------------------------------------------------------------------- memory
  void* allocate(std::size_t bytes) override {
    if (bytes == 0) return nullptr;
    refuse_while_capturing("memory of the device");
    const CurrentDevice current(ordinal_);
    void* memory = nullptr;
    const cudaError_t error = cudaMalloc(&memory, bytes);
    if (error == cudaErrorMemoryAllocation) throw_out_of_memory(bytes);
    WAKESLEEP_CUDA_CHECK(error);
    note_allocation(bytes);
    return memory;
  }

  /// Waits for what may still be using the memory, because cudaFree is only said to do that where it has to.
  /// What goes wrong there is reported once, by cudaFree.
  void deallocate(void* memory, std::size_t bytes) noexcept override {
    const CurrentDevice current(ordinal_, std::nothrow);
    if (streams_live_) wait_for_streams();
    WAKESLEEP_CUDA_REPORT(cudaFree(memory));
    note_deallocation(bytes);
  }

  void copy_in(void* to, const void* from_host, std::size_t bytes) override {
    if (bytes == 0) return;
    refuse_while_capturing("a copy from the host");
    const CurrentDevice current(ordinal_);
    if (bytes <= StagingRing::slot_bytes) {
      resources_->staging.copy_in(to, from_host, bytes, stream());
    } else {
      WAKESLEEP_CUDA_CHECK(cudaMemcpyAsync(to, from_host, bytes, cudaMemcpyHostToDevice, stream()));
      lane().stream.synchronize();
    }
  }

  void copy_out(void* to_host, const void* from, std::size_t bytes) override {
    synchronize();
    if (bytes == 0) return;
    const CurrentDevice current(ordinal_);
    WAKESLEEP_CUDA_CHECK(cudaMemcpyAsync(to_host, from, bytes, cudaMemcpyDeviceToHost, stream()));
    lane().stream.synchronize();
  }

  void fill_zero(void* memory, std::size_t bytes) override {
    if (bytes == 0) return;
    const CurrentDevice current(ordinal_);
    WAKESLEEP_CUDA_CHECK(cudaMemsetAsync(memory, 0, bytes, stream()));
  }

  void synchronize() override {
    refuse_while_capturing("waiting for the device");
    const CurrentDevice current(ordinal_);
    resources_->main.stream.synchronize();
    for (Branch& branch : resources_->branches) {
      branch.lane().stream.synchronize();
      branch.forget();
    }
    resources_->uploads.synchronize();
  }

  std::unique_ptr<Readback> make_readback(std::size_t bytes) override {
    refuse_while_capturing("page-locked memory");
    const CurrentDevice current(ordinal_);
    return std::make_unique<CudaReadback>(*this, bytes);
  }

  void request(PinnedCopy& copy, const void* from) {
    refuse_while_capturing("a readback");
    const CurrentDevice current(ordinal_);
    if (branch_ == nullptr) join_branches();
    copy.request(from, stream());
  }

  std::unique_ptr<Upload> make_upload(std::size_t bytes) override {
    refuse_while_capturing("page-locked memory");
    const CurrentDevice current(ordinal_);
    return std::make_unique<CudaUpload>(*this, bytes);
  }

  void send(PinnedUpload& upload, void* to, std::size_t bytes) {
    refuse_while_capturing("an upload");
    require_main_line();
    const CurrentDevice current(ordinal_);
    join_branches();
    upload.send(to, bytes, main_stream(), resources_->uploads.get());
  }

  void await(const PinnedUpload& upload) {
    refuse_while_capturing("an upload");
    require_main_line();
    const CurrentDevice current(ordinal_);
    upload.hold_back(main_stream());
  }

  std::size_t available_memory() const override {
    const CurrentDevice current(ordinal_);
    std::size_t free_bytes = 0;
    std::size_t all_bytes = 0;
    WAKESLEEP_CUDA_CHECK(cudaMemGetInfo(&free_bytes, &all_bytes));
    return free_bytes;
  }

  // -------------------------------------------------------------------------------- order of execution
  int branches() const override { return branches_; }

  void enter_branch(int branch) override {
    require_main_line();
    const CurrentDevice current(ordinal_);
    Branch& entered = branch_number(branch);
    entered.enter(main_stream());
    branch_ = &entered;
  }

  void leave_branch() override {
    require(branch_ != nullptr, "no branch entered that could be left");
    const CurrentDevice current(ordinal_);
    Branch& left = *branch_;
    branch_ = nullptr;
    left.leave();
  }

  void await_branch(int branch) override {
    require_main_line();
    const CurrentDevice current(ordinal_);
    branch_number(branch).join(main_stream());
  }

  std::unique_ptr<Recording> record(const std::function<void()>& operations) override {
    refuse_while_capturing("another recording");
    require_main_line();
    require_all_joined("before a recording");
    const CurrentDevice current(ordinal_);
    Draft draft(persistent_blocks_);
    cudaGraph_t graph = nullptr;
    try {
      Capture capture(stream());
      draft_ = &draft;
      operations();
      draft_ = nullptr;
      require_main_line();
      require_all_joined("at the end of a recording");
      graph = capture.end();
    } catch (...) {
      draft_ = nullptr;
      // What the branches were given has been thrown away with the capture.
      branch_ = nullptr;
      for (Branch& branch : resources_->branches) branch.forget();
      throw;
    }
    return recording_of(graph, draft);
  }

  cudaStream_t main_stream() const { return resources_->main.stream.get(); }
  OutgrownMemory& outgrown() { return resources_->outgrown; }

  void replay(Replay& replay) {
    require_main_line();
    refuse_while_capturing("another recording");
    const CurrentDevice current(ordinal_);
    join_branches();
    if (replay.run(stream())) recordings_ = replay.description();
  }

  // -------------------------------------------------------------------------------- weights
  std::unique_ptr<IntegerWeights> make_integer_weights(std::int64_t receiving, std::int64_t sending, int bits,
                                                       std::int32_t largest_input) override {
    require_shapes_of_integer_weights(receiving, sending, largest_input);
    const CurrentDevice current(ordinal_);
    if (largest_input > 1) products().check_route(device_name_, largest_input);
    return std::make_unique<CudaWeights>(*this, route_, receiving, sending, bits, largest_input);
  }

  void draw_weights(const Conditional& conditional, const Draw& draw, float limit) override {
    require_shapes_of_draw_weights(conditional);
    const CurrentDevice current(ordinal_);
    cuda::draw_weights(stream(), draw, limit, conditional.weight);
  }

  void quantize(const Conditional& conditional, std::uint32_t* diverged, const std::uint32_t* step) override {
    require_shapes_of_quantize(conditional);
    if (!conditional.has_input()) return;
    const CurrentDevice current(ordinal_);
    const CudaWeights& weights = weights_of(conditional);
    cuda::quantize(stream(), conditional.weight, weights.bits, weights.limbs(), weights.scales(), diverged,
                   step);
  }

  void reserve(const Conditional& conditional, std::int64_t rows) override {
    require_shapes_of_reserve(conditional);
    if (!conditional.has_input() || rows == 0) return;
    const CurrentDevice current(ordinal_);
    products().reserve(weights_of(conditional), rows);
  }

  std::int64_t scratch_bytes_per_row(const Conditional& conditional) const override {
    require_shapes_of_scratch_bytes_per_row(conditional);
    return conditional.has_input() ? lane().products.forward_bytes_per_row(weights_of(conditional)) : 0;
  }

  // -------------------------------------------------------------------------------- the step
  void advance(const StepScalars* table, std::uint32_t* position, StepScalars* now) override {
    const CurrentDevice current(ordinal_);
    const Drafted drafted(*this, [&](Draft& draft) { draft.advance(table, position, now); });
    cuda::advance(stream(), table, position, now);
  }

  void shuffle(const Draw& draw, std::int64_t rows, std::uint32_t* order) override {
    if (rows == 0) return;
    const CurrentDevice current(ordinal_);
    cuda::shuffle(stream(), draw, rows, order, lane().shuffle_memory);
  }

  void gather(const DataRows& data, const std::uint32_t* order, const std::uint32_t* first, const Draw& draw,
              States states) override {
    require_shapes_of_gather(data, states);
    if (states.rows == 0) return;
    require_lines(states);
    const CurrentDevice current(ordinal_);
    const Drafted drafted(*this, [&](Draft& draft) {
      if (data.fixed_point) draft.refuse("a batch read as fixed point");
      draft.gather(data, order, first, draw, states);
    });
    cuda::gather(stream(), data, order, first, draw, states);
  }

  void sample(const Conditional& conditional, ConstStates input, const Draw& draw, std::int64_t samples,
              States output, const ScoreSink& sink, Matrix<float> kept, Matrix<float> errors) override {
    require_shapes_of_sample(conditional, input, samples, output, kept, errors);
    if (output.rows == 0) return;
    require_lines(output);
    const CurrentDevice current(ordinal_);
    const std::int64_t rows_per_input = conditional.has_input() ? output.rows / input.rows : 1;
    const Drafted drafted(*this, [&](Draft& draft) {
      if (samples != 1 || rows_per_input != 1) draft.refuse("a sample of several states for a row");
      if (sink.rows != nullptr || sink.total != nullptr) draft.refuse("a sample that is scored");
      if (kept.data != nullptr) draft.refuse("a sample whose logits are kept");
      if (errors.data != nullptr) draft.refuse("a sample whose errors are kept");
      if (conditional.is_gaussian()) draft.refuse("a sample of Gaussian units");
      draft.sample(integers_of(conditional), conditional.bias, input, draw, output);
    });
    if (rows_per_input == 1 && kept.data == nullptr && fits_one_kernel(conditional, input)) {
      ForwardOperation operation = forward_operation(conditional, input);
      operation.draw = draw;
      operation.samples = samples;
      operation.sink = sink;
      operation.errors = errors;
      cuda::forward_sample(stream(), operation, output);
      return;
    }
    Logits logits;
    if (kept.data != nullptr && fits_one_kernel(conditional, input)) {
      cuda::forward_logits(stream(), forward_operation(conditional, input), kept);
      logits.kept = kept;
    } else {
      logits = logits_of(conditional, input);
      if (kept.data != nullptr) cuda::keep_logits(stream(), logits, kept);
    }
    cuda::sample(stream(), logits, rows_per_input, draw, samples, output, sink, errors);
  }

  void sample_in_order(const Conditional& conditional, const Draw& draw, States output) override {
    require_shapes_of_sample_in_order(conditional, output);
    if (output.rows == 0) return;
    require_lines(output);
    const CurrentDevice current(ordinal_);
    const CudaWeights& weights = weights_of(conditional);
    cuda::sample_in_order(stream(), weights.limbs(), weights.scales(), conditional.bias, draw, output);
  }

  void delta(const Conditional& conditional, ConstStates input, ConstStates target, const Draw& draw,
             Deltas deltas, const SampleWeights& weights, Matrix<const float> kept) override {
    require_shapes_of_delta(conditional, input, target, deltas, weights, kept);
    if (deltas.rows == 0) return;
    const bool shared = target.rows > deltas.rows;
    require_lines(target);
    require_lines(deltas);
    const CurrentDevice current(ordinal_);
    const Drafted drafted(*this, [&](Draft& draft) {
      if (weights.per_sample() || target.rows != deltas.rows)
        draft.refuse("a delta of several samples of a row");
      if (kept.data != nullptr) draft.refuse("a delta of kept logits");
      if (conditional.is_gaussian()) draft.refuse("a delta of Gaussian units");
      draft.delta(integers_of(conditional), conditional.bias, input, target, draw, weights.scale, deltas);
    });
    if (!weights.per_sample() && !shared && kept.data == nullptr && fits_one_kernel(conditional, input)) {
      ForwardOperation operation = forward_operation(conditional, input);
      operation.draw = draw;
      operation.target = target;
      operation.rows_per_target = static_cast<std::int32_t>(deltas.rows / target.rows);
      operation.weight = weights.scale;
      cuda::forward_delta(stream(), operation, deltas);
      return;
    }
    Logits logits;
    if (kept.data != nullptr) {
      logits.kept = kept;
    } else {
      logits = logits_of(conditional, input);
    }
    if (shared) {
      cuda::shared_delta(stream(), logits, target, weights, draw, deltas);
    } else {
      cuda::delta(stream(), logits, target, deltas.rows / target.rows, weights, draw, deltas);
    }
  }

  void round_errors(Matrix<const float> errors, const Draw& draw, Deltas deltas,
                    const SampleWeights& weights) override {
    require_shapes_of_round_errors(errors, deltas, weights);
    if (deltas.rows == 0) return;
    require_lines(deltas);
    const CurrentDevice current(ordinal_);
    cuda::round_errors(stream(), errors, weights, draw, deltas);
  }

  void gradient(ConstDeltas deltas, ConstStates states, std::int32_t* gradient, std::int32_t* bias_gradient,
                std::int32_t largest_state) override {
    require_shapes_of_gradient(deltas, states, gradient, largest_state);
    if (deltas.rows == 0) {
      if (gradient != nullptr) fill_zero(gradient, bytes_of<std::int32_t>(deltas.columns * states.columns));
      if (bias_gradient != nullptr) fill_zero(bias_gradient, bytes_of<std::int32_t>(deltas.columns));
      return;
    }
    require_lines(deltas);
    const CurrentDevice current(ordinal_);
    const Drafted drafted(*this, [&](Draft& draft) {
      note_gradient(draft, deltas, states, gradient, bias_gradient, largest_state);
    });
    if (gradient != nullptr) {
      require_lines(states);
      products().gradient(deltas, states, gradient, bias_gradient, largest_state);
    } else if (bias_gradient != nullptr) {
      products().bias_gradient(deltas, bias_gradient);
    }
  }

  void keep_below_diagonal(std::int32_t* gradient, std::int64_t units) override {
    const CurrentDevice current(ordinal_);
    cuda::keep_below_diagonal(stream(), gradient, units);
  }

  void clip(const Conditional& conditional, const std::int32_t* gradient, const std::int32_t* bias_gradient,
            float limit, const Rates* rates, Rates* clipped) override {
    const CurrentDevice current(ordinal_);
    cuda::clip(stream(), gradient, gradient != nullptr ? conditional.receiving * conditional.sending : 0,
               bias_gradient, conditional.receiving, conditional.gradient_units(), limit, rates, clipped,
               lane().scratch);
  }

  void update(const Conditional& conditional, const OptimizerState& state, const Optimizer& optimizer,
              const Rates* rates, const std::int32_t* gradient, const std::int32_t* bias_gradient,
              std::uint32_t* diverged, const std::uint32_t* step) override {
    require_shapes_of_update(conditional, state, optimizer, gradient, bias_gradient);
    const CurrentDevice current(ordinal_);
    const ParameterUpdate update = update_of(conditional, state, diverged, step);
    const GradientPair<const std::int32_t> gradients = {gradient, bias_gradient};
    const Drafted drafted(*this,
                          [&](Draft& draft) { note_update(draft, update, gradients, optimizer, rates); });
    cuda::update(stream(), update, gradients, optimizer, rates);
  }

  void update(const Conditional& conditional, const OptimizerState& state, const Optimizer& optimizer,
              const Rates* rates, const float* gradient, const float* bias_gradient, std::uint32_t* diverged,
              const std::uint32_t* step) override {
    require_shapes_of_update(conditional, state, optimizer, gradient, bias_gradient);
    const CurrentDevice current(ordinal_);
    const GradientPair<const float> gradients = {gradient, bias_gradient};
    cuda::update(stream(), update_of(conditional, state, diverged, step), gradients, optimizer, rates);
  }

  void learn(const Conditional& conditional, ConstDeltas deltas, ConstStates states,
             const Learning& learning) override {
    require_shapes_of_learn(conditional, deltas, states, learning);
    if (!learns_in_one_kernel(conditional, deltas)) {
      Ops::learn(conditional, deltas, states, learning);
      return;
    }
    require_lines(deltas);
    require_lines(states);
    const CurrentDevice current(ordinal_);
    const ParameterUpdate update = update_of(conditional, learning.state, learning.diverged, learning.step);
    const Drafted drafted(*this, [&](Draft& draft) {
      note_gradient(draft, deltas, states, learning.gradient, learning.bias_gradient,
                    conditional.largest_input);
      if (learning.added != nullptr || learning.added_bias != nullptr)
        draft.refuse("a gradient that something is added to");
      note_update(draft, update, {learning.gradient, learning.bias_gradient}, learning.optimizer,
                  learning.rates);
    });
    cuda::learn(stream(), deltas, states, {learning.added, learning.added_bias}, update, learning.optimizer,
                learning.rates, products().zeros(learn_zeros_count(conditional.receiving)));
  }

  void natural_gradient(const Conditional& conditional, const FisherInverse& inverse, const Rates* rates,
                        const std::int32_t* gradient, const std::int32_t* bias_gradient, float* natural,
                        float* natural_bias) override {
    require_shapes_of_natural_gradient(conditional, inverse);
    const CurrentDevice current(ordinal_);
    cuda::natural_gradient(stream(), inverse, conditional.receiving, conditional.sending, rates,
                           {gradient, bias_gradient}, {natural, natural_bias});
  }

  void add(std::int32_t* sums, const std::int32_t* terms, std::int64_t count) override {
    const CurrentDevice current(ordinal_);
    cuda::add(stream(), sums, terms, count);
  }

  void sparsity(ConstStates states, const Sparsity& sparsity, float* activation,
                std::int32_t* penalty) override {
    require_shapes_of_sparsity(states);
    if (states.rows == 0) return;
    require_lines(states);
    const CurrentDevice current(ordinal_);
    cuda::sparsity(stream(), states, sparsity, activation, penalty, lane().scratch);
  }

  // -------------------------------------------------------------------------------- chains
  void recall(const DataRows& remembered, const std::uint32_t* order, const std::uint32_t* first,
              const std::uint32_t* epoch, std::uint32_t from_epoch, States states) override {
    require_shapes_of_recall(remembered, states);
    if (states.rows == 0) return;
    require_lines(states);
    const CurrentDevice current(ordinal_);
    cuda::recall(stream(), remembered, order, first, epoch, from_epoch, states);
  }

  void remember(ConstStates states, std::int64_t samples, const std::uint32_t* chosen,
                const std::uint32_t* order, const std::uint32_t* first, std::uint8_t* bits,
                std::int64_t row_bytes) override {
    require_shapes_of_remember(states, samples, row_bytes);
    if (states.rows == 0) return;
    const CurrentDevice current(ordinal_);
    cuda::remember(stream(), states, samples, chosen, order, first, bits, row_bytes);
  }

  void metropolis(Matrix<const std::int64_t> log_weights, const Draw& draw, std::int32_t* visits,
                  std::int64_t* totals, std::uint32_t* last, std::int64_t* counts) override {
    require_shapes_of_metropolis(log_weights);
    const CurrentDevice current(ordinal_);
    cuda::metropolis(stream(), log_weights, draw, visits, totals, last, counts);
  }

  // -------------------------------------------------------------------------------- reading out
  void score(const Conditional& conditional, ConstStates input, ConstStates target, const ScoreSink& sink,
             Matrix<float> errors) override {
    require_shapes_of_score(conditional, input, target, errors);
    const std::int64_t rows = conditional.has_input() ? input.rows : target.rows;
    if (rows == 0) return;
    require_lines(target);
    const CurrentDevice current(ordinal_);
    if (fits_one_kernel(conditional, input)) {
      ForwardOperation operation = forward_operation(conditional, input);
      operation.target = target;
      operation.rows_per_target = static_cast<std::int32_t>(rows / target.rows);
      operation.sink = sink;
      operation.errors = errors;
      cuda::forward_score(stream(), operation);
      return;
    }
    cuda::score(stream(), logits_of(conditional, input), rows, 1, target, rows / target.rows, sink, errors);
  }

  void score_kept(Matrix<const float> kept, ConstStates target, const ScoreSink& sink,
                  Matrix<float> errors) override {
    require_shapes_of_score_kept(kept, target, errors);
    if (target.rows == 0) return;
    const CurrentDevice current(ordinal_);
    Logits logits;
    logits.kept = kept;
    cuda::score(stream(), logits, target.rows, target.rows / kept.rows, target, 1, sink, errors);
  }

  void importance_weights(Matrix<const std::int64_t> log_weights, int fraction_bits, std::int32_t* relative,
                          std::int64_t* totals) override {
    require_shapes_of_importance_weights(log_weights);
    const CurrentDevice current(ordinal_);
    cuda::importance_weights(stream(), log_weights, fraction_bits, relative, totals);
  }

  void vimco_weights(Matrix<const std::int64_t> log_weights, float* coefficients, const Rates* rates,
                     Rates* scaled) override {
    require_shapes_of_vimco_weights(log_weights);
    const CurrentDevice current(ordinal_);
    cuda::vimco_weights(stream(), log_weights, coefficients, rates, scaled, lane().scratch);
  }

  void importance(Matrix<const std::int64_t> log_weights, ImportanceSummary* summaries) override {
    require_shapes_of_importance(log_weights);
    if (log_weights.rows == 0) return;
    const CurrentDevice current(ordinal_);
    cuda::importance(stream(), log_weights, summaries);
  }

  void probabilities(const Conditional& conditional, ConstStates input,
                     Matrix<float> probabilities) override {
    require_shapes_of_probabilities(conditional, input, probabilities);
    if (probabilities.rows == 0) return;
    const CurrentDevice current(ordinal_);
    cuda::probabilities(stream(), logits_of(conditional, input), probabilities);
  }

  void multiply(const Conditional& conditional, ConstStates input) override {
    require_shapes_of_multiply(conditional, input);
    if (input.rows == 0) return;
    const CurrentDevice current(ordinal_);
    logits_of(conditional, input);
  }

  void count(ConstStates states, std::int64_t* counts) override {
    require_shapes_of_count(states);
    if (states.rows == 0) return;
    require_lines(states);
    const CurrentDevice current(ordinal_);
    cuda::count(stream(), states, counts);
  }

 private:
  /// What cuBLAS recommends for the device.
  static constexpr std::int64_t blas_bytes(const cudaDeviceProp& properties) {
    return std::int64_t{properties.major >= 9 ? 32 : 4} << 20;
  }

  /// This backend's, not the device: another backend may be recording in another thread, and a wait for the
  /// device would end that. Waits for all and returns the first error.
  cudaError_t wait_for_streams() noexcept {
    cudaError_t first = cudaSuccess;
    const auto wait = [&](cudaStream_t stream) {
      const cudaError_t error = cudaStreamSynchronize(stream);
      if (first == cudaSuccess) first = error;
    };
    wait(main_stream());
    for (Branch& branch : resources_->branches) wait(branch.lane().stream.get());
    wait(resources_->uploads.get());
    return first;
  }

  struct Resources {
    Resources(CudaOps& ops, const cudaDeviceProp& properties)
        : options{ops.ordinal_, ops.route_, blas_bytes(properties)},
          test_elements(ops, ops.route_),
          main(ops, blas, test_elements, options, outgrown),
          branches{{{ops, blas, test_elements, options, outgrown},
                    {ops, blas, test_elements, options, outgrown},
                    {ops, blas, test_elements, options, outgrown}}} {}
    ProductOptions options;
    BlasHandle blas;
    TestElements test_elements;
    OutgrownMemory outgrown;
    StagingRing staging;
    Stream uploads;
    Lane main;
    std::array<Branch, most_branches> branches;
  };

  /// Tells the draft of a recording, if there is one, what the calling operation does there. While it lives,
  /// the operation queues what a graph needs for the same. Whatever queues anything otherwise makes that
  /// there is no draft: an operation that is not known to it can never be left out of a persistent kernel.
  class Drafted {
   public:
    template <class Note>
    Drafted(CudaOps& ops, const Note& note) : ops_(ops) {
      if (ops_.draft_ != nullptr) note(*ops_.draft_);
      ops_.drafted_ = true;
    }
    ~Drafted() { ops_.drafted_ = false; }
    Drafted(const Drafted&) = delete;
    Drafted& operator=(const Drafted&) = delete;

   private:
    CudaOps& ops_;
  };

  static void note_gradient(Draft& draft, ConstDeltas deltas, ConstStates states,
                            const std::int32_t* gradient, const std::int32_t* bias_gradient,
                            std::int32_t largest_state) {
    if (largest_state > 1) draft.refuse("a gradient of fixed-point states");
    draft.gradient(deltas, states, gradient, bias_gradient);
  }
  static void note_update(Draft& draft, const ParameterUpdate& update,
                          const GradientPair<const std::int32_t>& gradient, const Optimizer& optimizer,
                          const Rates* rates) {
    if (update.units.weight != 1.0f || update.units.bias != 1.0f)
      draft.refuse("an update of Gaussian units or fixed-point states");
    draft.update(update, gradient, optimizer, rates);
  }

  void refuse_draft_of_others() {
    if (draft_ != nullptr && !drafted_) {
      draft_->refuse("an operation other than advance, gather, sample, delta, gradient, update and learn");
    }
  }

  std::unique_ptr<Recording> recording_of(cudaGraph_t graph, const Draft& draft) {
    std::string why_not;
    if (replay_ != CudaReplay::graph) {
      why_not = route_ != CudaRoute::int8 ? "it multiplies by the int8 route alone"
                : persistent_blocks_ == 0 ? "the device cannot launch one whose blocks wait for each other"
                                          : draft.why_not(cache_bytes_);
    }
    auto recording =
        std::make_unique<CudaRecording>(*this, graph, draft, persistent_blocks_, replay_, why_not);
    const std::string how = recording->prepare(stream());
    const bool of_steps = draft.steps() > 0;
    if (of_steps || !describes_steps_) recordings_ = how;
    describes_steps_ = describes_steps_ || of_steps;
    return recording;
  }

  void require_main_line() const { require(branch_ == nullptr, "a branch entered that must be left first"); }

  void require_all_joined(const char* when) const {
    for (const Branch& branch : resources_->branches) {
      if (!branch.pending()) continue;
      throw InternalError(std::string("A branch of the CUDA backend was not awaited ") + when +
                          "; call await_branch for every branch first");
    }
  }

  Branch& branch_number(int branch) {
    require(branch >= 0 && branch < branches_, "a branch that it does not have");
    return resources_->branches[static_cast<std::size_t>(branch)];
  }

  void join_branches() {
    for (Branch& branch : resources_->branches) branch.join(main_stream());
  }

  template <class T>
  static std::size_t bytes_of(std::int64_t count) {
    return static_cast<std::size_t>(count) * sizeof(T);
  }

  /// Null for a prior.
  const CudaWeights* integers_of(const Conditional& conditional) const {
    return conditional.has_input() ? &weights_of(conditional) : nullptr;
  }

  const CudaWeights& weights_of(const Conditional& conditional) const {
    const auto& weights = static_cast<const CudaWeights&>(*conditional.integers);
    require(weights.limbs().route == route_, "integer weights of another route");
    return weights;
  }

  ParameterUpdate update_of(const Conditional& conditional, const OptimizerState& state,
                            std::uint32_t* diverged, const std::uint32_t* step) const {
    ParameterUpdate update;
    update.receiving = conditional.receiving;
    update.bias = conditional.bias;
    update.state = state;
    update.diverged = diverged;
    update.step = step;
    update.units = conditional.gradient_units();
    if (conditional.has_input()) {
      const CudaWeights& weights = weights_of(conditional);
      update.weight = conditional.weight;
      update.limbs = weights.limbs();
      update.bits = weights.bits;
      update.scales = weights.scales();
    }
    return update;
  }

  /// Queues the product. For a prior there is none, and the input is ignored.
  Logits logits_of(const Conditional& conditional, ConstStates input) {
    Logits logits;
    if (conditional.has_input()) {
      require_lines(input);
      logits = products().forward(weights_of(conditional), input);
    }
    logits.bias = conditional.bias;
    logits.deviation = conditional.deviation;
    if (conditional.is_gaussian()) logits.density = gaussian_density(conditional.deviation);
    return logits;
  }

  bool fits_one_kernel(const Conditional& conditional, ConstStates input) const {
    return conditional.has_input() && !conditional.is_gaussian() &&
           cuda::fits_one_kernel(input.rows, weights_of(conditional).limbs());
  }

  bool learns_in_one_kernel(const Conditional& conditional, ConstDeltas deltas) const {
    // Places among the weights are counted in 32 bits, as those among the padded integers can be.
    return conditional.has_input() && deltas.rows > 0 &&
           conditional.weight.stride <= weights_of(conditional).limbs().stride &&
           gradient_is_small(route_, deltas.rows, conditional.receiving, conditional.sending);
  }

  ForwardOperation forward_operation(const Conditional& conditional, ConstStates input) const {
    require_lines(input);
    const CudaWeights& weights = weights_of(conditional);
    const Limbs& limbs = weights.limbs();
    ForwardOperation operation;
    operation.limbs = static_cast<const std::int8_t*>(limbs.data);
    operation.limb_count = limbs.count;
    operation.limb_rows = static_cast<std::int32_t>(limbs.rows);
    operation.limb_stride = limbs.stride;
    operation.scales = weights.scales();
    operation.bias = conditional.bias;
    operation.input = input;
    operation.rows = static_cast<std::int32_t>(input.rows);
    operation.units = static_cast<std::int32_t>(conditional.receiving);
    return operation;
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

  /// Where operations are queued now.
  Lane& lane() const { return branch_ != nullptr ? branch_->lane() : resources_->main; }
  cudaStream_t stream() {
    refuse_draft_of_others();
    return lane().stream.get();
  }
  Products& products() {
    refuse_draft_of_others();
    return lane().products;
  }

  int ordinal_;
  CudaRoute route_;
  CudaReplay replay_;
  int branches_;
  int persistent_blocks_;
  std::int64_t cache_bytes_;
  std::string device_name_;
  std::string device_description_;
  bool streams_live_ = false;  ///< all of them: not while resources_ is made or destroyed
  std::unique_ptr<Resources> resources_;
  Branch* branch_ = nullptr;  ///< the one that was entered; null on the main line
  Draft* draft_ = nullptr;    ///< while operations are recorded
  bool drafted_ = false;      ///< while one that the draft knows is queued
  std::string recordings_;    ///< how the latest recording of steps, or else of anything, is replayed
  bool describes_steps_ = false;
};

CudaRecording::CudaRecording(CudaOps& ops, cudaGraph_t graph, const Draft& draft, int blocks, CudaReplay wish,
                             const std::string& why_not_persistent)
    : ops_(ops), replay_(ops, graph, draft, blocks, wish, why_not_persistent) {
  ops_.outgrown().recording_made();
}

CudaRecording::~CudaRecording() {
  // A launch may still be running.
  WAKESLEEP_CUDA_REPORT(cudaStreamSynchronize(ops_.main_stream()));
  ops_.outgrown().recording_gone();
}

void CudaRecording::replay() { ops_.replay(replay_); }

void CudaReadback::request(const void* from) { ops_.request(copy_, from); }

void CudaUpload::send(void* to, std::size_t bytes) {
  require_size_of_upload(bytes, upload_.bytes());
  ops_.send(upload_, to, bytes);
}

void CudaUpload::await() { ops_.await(upload_); }

}  // namespace
}  // namespace cuda

std::unique_ptr<Ops> make_cuda_ops(const CudaOptions& options) {
  const std::string why_not = cuda::why_unusable(options.ordinal);
  if (!why_not.empty()) throw DeviceError("The CUDA device cannot be used: " + why_not);
  if (options.branches < 1 || options.branches > cuda::most_branches) {
    throw UsageError("the CUDA backend has 1 to " + std::to_string(cuda::most_branches) + " branches, not " +
                     std::to_string(options.branches));
  }
  const cuda::CurrentDevice current(options.ordinal);
  return std::make_unique<cuda::CudaOps>(options, cuda::properties_of(options.ordinal));
}

bool cuda_available(std::string* why_not) {
  std::string reason;
  try {
    reason = cuda::why_unusable(CudaOptions{}.ordinal);
    if (reason.empty()) cublasLtGetVersion();  // throws where cuBLAS cannot be loaded
  } catch (const Error& error) {
    reason = error.what();
  }
  if (why_not != nullptr) *why_not = reason;
  return reason.empty();
}

}  // namespace wakesleep
