// Samples of the posterior and what is learnt from them. Equations: docs/math.md.
#include "wakesleep/posterior_samples.hpp"

namespace wakesleep {

PosteriorSamples::PosteriorSamples(Machine& machine, const TrainingSettings& settings,
                                   bool recognition_learns)
    : machine_(machine), ops_(machine.ops()), seed_(settings.seed), samples_(settings.samples) {
  const std::int64_t images = settings.batch_size;
  const std::int64_t rows = images * samples_;
  for (int l = 0; l <= machine.layers(); ++l) {
    const std::int64_t units = machine.size(l);
    states_.emplace_back(ops_, (l == 0 ? images : rows) * padded_units(units));
    generative_errors_.emplace_back(ops_, rows * units);
    recognition_errors_.emplace_back(ops_, recognition_learns && l > 1 ? rows * units : 0);
  }
  first_logits_ = Buffer<float>(ops_, recognition_learns ? images * machine.size(1) : 0);
  log_weights_ = Buffer<std::int64_t>(ops_, rows);
}

States PosteriorSamples::states(int layer, std::int64_t images) const {
  const std::int64_t units = machine_.size(layer);
  return {states_[static_cast<std::size_t>(layer)].data(), layer == 0 ? images : images * samples_, units,
          padded_units(units)};
}

Matrix<float> PosteriorSamples::kept(const Buffer<float>& buffer, std::int64_t rows, int layer) const {
  const std::int64_t units = machine_.size(layer);
  return buffer.size() > 0 ? Matrix<float>{buffer.data(), rows, units, units} : Matrix<float>{};
}
Matrix<float> PosteriorSamples::generative_errors(int layer, std::int64_t images) const {
  return kept(generative_errors_[static_cast<std::size_t>(layer)], images * samples_, layer);
}
Matrix<float> PosteriorSamples::recognition_errors(int layer, std::int64_t images) const {
  return kept(recognition_errors_[static_cast<std::size_t>(layer)], images * samples_, layer);
}
Matrix<float> PosteriorSamples::first_logits(std::int64_t images) const {
  return kept(first_logits_, images, 1);
}

PosteriorSamples::Rows PosteriorSamples::generative(const Batch& batch, int l) const {
  const Conditional& prior = machine_.prior();
  const bool top = l == machine_.layers();
  if (top && !prior.autoregressive) return {{}, {prior.bias, 1, prior.receiving, prior.receiving}, {}};
  return {states(top ? l : l + 1, batch.rows), {}, generative_errors(l, batch.rows)};
}
PosteriorSamples::Rows PosteriorSamples::recognition(const Batch& batch, int l) const {
  const States input = states(l - 1, batch.rows);
  if (l == 1) return {input, first_logits(batch.rows), {}};
  return {input, {}, recognition_errors(l, batch.rows)};
}

Matrix<const std::int64_t> PosteriorSamples::log_weights(const Batch& batch) const {
  return {log_weights_.data(), batch.rows, samples_, samples_};
}

Draw PosteriorSamples::draw_at(Domain domain, int layer, const std::uint32_t* step) const {
  return {.seed = seed_, .domain = domain, .layer = static_cast<std::uint32_t>(layer), .step = step};
}

// A layer's states are all that its generative score and the layer above need, so the score is made on a branch
// while the chain goes on. Log-probabilities are integers, which add up to the same in any order.
void PosteriorSamples::draw(const Batch& batch, DeltaRule& delta_rule, const ChainMemory* memory) {
  const StepScalars* now = batch.now;
  machine_.gather_visible(batch.data, batch.order, &now->first,
                          draw_at(Domain::binarize_dynamic, 0, &now->epoch), states(0, batch.rows));
  log_weights_.fill_zero();
  std::int64_t* log_weights = log_weights_.data();
  for (int l = 1; l <= machine_.layers(); ++l) {
    const States below = states(l - 1, batch.rows);
    const States h = states(l, batch.rows);
    const Draw draw = draw_at(Domain::wake_sample, l, &now->step);
    const Matrix<float> errors = recognition_errors(l, batch.rows);
    const Matrix<float> first = l == 1 ? first_logits(batch.rows) : Matrix<float>{};
    if (memory == nullptr) {
      ops_.sample(machine_.recognition(l), below, draw, samples_, h, {log_weights, -1}, first, errors);
    } else {
      // What is recalled has its score and errors from the logits, which the errors then replace.
      const Matrix<float> logits = l == 1 ? first : errors;
      ops_.sample(machine_.recognition(l), below, draw, samples_, h, {}, logits);
      memory->recall(batch, l, {h.data, batch.rows, h.columns, h.stride * samples_});
      ops_.score_kept(logits, h, {log_weights, -1}, errors);
    }
    ops_.on_branch(l % delta_rule.branches(), [&] {
      ops_.score(machine_.generative(l), h, below, {log_weights, 1}, generative_errors(l - 1, batch.rows));
    });
  }
  const int top = machine_.layers();
  const States h = states(top, batch.rows);
  ops_.score(machine_.prior(), machine_.prior_input(h), h, {log_weights, 1},
             generative_errors(top, batch.rows));
  delta_rule.await_branches();
}

// dG_l = sum_k w_k (h_{l-1}^k - sigma(G_l h_l^k + b_{l-1})) h_l^k^T,   da = sum_k w_k (h_L^k - sigma(a)).
void PosteriorSamples::learn_generative(const Batch& batch, DeltaRule& delta_rule,
                                        const SampleWeights& weights) {
  const StepScalars* now = batch.now;
  const int top = machine_.layers();
  const auto learn = [&](int layer, int index, ConstStates input) {
    const int branch = layer % delta_rule.branches();
    ops_.on_branch(branch, [&] {
      const Deltas deltas = delta_rule.deltas(branch, batch.rows * samples_, machine_.size(layer));
      ops_.round_errors(generative_errors(layer, batch.rows),
                        draw_at(Domain::wake_generative_rounding, layer, &now->step), deltas, weights);
      delta_rule.learn(branch, index, &now->generative, &now->step, deltas, input);
    });
  };
  for (int l = 1; l <= top; ++l) learn(l - 1, Machine::generative_index(l), states(l, batch.rows));
  learn(top, machine_.prior_index(), machine_.prior_input(states(top, batch.rows)));
}

// dR_l = sum_k w_k (h_l^k - sigma(R_l h_{l-1}^k + c_l)) h_{l-1}^k^T. In the first layer all k share h_0 = x,
// so that dR_1 = (sum_k w_k h_1^k - sigma(R_1 x + c_1) sum_k w_k) x^T: one row of deltas an image.

/// Calls use(branch, index, deltas, input) for every recognition conditional, on its branch.
template <class Use>
void PosteriorSamples::each_recognition_delta(const Batch& batch, DeltaRule& delta_rule,
                                              const SampleWeights& weights, const Use& use) {
  for (int l = 1; l <= machine_.layers(); ++l) {
    const int branch = (machine_.layers() + l) % delta_rule.branches();
    ops_.on_branch(branch, [&] {
      const States below = states(l - 1, batch.rows);
      const Deltas deltas = delta_rule.deltas(branch, below.rows, machine_.size(l));
      const Draw draw = draw_at(Domain::wake_recognition_rounding, l, &batch.now->step);
      if (l == 1) {
        ops_.delta(machine_.recognition(l), below, states(l, batch.rows), draw, deltas, weights,
                   first_logits(batch.rows));
      } else {
        ops_.round_errors(recognition_errors(l, batch.rows), draw, deltas, weights);
      }
      use(branch, Machine::recognition_index(l), deltas, below);
    });
  }
}

void PosteriorSamples::learn_recognition(const Batch& batch, DeltaRule& delta_rule,
                                         const SampleWeights& weights, const Rates* rates) {
  each_recognition_delta(batch, delta_rule, weights,
                         [&](int branch, int index, ConstDeltas deltas, ConstStates input) {
                           delta_rule.learn(branch, index, rates, &batch.now->step, deltas, input);
                         });
}

void PosteriorSamples::hold_recognition(const Batch& batch, DeltaRule& delta_rule,
                                        const SampleWeights& weights) {
  each_recognition_delta(
      batch, delta_rule, weights,
      [&](int, int index, ConstDeltas deltas, ConstStates input) { delta_rule.hold(index, deltas, input); });
}

}  // namespace wakesleep
