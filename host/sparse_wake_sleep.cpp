// Sparse wake-sleep. Derivation: docs/math.md.
#include "wakesleep/sparse_wake_sleep.hpp"

#include <string>

#include "state_tensors.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {

SparseWakeSleep::SparseWakeSleep(Machine& machine, DeltaRule& delta_rule, const TrainingSettings& settings)
    : WakeSleep(machine, delta_rule, settings), sparsity_(sparsity_of(settings)) {
  for (int l = 1; l <= machine.layers(); ++l) {
    const std::vector<float> target(static_cast<std::size_t>(machine.size(l)), sparsity_.target);
    activation_.emplace_back(machine.ops(), machine.size(l));
    activation_.back().copy_in(target.data());
    penalty_.emplace_back(machine.ops(), machine.size(l));
  }
}

void SparseWakeSleep::hidden_sampled(int layer, ConstStates states) {
  const std::size_t hidden = static_cast<std::size_t>(layer - 1);
  machine().ops().sparsity(states, sparsity_, activation_[hidden].data(), penalty_[hidden].data());
  const bool top = layer == machine().layers();
  delta_rule().add_to_bias_gradient(top ? machine().prior_index() : Machine::generative_index(layer + 1),
                                    penalty_[hidden].data());
  delta_rule().add_to_bias_gradient(Machine::recognition_index(layer), penalty_[hidden].data());
}

Tensors SparseWakeSleep::download_state() const {
  Tensors tensors;
  for (std::size_t i = 0; i < activation_.size(); ++i) {
    Tensor& tensor = tensors["activation." + std::to_string(i + 1)];
    tensor.shape = {activation_[i].size()};
    tensor.values.resize(static_cast<std::size_t>(activation_[i].size()));
    activation_[i].copy_out(tensor.values.data());
  }
  return tensors;
}

void SparseWakeSleep::upload_state(const Tensors& tensors) {
  if (tensors.size() != activation_.size()) {
    throw DataError("the checkpoint holds the running means of " + std::to_string(tensors.size()) +
                    " layers where the machine has " + std::to_string(activation_.size()) +
                    ": this checkpoint does not continue this run");
  }
  for (std::size_t i = 0; i < activation_.size(); ++i) {
    const std::string name = "activation." + std::to_string(i + 1);
    activation_[i].copy_in(
        state_tensor(tensors, name, {activation_[i].size()}, "the running means").values.data());
  }
}

}  // namespace wakesleep
