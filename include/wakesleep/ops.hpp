// The narrow waist of the engine: the operations that the phases in host/ are written with. A backend
// implements them (kernels/ops_cpu.cpp, kernels/ops_cuda.cu) and gives the same integers and the same bits as
// every other backend. The phases see no device, no thread and no stream.
//
// Conventions for every operation below
//   * All pointers and views are memory of this backend (allocate()). Views never overlap unless said so.
//   * Operations are queued in the order of the calls and may return before they have run; results are seen
//     by the host through copy_out(), which blocks. On the CPU backend they have run when the call returns.
//   * rows = 0 is allowed and does nothing, except that `gradient`, a sum over the rows, writes zeros and
//     `vimco_weights` its rates. Shapes are checked (kernels/shapes.hpp); a mismatch throws InternalError.
//   * Each operation restores the caller's floating-point environment.
//   * An Ops, and everything made with it (buffers, machines, trainers, estimates of a const Machine), serves
//     one thread at a time, whichever. Threads that work at once need an Ops each. A violation that the CPU
//     backend notices is a UsageError.
//   * What was made with an Ops holds memory of it, so the Ops is destroyed last.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "wakesleep/arithmetic.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/matrix.hpp"
#include "wakesleep/philox.hpp"

namespace wakesleep {

/// The integer weights that the products see, q = rint(w * 2^s) with one shift s per receiving unit, in a
/// layout of the backend's own. Made by Ops::make_integer_weights, written by Ops::quantize and Ops::update.
class IntegerWeights {
 public:
  virtual ~IntegerWeights() = default;
  std::int64_t receiving = 0;
  std::int64_t sending = 0;
  int bits = 16;
  std::int32_t largest_input = 1;
};

/// One factorial conditional distribution p(receiving | sending) = prod_i Bernoulli(sigma(w_i . s + b_i)), or
/// prod_i Normal(w_i . s + b_i, deviation^2) of fixed-point states (arithmetic.hpp), s the sending states
/// over largest_input. Where operations below say Bernoulli and sigma(logits), Gaussian units have their
/// density and their mean, which is the logit, and errors are within [-1, 1] (value_minus_mean).
/// For a prior `integers` is null, `weight` is empty and the logits are the biases.
/// An autoregressive prior is no prior in this sense: it has weights [receiving x receiving], 0 on and above
/// the diagonal, so that unit i receives from the units before it. The states that it is asked about are then
/// also its input, and operations treat it like any other conditional; but it is sampled by sample_in_order.
struct Conditional {
  Matrix<float> weight;   ///< [receiving x sending], master weights
  float* bias = nullptr;  ///< [receiving]
  std::int64_t receiving = 0;
  std::int64_t sending = 0;  ///< 0 for a prior
  IntegerWeights* integers = nullptr;
  bool autoregressive = false;
  float deviation = 0;             ///< of Gaussian receiving units; 0: they are Bernoulli
  std::int32_t largest_input = 1;  ///< sending states are 0 .. this: 1, or largest_fixed_point_state

  /// False for a prior.
  bool has_input() const { return sending > 0; }
  bool is_gaussian() const { return deviation > 0.0f; }
  GradientUnits gradient_units() const { return wakesleep::gradient_units(largest_input, deviation); }
};

/// Optimiser state of one conditional: shapes as the parameters', or null where the optimiser keeps none.
struct OptimizerState {
  float* weight_first = nullptr;
  float* weight_second = nullptr;
  float* bias_first = nullptr;
  float* bias_second = nullptr;
};

/// What changes from step to step, kept in the backend's memory so that a recorded step can be replayed.
struct StepScalars {
  std::uint32_t step = 0;   ///< number of this step since the beginning of the run
  std::uint32_t first = 0;  ///< position of the batch's first row in the order that the step reads
  std::uint32_t epoch = 0;
  Rates generative;
  Rates recognition;
};

/// Operations that were called once and can be queued again as a whole: on a GPU, a CUDA graph or one kernel.
/// Other operations, of any size, may be called between two replays.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void replay() = 0;
};

