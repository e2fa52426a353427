// Joint stochastic approximation (Xu & Ou 2016; Ou & Song, UAI 2020), the "stochastic approximation
// wake-sleep": a Metropolis independence sampler for each image, with the recognition network as its
// proposal.
#pragma once

#include <cstdint>

#include "wakesleep/chain_memory.hpp"
#include "wakesleep/posterior_samples.hpp"
#include "wakesleep/training_algorithm.hpp"

namespace wakesleep {

class JointStochasticApproximation : public TrainingAlgorithm {
 public:
  /// For `data_rows` training images. `machine` and `delta_rule` must outlive it.
  JointStochasticApproximation(Machine& machine, DeltaRule& delta_rule, const TrainingSettings& settings,
                               std::int64_t data_rows);

  void reserve(std::int64_t rows) override;

  Tensors download_state() const override;
  void upload_state(const Tensors& tensors) override;
  /// "acceptance_rate": share of the proposals accepted since the last call, checkpoints in between included;
  /// nothing where there were none. Blocks.
  std::vector<std::pair<std::string, double>> diagnostics() override;

 protected:
  /// A chain of K states an image: the first is where the image's chain stopped when it was last visited (a
  /// fresh sample in the first settings.fresh_epochs epochs), and each of the K - 1 others is a proposal h' ~
  /// q(. | x), accepted with probability min(1, w' / w), or its predecessor again. Then the mean over the
  /// chain's states of grad log p(x, h) and grad log q(h | x). There are no weights and no sleep phase.
  void queue_step(const Batch& batch) override;

 private:
  Machine& machine_;
  DeltaRule& delta_rule_;
  Ops& ops_;
  std::uint64_t seed_;
  PosteriorSamples posterior_;
  ChainMemory memory_;
  Buffer<std::int32_t> visits_;  ///< [images x K]: how many of the chain's states each sample is
  Buffer<std::int64_t> totals_;  ///< [images]: K
  Buffer<std::uint32_t> last_;   ///< [images]: the sample that is the chain's last state
  Buffer<std::int64_t> counts_;  ///< proposals made and accepted since the last look
};

}  // namespace wakesleep
