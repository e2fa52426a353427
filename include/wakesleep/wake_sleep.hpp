// One step of classic wake-sleep (Hinton, Dayan, Frey & Neal, Science 268, 1995), written once for all
// backends.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "wakesleep/data.hpp"
#include "wakesleep/machine.hpp"
#include "wakesleep/settings.hpp"

namespace wakesleep {

/// Optimiser state and working memory of wake-sleep. Working memory is two layers' states, one of deltas
/// and one gradient, whatever the depth.
class WakeSleep {
 public:
  /// `machine` must outlive it. Throws UsageError when settings.batch_size is above max_batch_rows.
  WakeSleep(Machine& machine, const TrainingSettings& settings);

  /// Makes what steps of `rows` rows need. From then on such steps allocate nothing; only the library behind
  /// the products may take memory during a call and give it back. Steps of other sizes do it when they first
  /// come.
  void reserve(std::int64_t rows);

  /// Wake, then sleep, on rows order[first .. first + rows) of the data. `step` counts from 0 over the whole
  /// run and addresses the random draws; rows is batch_size, or less for an epoch's last batch.
  void step(const DeviceData& data, const std::uint32_t* order, std::int64_t first, std::int64_t rows,
            std::int64_t step, std::int64_t steps_per_epoch);

  /// The two phases, with the batch of `rows` rows already described by the step's scalars.
  void wake(const DeviceData& data, const std::uint32_t* order, std::int64_t rows);
  void sleep(std::int64_t rows);

  /// Blocks. Throws DivergenceError naming layer and step if any parameter has left the representable range.
  void check_divergence();

  /// Optimiser state, named optimizer.{conditional}.{weight|bias}.{first|second}; empty for sgd. Blocks.
  Tensors download_optimizer() const;
  void upload_optimizer(const Tensors& tensors);

  std::size_t optimizer_bytes() const;

 private:
  struct State {
    Buffer<float> weight_first, weight_second, bias_first, bias_second;
    OptimizerState view;
  };
  void learn(int conditional_index, const Rates* rates, ConstDeltas deltas, ConstStates input);
  States states(int buffer, std::int64_t rows, std::int64_t units) const;
  Deltas deltas(std::int64_t rows, std::int64_t units) const;

  Machine& machine_;
  Ops& ops_;
  TrainingSettings settings_;
  Optimizer optimizer_;
  std::vector<State> optimizer_state_;
  Buffer<StepScalars> scalars_;
  Buffer<std::uint8_t> states_[2];
  Buffer<std::int8_t> deltas_;
  Buffer<std::int32_t> gradient_;
  Buffer<std::int32_t> bias_gradient_;
  Buffer<std::uint32_t>
      diverged_;  ///< one word per conditional: 1 + the first step at which it left the range
  std::vector<std::uint32_t> diverged_seen_;  ///< the same as last read by the host
};

}  // namespace wakesleep
