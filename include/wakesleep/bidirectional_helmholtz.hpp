// The bidirectional Helmholtz machine (Bornschein, Shabanian, Fischer & Bengio, ICML 2016): the model is the
// geometric mean of generative and recognition network, p*(x, h) = sqrt(p(x, h) q(x, h)) / Z.
#pragma once

#include "wakesleep/importance_weights.hpp"
#include "wakesleep/posterior_samples.hpp"
#include "wakesleep/training_algorithm.hpp"

namespace wakesleep {

class BidirectionalHelmholtz : public TrainingAlgorithm {
 public:
  /// `machine` and `delta_rule` must outlive it.
  BidirectionalHelmholtz(Machine& machine, DeltaRule& delta_rule, const TrainingSettings& settings);

  void reserve(std::int64_t rows) override;

 protected:
  /// With log w_k = (log p(x, h^k) - log q(h^k | x)) / 2, self-normalised: sum_k w_k grad log p(x, h^k) and
  /// sum_k (w_k - 1 / K) grad log q(h^k | x). There is no sleep phase.
  void queue_step(const Batch& batch) override;

 private:
  DeltaRule& delta_rule_;
  PosteriorSamples posterior_;
  ImportanceWeights importance_weights_;
};

}  // namespace wakesleep