/// A copy of a few bytes of the backend's memory for the host, which looks at it later instead of waiting for
/// it.
class Readback {
 public:
  virtual ~Readback() = default;
  /// Queues a copy of the bytes as they are after everything queued before.
  virtual void request(const void* from) = 0;
  /// What the latest request copied, or null if there was none. Blocks until that copy has run.
  virtual const void* result() = 0;
};

/// Host memory whose contents go to the backend's memory beside the operations, which it does not hold up.
class Upload {
 public:
  virtual ~Upload() = default;
  /// The host memory, to be filled. Blocks until the latest copy of it has run.
  virtual void* fill() = 0;
  /// Queues a copy of its first `bytes` bytes, at most as many as it was made for. The copy runs after
  /// everything called before, and may run at the same time as what is called next. On the main line only;
  /// the backend's memory outlives the copy.
  virtual void send(void* to, std::size_t bytes) = 0;
  /// What is called on the main line from here runs after the latest copy.
  virtual void await() = 0;
};

/// Rows of a data set in the backend's memory: one bit per unit (first unit = most significant bit of the
/// first byte), or one grey byte per unit. What is read of it are 0/1 states, grey values binarized, or
/// fixed-point states, bits as 0 and 127.
struct DataRows {
  const std::uint8_t* bytes = nullptr;
  std::int64_t rows = 0;
  std::int64_t units = 0;
  std::int64_t row_bytes = 0;
  bool grey = false;
  bool ordered = false;      ///< row i of `bytes` is row order[i] of the data set
  bool fixed_point = false;  ///< read as fixed-point states
};

/// How `learn` follows a gradient: as `update` does.
struct Learning {
  OptimizerState state;
  Optimizer optimizer;
  const Rates* rates = nullptr;
  /// Memory for the gradients, in their shapes (null: that of the weights of a prior). What it holds
  /// afterwards is not specified.
  std::int32_t* gradient = nullptr;
  std::int32_t* bias_gradient = nullptr;
  const std::int32_t* added = nullptr;       ///< to the gradient of the weights, in its shape; null: nothing
  const std::int32_t* added_bias = nullptr;  ///< likewise
  std::uint32_t* diverged = nullptr;
  const std::uint32_t* step = nullptr;
};

/// Where `sample` and `score` add log-probabilities, in units of 2^-20 nats. Operations that may run at the
/// same time may add to the same: their sums are those of any order.
struct ScoreSink {
  std::int64_t* rows = nullptr;  ///< [output rows]: rows[r] += sign * log p(row r); may be null
  int sign = 1;
  std::int64_t* total = nullptr;  ///< one integer: += log p summed over all rows; may be null
};

/// What `importance` leaves of the log weights of one image. log p^ = maximum * 2^-20 + log(sum / (2^30 K)).
struct ImportanceSummary {
  std::int64_t maximum = 0;         ///< m = max_k lw_k
  std::int64_t sum = 0;             ///< E = sum_k e_k, e_k = relative_weight(lw_k, m)
  std::int64_t sum_of_squares = 0;  ///< sum_k (e_k >> 10)^2, for the effective sample size
  std::int64_t total_high = 0;      ///< sum_k lw_k = total_high * 2^20 + total_low
  std::int64_t total_low = 0;
};

/// How much each of the K samples of an image counts in `delta`: scale * e_k / E, or scale * (e_k / E - 1 /
/// K) if centred, which leaves the mean of a self-normalised sum as it is where the samples' own deltas have
/// mean 0.
struct SampleWeights {
  const std::int32_t* relative = nullptr;  ///< [images x samples] e_k; null: every row has weight `scale`
  const std::int64_t* total = nullptr;     ///< [images] E = sum_k e_k, above 0
  std::int64_t samples = 1;                ///< K
  bool centred = false;
  float scale = 1.0f;                  ///< 0 to 1
  const float* coefficient = nullptr;  ///< [images x samples]: where given, weights are scale * coefficient

  /// Whether every sample has a weight of its own.
  bool per_sample() const { return relative != nullptr || coefficient != nullptr; }
};

