// Natural reweighted wake-sleep (Varady, Volpi, Malago & Ay, Neural Networks 155, 2022): reweighted
// wake-sleep along natural gradients.
#pragma once

#include <cstdint>

#include "wakesleep/natural_gradient.hpp"
#include "wakesleep/reweighted_wake_sleep.hpp"

namespace wakesleep {

/// Every fisher_refresh steps, beginning with the first, the Fisher blocks are taken from the step's own
/// samples: those of the generative weights and the prior with importance weights, those of the recognition
/// weights without.
class NaturalReweightedWakeSleep : public ReweightedWakeSleep {
 public:
  /// `machine` and `delta_rule` must outlive it; `delta_rule` follows its natural gradients.
  NaturalReweightedWakeSleep(Machine& machine, DeltaRule& delta_rule, const TrainingSettings& settings);

  std::int64_t steps_without_host(std::int64_t step) const override;

  /// Those of NaturalGradient. Blocks.
  Tensors download_state() const override { return natural_gradient_.download(); }
  void upload_state(const Tensors& tensors) override { natural_gradient_.upload(tensors); }

 protected:
  void samples_weighted(const Batch& batch, const PosteriorSamples& posterior,
                        const SampleWeights& weights) override;

 private:
  Machine& machine_;
  std::int64_t refresh_;
  NaturalGradient natural_gradient_;
};

}  // namespace wakesleep
