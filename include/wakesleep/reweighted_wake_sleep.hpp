// Reweighted wake-sleep (Bornschein & Bengio, ICLR 2015): K samples an image, self-normalised importance
// weights.
#pragma once

#include <cstdint>
#include <optional>

#include "wakesleep/importance_weights.hpp"
#include "wakesleep/posterior_samples.hpp"
#include "wakesleep/sleep_phase.hpp"
#include "wakesleep/training_algorithm.hpp"

namespace wakesleep {

class ReweightedWakeSleep : public TrainingAlgorithm {
 public:
  /// `machine` and `delta_rule` must outlive it.
  ReweightedWakeSleep(Machine& machine, DeltaRule& delta_rule, const TrainingSettings& settings);

  void reserve(std::int64_t rows) override;

 protected:
  /// Wake-theta with sum_k w_k grad log p(x, h^k), w_k = softmax_k(log p(x, h^k) - log q(h^k | x)). Then
  /// insomnia * wake-phi + (1 - insomnia) * sleep-phi: sum_k w_k grad log q(h^k | x) (w_k - 1 / K with the
  /// control variate) and grad log q(h | x) at one dream for every image. What has no share is not computed.
  void queue_step(const Batch& batch) override;
  /// As above; `keeps_recognition`: the samples' recognition logits are kept even where nothing learns from
  /// them.
  ReweightedWakeSleep(Machine& machine, DeltaRule& delta_rule, const TrainingSettings& settings,
                      bool keeps_recognition);
  /// Called in every step between the drawing of the samples and learning from them.
  virtual void samples_weighted(const Batch&, const PosteriorSamples&, const SampleWeights&) {}

 private:
  DeltaRule& delta_rule_;
  float insomnia_;
  bool control_variate_;
  PosteriorSamples posterior_;
  ImportanceWeights importance_weights_;
  std::optional<PassingStates> states_;  ///< of the sleep phase, like it absent when there is none
  std::optional<SleepPhase> sleep_;
};

}  // namespace wakesleep