/// P_i = (F_i + damping)^-1 for every receiving unit i of a conditional: what natural gradients multiply by.
/// Rows and columns of P_i are in the order of the sending units, and the bias comes last: d = sending + 1.
struct FisherInverse {
  FisherForm form = FisherForm::diagonal;
  float damping = 1.0f;
  /// diagonal: [receiving x d], 1 / (F_i + damping) on the diagonal. dense: [receiving x d x d], P_i.
  /// woodbury: [receiving x R x R], Q_i of P_i = (1 - A^T Q_i A) / damping, A = (rows, 1) [R x d].
  const float* blocks = nullptr;
  ConstStates rows;  ///< woodbury: [R x sending], R at most max_fisher_order
};

/// Bytes held through allocate(), and how often it was called.
struct MemoryUse {
  std::size_t current = 0;
  std::size_t peak = 0;
  std::size_t allocations = 0;
};

class Ops {
 public:
  virtual ~Ops() = default;

  /// One line for logs: device, threads, instruction set, route of the products and the library behind it.
  virtual std::string description() const = 0;
  /// "cpu" or "cuda".
  virtual std::string device() const = 0;

  // ---------------------------------------------------------------- memory
  /// Throws DeviceError with the amount and what is already held when there is not enough. Aligned to 256
  /// bytes.
  virtual void* allocate(std::size_t bytes) = 0;
  virtual void deallocate(void* memory, std::size_t bytes) noexcept = 0;
  /// The host memory may be reused when the call returns.
  virtual void copy_in(void* to, const void* from_host, std::size_t bytes) = 0;
  /// Blocks until everything queued before has run and the bytes are in host memory.
  virtual void copy_out(void* to_host, const void* from, std::size_t bytes) = 0;
  virtual void fill_zero(void* memory, std::size_t bytes) = 0;
  /// Blocks until everything queued before has run.
  virtual void synchronize() = 0;
  virtual std::unique_ptr<Readback> make_readback(std::size_t bytes) = 0;
  virtual std::unique_ptr<Upload> make_upload(std::size_t bytes) = 0;
  /// Bytes that allocate() could still hand out, as far as the device says; SIZE_MAX where it does not.
  virtual std::size_t available_memory() const { return SIZE_MAX; }
  MemoryUse memory_use() const { return memory_; }
  void reset_peak() { memory_.peak = memory_.current; }

  // ---------------------------------------------------------------- order of execution
  // On the main line, operations run in the order of the calls. A branch leaves the main line and runs beside
  // it: what is called between enter_branch and leave_branch runs after everything called on the main line
  // before, in the order of the branch, but may run at the same time as what the main line is given next.
  // Whoever uses branches sees to it that operations that may run at the same time touch no memory in common,
  // but for that of a ScoreSink.
  // A backend that runs everything at once, in the order of the calls, has one branch and nothing to do.

  virtual int branches() const { return 1; }
  virtual void enter_branch(int) {}
  virtual void leave_branch() {}
  /// What is called on the main line from here runs after everything that the branch has been given so far.
  virtual void await_branch(int) {}
  template <class Work>
  void on_branch(int branch, const Work& work) {
    enter_branch(branch);
    try {
      work();
    } catch (...) {
      try {
        leave_branch();
      } catch (const std::exception&) {
        // It follows from what is on its way, which says what was at fault.
      }
      throw;
    }
    leave_branch();
  }

  /// Calls `operations`, which calls operations that have been reserved for and have run before in the same
  /// shapes, and ends with every branch awaited, and keeps them; none of them runs. Null where queueing costs
  /// nothing that is worth saving, and then `operations` has not been called. A replay does what the
  /// operations would do, but gradients that `update` reads right after `gradient` need not have been
  /// written, nor the deltas of a prior that it learns from.
  virtual std::unique_ptr<Recording> record(const std::function<void()>&) { return nullptr; }

