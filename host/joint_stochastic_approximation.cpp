// Joint stochastic approximation. Equations: docs/math.md.
#include "wakesleep/joint_stochastic_approximation.hpp"

#include <array>
#include <utility>

#include "state_tensors.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {
namespace {

/// In checkpoints, as numbers of 16 bits, the highest first: [proposals, acceptances] x 4.
constexpr const char* counts_name = "chain.counts";
const std::vector<std::int64_t> counts_shape = {2, 4};

}  // namespace

JointStochasticApproximation::JointStochasticApproximation(Machine& machine, DeltaRule& delta_rule,
                                                           const TrainingSettings& settings,
                                                           std::int64_t data_rows)
    : TrainingAlgorithm(settings),
      machine_(machine),
      delta_rule_(delta_rule),
      ops_(machine.ops()),
      seed_(settings.seed),
      posterior_(machine, settings, true),
      memory_(machine, data_rows, settings.fresh_epochs),
      visits_(ops_, rows_of_a_step(settings)),
      totals_(ops_, settings.batch_size),
      last_(ops_, settings.batch_size),
      counts_(ops_, 2) {
  counts_.fill_zero();
}

void JointStochasticApproximation::reserve(std::int64_t rows) {
  delta_rule_.reserve(rows);
  delta_rule_.reserve(rows * posterior_.samples());
}

void JointStochasticApproximation::queue_step(const Batch& batch) {
  posterior_.draw(batch, delta_rule_, &memory_);
  const Draw draw{seed_, Domain::chain_acceptance, 0, 0, 0, &batch.now->step, SampleAddress::row};
  ops_.metropolis(posterior_.log_weights(batch), draw, visits_.data(), totals_.data(), last_.data(),
                  counts_.data());
  for (int l = 1; l <= machine_.layers(); ++l) {
    memory_.remember(batch, l, posterior_.hidden(batch, l), posterior_.samples(), last_.data());
  }
  SampleWeights weights;
  weights.samples = posterior_.samples();
  weights.relative = visits_.data();
  weights.total = totals_.data();
  posterior_.learn_generative(batch, delta_rule_, weights);
  posterior_.learn_recognition(batch, delta_rule_, weights, &batch.now->recognition);
  delta_rule_.await_branches();
}

std::vector<std::pair<std::string, double>> JointStochasticApproximation::diagnostics() {
  std::array<std::int64_t, 2> counts{};
  counts_.copy_out(counts.data());
  counts_.fill_zero();
  if (counts[0] == 0) return {};
  return {{"acceptance_rate", static_cast<double>(counts[1]) / static_cast<double>(counts[0])}};
}

Tensors JointStochasticApproximation::download_state() const {
  Tensors tensors = memory_.download();
  std::array<std::int64_t, 2> counts{};
  counts_.copy_out(counts.data());
  Tensor& tensor = tensors[counts_name];
  tensor.shape = counts_shape;
  for (const std::int64_t count : counts) {
    for (int shift = 48; shift >= 0; shift -= 16) {
      tensor.values.push_back(static_cast<float>((count >> shift) & 0xFFFF));
    }
  }
  return tensors;
}

void JointStochasticApproximation::upload_state(const Tensors& tensors) {
  Tensors chains = tensors;
  const auto found = chains.find(counts_name);
  std::array<std::int64_t, 2> counts{};  // a checkpoint without them begins to count anew
  if (found != chains.end()) {
    const Tensor& tensor = found->second;
    bool usable = has_shape(tensor, counts_shape);
    for (std::size_t i = 0; usable && i < tensor.values.size(); ++i) {
      const float value = tensor.values[i];
      usable = is_16_bit_number(value);
      if (usable) counts[i / 4] = counts[i / 4] << 16 | static_cast<int>(value);
    }
    if (!usable || counts[0] < 0 || counts[1] < 0 || counts[1] > counts[0]) {
      throw DataError(std::string("the tensor \"") + counts_name +
                      "\" does not count proposals and acceptances: the checkpoint is damaged, use the one "
                      "before it");
    }
    chains.erase(found);
  }
  memory_.upload(chains);
  counts_.copy_in(counts.data());
}

}  // namespace wakesleep
