// VIMCO (Mnih & Rezende, ICML 2016): the K-sample bound by a score function with a leave-one-out baseline.
#pragma once

#include "wakesleep/importance_weights.hpp"
#include "wakesleep/posterior_samples.hpp"
#include "wakesleep/training_algorithm.hpp"

namespace wakesleep {

class Vimco : public TrainingAlgorithm {
 public:
  /// `machine` and `delta_rule` must outlive it.
  Vimco(Machine& machine, DeltaRule& delta_rule, const TrainingSettings& settings);

  void reserve(std::int64_t rows) override;

 protected:
  /// Ascends L = log 1/K sum_k w_k: the generative weights along sum_k w_k grad log p(x, h^k), w_k
  /// self-normalised, the recognition weights along sum_k c_k grad log q(h^k | x), c_k of vimco_coefficients
  /// in arithmetic.hpp.
  void queue_step(const Batch& batch) override;

 private:
  DeltaRule& delta_rule_;
  Ops& ops_;
  PosteriorSamples posterior_;
  ImportanceWeights importance_weights_;
  Buffer<float> coefficients_;       ///< over a power of two that fits them into a delta
  Buffer<Rates> recognition_rates_;  ///< which these undo
};

}  // namespace wakesleep