  // ---------------------------------------------------------------- weights
  /// For states 0 .. largest_input. Throws UsageError, with the limit named, when `sending` is too wide for
  /// exact sums on this backend's route.
  virtual std::unique_ptr<IntegerWeights> make_integer_weights(std::int64_t receiving, std::int64_t sending,
                                                               int bits, std::int32_t largest_input = 1) = 0;
  /// weight[i][j] = limit * symmetric_uniform(word j mod 4 of the draw at (j / 4, row i)): uniform within
  /// +-limit. The integers stay as they are until quantize.
  virtual void draw_weights(const Conditional& conditional, const Draw& draw, float limit) = 0;
  /// Integers and shifts from the master weights. `diverged` (one word, may be null) becomes 1 + the value of
  /// `step` (or 1 where that is null) if it was 0 and a weight is not finite or fits no shift.
  virtual void quantize(const Conditional& conditional, std::uint32_t* diverged,
                        const std::uint32_t* step) = 0;
  /// Makes what the operations on `conditional` need for batches of `rows` rows (primitives, chosen
  /// algorithms, working memory), so that the engine allocates nothing when they run. An operation that finds
  /// nothing reserved for its shape does it itself. States and deltas are taken to have the stride
  /// padded_units().
  virtual void reserve(const Conditional& conditional, std::int64_t rows) = 0;
  /// Working memory of the backend's own for each input row of an operation on `conditional`; 0 where it does
  /// not grow with the rows.
  virtual std::int64_t scratch_bytes_per_row(const Conditional&) const { return 0; }

  // ---------------------------------------------------------------- the wake-sleep step
  /// *now = table[(*position)++]: a step that is replayed goes on to the next by itself.
  virtual void advance(const StepScalars* table, std::uint32_t* position, StepScalars* now) = 0;

  /// order[0 .. rows) = the rows of a data set sorted by keys (sorting_key in philox.hpp) drawn at
  /// (0, row, step), ties by row: the order of an epoch, which is the draw's step. Working memory is kept.
  virtual void shuffle(const Draw& draw, std::int64_t rows, std::uint32_t* order) = 0;

  /// states[i] = row order[*first + i] of the data set (row *first + i where order is null), which stands
  /// there in data.bytes, or at *first + i where data.ordered. Grey data is binarized by the draws at (unit
  /// group, row of the data set, draw.first_step + *draw.step), unless it is read as fixed point.
  virtual void gather(const DataRows& data, const std::uint32_t* order, const std::uint32_t* first,
                      const Draw& draw, States states) = 0;

  /// output[r] ~ Bernoulli(sigma(logits of input[r / repeats])), repeats = output.rows / input.rows: an input
  /// row may serve several consecutive output rows, and is then multiplied once. A prior has no input.
  /// `samples` is how many output rows there are for each row of the batch, which SampleAddress::step needs
  /// to tell them apart. If `score` has a sink, the log-probability of the sample is added there. What is
  /// kept for learning, where it has memory: `logits`, the pre-activations given input[r] ([input.rows x
  /// receiving], nothing for a prior and for Gaussian units), and `errors`, output[r] - sigma of its logits
  /// ([output.rows x receiving]).
  virtual void sample(const Conditional& conditional, ConstStates input, const Draw& draw,
                      std::int64_t samples, States output, const ScoreSink& score = {},
                      Matrix<float> logits = {}, Matrix<float> errors = {}) = 0;

  /// output[r] ~ an autoregressive prior, one unit after the other: unit i ~ Bernoulli(sigma(a)), a its logit
  /// given units 0 .. i - 1 of the same row, to the last bit the one that `score` gives it with output[r] as
  /// input. Draws are addressed as those of `sample` with one sample for each row of the batch.
  virtual void sample_in_order(const Conditional& conditional, const Draw& draw, States output) = 0;

  /// deltas[r] = round_delta(w_r (target[r] - sigma(logits of input[r]))): the delta rule's error, weighted
  /// and stochastically rounded. Kept `logits` stand for the product, and the input is then left out.
  ///   * A target row may stand for several consecutive rows of deltas:
  ///     target[r / (deltas.rows / target.rows)].
  ///   * Or a row of deltas for the K samples of an image, which share their input: target.rows =
  ///     deltas.rows * K, and deltas[r] = round_delta(sum_k w_k target[r K + k] - sigma(..) sum_k w_k),
  ///     rounded once. Not of Gaussian units.
  virtual void delta(const Conditional& conditional, ConstStates input, ConstStates target, const Draw& draw,
                     Deltas deltas, const SampleWeights& weights = {}, Matrix<const float> logits = {}) = 0;

  /// deltas[r] = round_delta(w_r errors[r]): the same of errors that `sample` or `score` kept, |errors| <= 1.
  virtual void round_errors(Matrix<const float> errors, const Draw& draw, Deltas deltas,
                            const SampleWeights& weights) = 0;

