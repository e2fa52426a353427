// The delta rule of every conditional of a machine: ascent along (state - probability) x the states that
// predicted it, summed over the batch. What all training algorithms share: gradients, optimiser state,
// divergence.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "wakesleep/machine.hpp"
#include "wakesleep/settings.hpp"

namespace wakesleep {

class NaturalGradient;

class DeltaRule {
 public:
  /// For the rows of a step of `settings` (rows_of_a_step). `machine` must outlive it. Throws UsageError when
  /// the batch is too large for exact sums, InternalError when the machine's weights have other bits.
  DeltaRule(Machine& machine, const TrainingSettings& settings);

  /// Makes what the operations of `rows` rows need (Ops::reserve), on every branch and on the main line.
  void reserve(std::int64_t rows);

  /// Branches (ops.hpp) that learning may be divided over: each has working memory of its own. At least 1.
  int branches() const { return static_cast<int>(working_.size()); }
  void await_branches();
  /// A branch's memory for the deltas of `rows` rows of a layer.
  Deltas deltas(int branch, std::int64_t rows, std::int64_t units) const;

  /// Queues the step of conditional `index` along deltas^T . input, on the branch that the caller has
  /// entered. Rates and step are read when the operations run. A factorial prior has no input.
  /// What hold() has kept for the conditional is added.
  void learn(int branch, int index, const Rates* rates, const std::uint32_t* step, ConstDeltas deltas,
             ConstStates input);

  /// Keeps deltas^T . input for the learn() of the same recognition conditional that follows in the same
  /// step. Needs settings whose algorithm mixes two phases (mixes_phases).
  void hold(int index, ConstDeltas deltas, ConstStates input);

  /// Adds integers to the bias gradient of the learn() of the conditional that follows in the same step,
  /// which reads them when it runs.
  void add_to_bias_gradient(int index, const std::int32_t* terms);

  /// From now on every learn() follows the natural gradient instead, which `natural_gradient` knows at the
  /// time of the call and must outlive the last of them.
  void follow(const NaturalGradient& natural_gradient);

  /// Throws DivergenceError naming layer and step if any parameter had left the representable range when this
  /// was last called, and looks again; does not wait for what is queued since then.
  void check_divergence_of_before();
  /// The same for everything queued so far. Blocks.
  void check_divergence();

  /// Optimiser state, named optimizer.{conditional}.{weight|bias}.{first|second}; empty for sgd. Blocks.
  Tensors download_optimizer() const;
  /// Throws DataError naming the tensor that is missing or of another shape, or where there are more than the
  /// optimiser has; state before it has then been replaced.
  void upload_optimizer(const Tensors& tensors);

 private:
  struct State {
    Buffer<float> weight_first, weight_second, bias_first, bias_second;
    OptimizerState view;
  };
  struct Gradient {
    Buffer<std::int32_t> weight;
    Buffer<std::int32_t> bias;
  };
  struct Held {
    Gradient gradient;
    bool pending = false;
  };
  struct Working {
    Buffer<std::int8_t> deltas;
    Gradient gradient;
    Buffer<Rates> clipped_rates;                 ///< of the latest learn(), where gradients are clipped
    Buffer<float> natural_weight, natural_bias;  ///< empty but for natural gradients
  };
  /// What hold() and add_to_bias_gradient() have left for a conditional, once.
  void add_terms(int index, Learning& learning);
  void throw_if_any(const std::uint32_t* diverged) const;

  Machine& machine_;
  Ops& ops_;
  TrainingSettings settings_;
  Optimizer optimizer_;
  float clip_limit_;  ///< 0: gradients are not clipped
  std::vector<State> optimizer_state_;
  std::vector<Working> working_;
  const NaturalGradient* natural_gradient_ = nullptr;
  std::vector<const std::int32_t*> bias_terms_;  ///< by conditional, null where there are none
  std::vector<Held> held_;  ///< one per conditional, empty but for recognition; none where nothing is held
  Buffer<std::uint32_t> diverged_;  ///< by conditional: 1 + the first step at which it left the range
  std::unique_ptr<Readback> diverged_readback_;
};

}  // namespace wakesleep
