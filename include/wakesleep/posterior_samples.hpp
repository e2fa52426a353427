// K samples of the hidden states for each image of a batch, from the recognition network, with their log
// weights: what the algorithms of the reweighted kind learn from.
#pragma once

#include <cstdint>
#include <vector>

#include "wakesleep/chain_memory.hpp"
#include "wakesleep/delta_rule.hpp"
#include "wakesleep/machine.hpp"
#include "wakesleep/settings.hpp"
#include "wakesleep/training_algorithm.hpp"

namespace wakesleep {

/// Holds the states of every layer and the errors of every conditional, state - sigma(a): no delta can be
/// weighted before the whole chain has its log weights, and keeping them is cheaper than to multiply again.
/// Sample k of image b is row b K + k. All samples of an image share the image, and with it the first
/// recognition layer's product and delta, for which its pre-activations are held.
class PosteriorSamples {
 public:
  /// `machine` must outlive it. Recognition weights learn only if `recognition_learns`.
  PosteriorSamples(Machine& machine, const TrainingSettings& settings, bool recognition_learns);

  std::int64_t samples() const { return samples_; }  ///< K

  /// Queues h^k ~ q(. | x) for the rows x of the batch and log w_k = log p(x, h^k) - log q(h^k | x). With a
  /// memory of chains, the first sample of each image is what that recalls (which needs recognition_learns).
  /// Works on the branches of the delta rule as well, which have nothing left to do afterwards.
  void draw(const Batch& batch, DeltaRule& delta_rule, const ChainMemory* memory = nullptr);

  /// The states of hidden layer l [images * K x units].
  ConstStates hidden(const Batch& batch, int l) const { return states(l, batch.rows); }

  /// The conditional of layer l's states given their inputs, with what draw() has kept of it: logits, or else
  /// errors. Of the first recognition layer, whose input all samples of an image share, it is logits, one row
  /// an image. A factorial prior has no input, and its logits are its biases.
  struct Rows {
    ConstStates input;
    Matrix<const float> logits;
    Matrix<const float> errors;
  };
  Rows generative(const Batch& batch, int l) const;   ///< layer l = 0 .. L given l + 1
  Rows recognition(const Batch& batch, int l) const;  ///< layer l = 1 .. L given l - 1, where it is kept

  /// log w_k in units of 2^-20 nats [images x K].
  Matrix<const std::int64_t> log_weights(const Batch& batch) const;

  /// Queues the step of the generative weights and the prior: sum_k w_k grad log p(x, h^k).
  void learn_generative(const Batch& batch, DeltaRule& delta_rule, const SampleWeights& weights);
  /// Queues the step of the recognition weights: sum_k w_k grad log q(h^k | x).
  void learn_recognition(const Batch& batch, DeltaRule& delta_rule, const SampleWeights& weights,
                         const Rates* rates);
  /// The same gradient, which DeltaRule::hold keeps for a phase that follows.
  void hold_recognition(const Batch& batch, DeltaRule& delta_rule, const SampleWeights& weights);

 private:
  template <class Use>
  void each_recognition_delta(const Batch& batch, DeltaRule& delta_rule, const SampleWeights& weights,
                              const Use& use);
  States states(int layer, std::int64_t images) const;
  Matrix<float> kept(const Buffer<float>& buffer, std::int64_t rows, int layer) const;
  Matrix<float> generative_errors(int layer, std::int64_t images) const;
  Matrix<float> recognition_errors(int layer, std::int64_t images) const;
  Matrix<float> first_logits(std::int64_t images) const;
  Draw draw_at(Domain domain, int layer, const std::uint32_t* step) const;

  Machine& machine_;
  Ops& ops_;
  std::uint64_t seed_;
  std::int64_t samples_;
  std::vector<Buffer<std::uint8_t>> states_;       ///< by layer
  std::vector<Buffer<float>> generative_errors_;   ///< by layer, given the layer above
  std::vector<Buffer<float>> recognition_errors_;  ///< by layer, from the second; empty if it does not learn
  Buffer<float> first_logits_;                     ///< of the first recognition layer, likewise
  Buffer<std::int64_t> log_weights_;
};

}  // namespace wakesleep