  /// gradient = deltas^T . states ([receiving x sending], dense) and bias_gradient = column sums of deltas.
  /// For a prior pass empty states and a null gradient; a null bias_gradient is left out. States are
  /// 0 .. largest_state.
  virtual void gradient(ConstDeltas deltas, ConstStates states, std::int32_t* gradient,
                        std::int32_t* bias_gradient, std::int32_t largest_state = 1) = 0;

  /// gradient[i][j] = 0 for all j >= i of a gradient [units x units]: what an autoregressive prior may learn.
  virtual void keep_below_diagonal(std::int32_t* gradient, std::int64_t units) = 0;

  /// sums[i] += terms[i].
  virtual void add(std::int32_t* sums, const std::int32_t* terms, std::int64_t count) = 0;

  /// activation[u] = running_activation of unit u over the rows, and penalty[u] = its sparsity_gradient.
  virtual void sparsity(ConstStates states, const Sparsity& sparsity, float* activation,
                        std::int32_t* penalty) = 0;

  /// *clipped = *rates with its mean times the clip_factor of the conditional's largest |g|, over gradient
  /// [receiving x sending] (null for a prior) and bias_gradient, which count in gradient_units: what `update`
  /// then ascends by has no component of its mean gradient beyond `limit`. `rates` are read when the
  /// operation runs.
  virtual void clip(const Conditional& conditional, const std::int32_t* gradient,
                    const std::int32_t* bias_gradient, float limit, const Rates* rates, Rates* clipped) = 0;

  /// Ascends along the gradient (updated_parameter in arithmetic.hpp), which counts in the conditional's
  /// gradient_units, and quantizes the new weights. `rates` and `step` are read when the operation runs;
  /// `diverged` as in quantize.
  virtual void update(const Conditional& conditional, const OptimizerState& state, const Optimizer& optimizer,
                      const Rates* rates, const std::int32_t* gradient, const std::int32_t* bias_gradient,
                      std::uint32_t* diverged, const std::uint32_t* step) = 0;

  /// The same along mean gradients in float32, such as natural_gradient makes.
  virtual void update(const Conditional& conditional, const OptimizerState& state, const Optimizer& optimizer,
                      const Rates* rates, const float* gradient, const float* bias_gradient,
                      std::uint32_t* diverged, const std::uint32_t* step) = 0;

  /// `gradient`, of states up to the conditional's largest_input, `add` of what is added to it, and `update`
  /// along the sum, in one.
  virtual void learn(const Conditional& conditional, ConstDeltas deltas, ConstStates states,
                     const Learning& learning) {
    gradient(deltas, states, learning.gradient, learning.bias_gradient, conditional.largest_input);
    if (learning.added != nullptr)
      add(learning.gradient, learning.added, conditional.receiving * conditional.sending);
    if (learning.added_bias != nullptr)
      add(learning.bias_gradient, learning.added_bias, conditional.receiving);
    update(conditional, learning.state, learning.optimizer, learning.rates, learning.gradient,
           learning.bias_gradient, learning.diverged, learning.step);
  }

  /// (natural, natural_bias) of receiving unit i = P_i (mean gradient, mean bias gradient) of that unit, in
  /// the shapes of the integer gradients; `rates` is read when the operation runs. For a prior pass null
  /// gradients but those of the bias, and the diagonal form. Sums are made in float32 in ascending order
  /// (those over A g in integers), so that the same P_i give the same bits on every backend.
  virtual void natural_gradient(const Conditional& conditional, const FisherInverse& inverse,
                                const Rates* rates, const std::int32_t* gradient,
                                const std::int32_t* bias_gradient, float* natural, float* natural_bias) = 0;

  // ---------------------------------------------------------------- chains of joint stochastic approximation
  /// Where *epoch >= from_epoch: states[i] = row order[*first + i] of `remembered`, bits as in a binary data
  /// set.
  virtual void recall(const DataRows& remembered, const std::uint32_t* order, const std::uint32_t* first,
                      const std::uint32_t* epoch, std::uint32_t from_epoch, States states) = 0;
  /// Row order[*first + i] of the remembered bits, row_bytes each, becomes states[i samples + chosen[i]], for
  /// i < states.rows / samples. No two i have the same row.
  virtual void remember(ConstStates states, std::int64_t samples, const std::uint32_t* chosen,
                        const std::uint32_t* order, const std::uint32_t* first, std::uint8_t* bits,
                        std::int64_t row_bytes) = 0;
  /// A chain over the samples of every image i of log weights [images x K]: it begins at sample 0 and goes to
  /// sample k = 1 .. K - 1 if `accepts` says so at word k mod 4 of the draw (k / 4, i). visits[i][k] = how
  /// many of the chain's K states are sample k, totals[i] = K, last[i] = the sample it ends at. counts[0] +=
  /// proposals, counts[1] += those accepted.
  virtual void metropolis(Matrix<const std::int64_t> log_weights, const Draw& draw, std::int32_t* visits,
                          std::int64_t* totals, std::uint32_t* last, std::int64_t* counts) = 0;

  // ---------------------------------------------------------------- likelihood and reading out
  /// Adds log p(target[r / repeats] | input[r]) to the sink, repeats = input.rows / target.rows: a target row
  /// may stand for several consecutive input rows. A prior has no input and scores every target row. Where
  /// `errors` has memory, errors[r] = that target row - sigma(logits of input[r]), one row for each score.
  virtual void score(const Conditional& conditional, ConstStates input, ConstStates target,
                     const ScoreSink& sink, Matrix<float> errors = {}) = 0;

  /// The same with logits that were kept: row r of the target has row r / (target.rows / logits.rows) of
  /// them. Where every target row has a row of its own, the errors may take the place of the logits.
  virtual void score_kept(Matrix<const float> logits, ConstStates target, const ScoreSink& sink,
                          Matrix<float> errors = {}) = 0;

  /// One summary per row of log weights [images x K].
  virtual void importance(Matrix<const std::int64_t> log_weights, ImportanceSummary* summaries) = 0;

  /// relative[i][k] = e_k (relative_weight against the image's largest) and totals[i] = sum_k e_k, of log
  /// weights [images x K], K > 0, in units of 2^-fraction_bits nats (20, or 21 for half of what is read with
  /// 20).
  virtual void importance_weights(Matrix<const std::int64_t> log_weights, int fraction_bits,
                                  std::int32_t* relative, std::int64_t* totals) = 0;

  /// coefficients[i][k] = c_k / 2^s with vimco_coefficients in arithmetic.hpp and the least s >= 0 at which
  /// sum_k |c_k| <= 2^s for every image; *scaled = *rates for a gradient that is 2^s times too small. K > 1.
  virtual void vimco_weights(Matrix<const std::int64_t> log_weights, float* coefficients, const Rates* rates,
                             Rates* scaled) = 0;

  /// probabilities[r] = sigma(logits of input[r]), and of Gaussian units mean_in_range of it.
  virtual void probabilities(const Conditional& conditional, ConstStates input,
                             Matrix<float> probabilities) = 0;

  /// The forward product of `input` alone, its sums thrown away: for measuring products by themselves.
  virtual void multiply(const Conditional& conditional, ConstStates input) = 0;

  /// counts[unit] += number of rows in which the unit is on.
  virtual void count(ConstStates states, std::int64_t* counts) = 0;

 protected:
  void note_allocation(std::size_t bytes) {
    memory_.current += bytes;
    ++memory_.allocations;
    if (memory_.current > memory_.peak) memory_.peak = memory_.current;
  }
  void note_deallocation(std::size_t bytes) noexcept { memory_.current -= bytes; }

 private:
  MemoryUse memory_;
};

/// An array in a backend's memory, of unspecified content at first. The Ops must outlive it. One that is
/// empty or was moved from holds nothing, and its copies and fill_zero do nothing.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  /// Throws UsageError for a count that is negative or beyond what can be addressed, DeviceError as
  /// Ops::allocate.
  Buffer(Ops& ops, std::int64_t count)
      : ops_(&ops), count_(addressable(count)), data_(static_cast<T*>(ops.allocate(bytes()))) {}
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer taken(std::move(other));
    swap(taken);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (data_ != nullptr) ops_->deallocate(data_, bytes());
  }

  T* data() const { return data_; }
  std::int64_t size() const { return count_; }
  std::size_t bytes() const { return static_cast<std::size_t>(count_) * sizeof(T); }
  void copy_in(const T* host) {
    if (count_ > 0) ops_->copy_in(data_, host, bytes());
  }
  void copy_out(T* host) const {
    if (count_ > 0) ops_->copy_out(host, data_, bytes());
  }
  void fill_zero() {
    if (count_ > 0) ops_->fill_zero(data_, bytes());
  }

 private:
  static std::int64_t addressable(std::int64_t count) {
    if (count >= 0 && count <= INT64_MAX / static_cast<std::int64_t>(sizeof(T))) return count;
    throw UsageError("an array of " + std::to_string(count) +
                     " elements cannot be made; give 0 or more, of fewer than 2^63 bytes in all");
  }
  void swap(Buffer& other) noexcept {
    std::swap(ops_, other.ops_);
    std::swap(count_, other.count_);
    std::swap(data_, other.data_);
  }
  Ops* ops_ = nullptr;
  std::int64_t count_ = 0;
  T* data_ = nullptr;
};

/// How the CPU multiplies. Every route gives the same integers; a route is checked once per process before it
/// is trusted.
enum class CpuRoute {
  best,       ///< avx2 on a processor that has AVX2 and no 8-bit dot products (VNNI), int8 on every other
  avx2,       ///< AVX2 products of the engine's own: 8-bit weights in 16-bit sums, wider ones in 32-bit sums
  int8,       ///< oneDNN u8 x s8 -> s32, weights as one or two 8-bit limbs
  float32,    ///< oneDNN sgemm on integer values, limbs and pieces chosen so that every partial sum fits 24
              ///< bits
  reference,  ///< a plain loop, for tests
};

/// False when this processor lacks the instructions of a route; make_cpu_ops() throws DeviceError then.
bool cpu_route_available(CpuRoute route);

/// Instruction sets of the CPU's elementwise kernels, for tests and measurements.
enum class CpuInstructions { best, avx512, avx2, baseline };

struct CpuOptions {
  int threads = 0;  ///< 0: all that this process may run on
  CpuRoute route = CpuRoute::best;
  CpuInstructions instructions = CpuInstructions::best;
  std::int64_t piece_rows = 0;  ///< rows multiplied and sampled at a time by one thread; 0: chosen by shape
};
/// Throws UsageError for negative numbers, and DeviceError where the processor lacks the instructions of the
/// route or the set that is asked for, or the system refuses so many threads.
std::unique_ptr<Ops> make_cpu_ops(const CpuOptions& options = {});

/// How the GPU multiplies.
enum class CudaRoute {
  /// int8 x int8 -> int32 by cuBLASLt, small products by a kernel of the engine's own; weights as one or two
  /// limbs.
  int8,
  fp16,  ///< fp16 carrying integers, float32 sums kept below 2^24
};

/// How the GPU replays a recording. Every way gives the same bits.
enum class CudaReplay {
  fastest,     ///< both ways below in turn at first, then the one that took less time
  graph,       ///< a CUDA graph, a kernel for every operation
  persistent,  ///< one kernel for all operations, where it knows them and what they touch fits the L2 cache;
               ///< elsewhere a graph, and the description says why
};

struct CudaOptions {
  int ordinal = 0;
  CudaRoute route = CudaRoute::int8;
  CudaReplay replay = CudaReplay::fastest;
  int branches = 3;  ///< 1 to 3, beside the main line; every number gives the same bits
};
/// Throws DeviceError, saying which of the following it is: built without CUDA, no driver, driver too old
/// (both versions), no such device, architecture not in this binary, no cuBLAS; and UsageError for another
/// number of branches. Every call leaves the calling thread's current device as it was, unless this process
/// has no context there: then the backend's device stays current, since to go back would open one.
std::unique_ptr<Ops> make_cuda_ops(const CudaOptions& options = {});

/// True when make_cuda_ops() can work here; otherwise `why_not` says why in one clause.
bool cuda_available(std::string* why_not = nullptr);

}  // namespace wakesleep
