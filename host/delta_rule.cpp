// Gradients and optimiser state of every conditional.
#include "wakesleep/delta_rule.hpp"

#include <algorithm>
#include <utility>

#include "state_tensors.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/natural_gradient.hpp"

namespace wakesleep {

namespace {

/// Branches cost a gradient each, so the largest machines learn on fewer: on one, where not even two
/// gradients fit this, or a sixteenth of the memory that is free.
constexpr std::int64_t gradient_bytes_of_all_branches = std::int64_t{256} << 20;

std::int64_t affordable_branches(const Ops& ops, std::int64_t largest_weight) {
  if (ops.branches() == 1) return 1;
  const std::int64_t share =
      static_cast<std::int64_t>(std::min<std::size_t>(ops.available_memory(), INT64_MAX) / 16);
  const std::int64_t affordable =
      std::max(gradient_bytes_of_all_branches, share) / (std::int64_t{sizeof(std::int32_t)} * largest_weight);
  return std::clamp<std::int64_t>(affordable, 1, ops.branches());
}

}  // namespace

DeltaRule::DeltaRule(Machine& machine, const TrainingSettings& settings)
    : machine_(machine),
      ops_(machine.ops()),
      settings_(settings),
      optimizer_(optimizer_of(settings)),
      clip_limit_(clip_limit_of(settings)) {
  const std::int64_t rows = rows_of_a_step(settings);
  if (settings.batch_size < 1 || settings.batch_size > max_batch_rows || rows > max_batch_rows) {
    throw UsageError("a batch of " + std::to_string(settings.batch_size) + " rows, which makes " +
                     std::to_string(rows) + " with its samples, cannot be summed exactly: choose 1 to " +
                     std::to_string(max_batch_rows));
  }
  // A recognition gradient of fixed-point states has a row for each image, and two that are mixed are added.
  const std::int64_t most_images = max_fixed_point_rows / (mixes_phases(settings) ? 2 : 1);
  if (machine.has_gaussian_visible() && settings.batch_size > most_images) {
    throw UsageError("a batch of " + std::to_string(settings.batch_size) +
                     " rows of Gaussian visible units cannot be summed exactly: choose 1 to " +
                     std::to_string(most_images));
  }
  if (settings.weight_bits != machine.weight_bits()) {
    throw InternalError("the settings say " + std::to_string(settings.weight_bits) +
                        "-bit weights, but the machine has " + std::to_string(machine.weight_bits()) +
                        "-bit ones");
  }
  std::int64_t largest_weight = 1;
  for (int index = 0; index < machine.conditionals(); ++index) {
    const Conditional& c = machine.conditional(index);
    largest_weight = std::max(largest_weight, c.receiving * c.sending);
    State state;
    const auto make = [&](Buffer<float>& buffer, float*& view, std::int64_t count) {
      buffer = Buffer<float>(ops_, count);
      buffer.fill_zero();
      view = buffer.data();
    };
    if (optimizer_.kind != OptimizerKind::sgd) {
      if (c.has_input()) make(state.weight_first, state.view.weight_first, c.receiving * c.sending);
      make(state.bias_first, state.view.bias_first, c.receiving);
    }
    if (optimizer_.kind == OptimizerKind::adam) {
      if (c.has_input()) make(state.weight_second, state.view.weight_second, c.receiving * c.sending);
      make(state.bias_second, state.view.bias_second, c.receiving);
    }
    optimizer_state_.push_back(std::move(state));
  }
  bias_terms_.resize(static_cast<std::size_t>(machine.conditionals()));
  if (mixes_phases(settings)) {
    held_.resize(static_cast<std::size_t>(machine.conditionals()));
    for (int l = 1; l <= machine.layers(); ++l) {
      const Conditional& c = machine.recognition(l);
      held_[static_cast<std::size_t>(Machine::recognition_index(l))].gradient = {
          Buffer<std::int32_t>(ops_, c.receiving * c.sending), Buffer<std::int32_t>(ops_, c.receiving)};
    }
  }
  const std::int64_t branches = affordable_branches(ops_, largest_weight);
  for (std::int64_t branch = 0; branch < branches; ++branch) {
    working_.push_back(
        {Buffer<std::int8_t>(ops_, rows * padded_units(machine.widest())),
         {Buffer<std::int32_t>(ops_, largest_weight), Buffer<std::int32_t>(ops_, machine.widest())},
         Buffer<Rates>(ops_, clip_limit_ > 0.0f ? 1 : 0),
         {},
         {}});
  }
  diverged_ = Buffer<std::uint32_t>(ops_, machine.conditionals());
  diverged_.fill_zero();
  diverged_readback_ = ops_.make_readback(diverged_.bytes());
}

void DeltaRule::reserve(std::int64_t rows) {
  const auto all = [&] {
    for (int index = 0; index < machine_.conditionals(); ++index) {
      ops_.reserve(machine_.conditional(index), rows);
    }
  };
  all();
  for (int branch = 0; branch < branches(); ++branch) ops_.on_branch(branch, all);
  await_branches();
}

void DeltaRule::await_branches() {
  for (int branch = 0; branch < branches(); ++branch) ops_.await_branch(branch);
}

Deltas DeltaRule::deltas(int branch, std::int64_t rows, std::int64_t units) const {
  return {working_[static_cast<std::size_t>(branch)].deltas.data(), rows, units, padded_units(units)};
}

void DeltaRule::learn(int branch, int index, const Rates* rates, const std::uint32_t* step,
                      ConstDeltas deltas, ConstStates input) {
  const Conditional& conditional = machine_.conditional(index);
  const Working& of_branch = working_[static_cast<std::size_t>(branch)];
  Learning learning;
  learning.state = optimizer_state_[static_cast<std::size_t>(index)].view;
  learning.optimizer = optimizer_;
  learning.rates = rates;
  learning.gradient = conditional.has_input() ? of_branch.gradient.weight.data() : nullptr;
  learning.bias_gradient = of_branch.gradient.bias.data();
  learning.diverged = diverged_.data() + index;
  learning.step = step;
  add_terms(index, learning);
  if (!conditional.autoregressive && clip_limit_ == 0.0f && natural_gradient_ == nullptr) {
    ops_.learn(conditional, deltas, input, learning);
    return;
  }

  std::int32_t* const gradient = learning.gradient;
  std::int32_t* const bias_gradient = learning.bias_gradient;
  ops_.gradient(deltas, input, gradient, bias_gradient, conditional.largest_input);
  if (conditional.autoregressive) ops_.keep_below_diagonal(gradient, conditional.receiving);
  if (learning.added != nullptr)
    ops_.add(gradient, learning.added, conditional.receiving * conditional.sending);
  if (learning.added_bias != nullptr) ops_.add(bias_gradient, learning.added_bias, conditional.receiving);
  if (clip_limit_ > 0.0f) {
    Rates* const clipped = of_branch.clipped_rates.data();
    ops_.clip(conditional, gradient, bias_gradient, clip_limit_, rates, clipped);
    rates = clipped;
  }
  if (natural_gradient_ == nullptr) {
    ops_.update(conditional, learning.state, optimizer_, rates, gradient, bias_gradient, learning.diverged,
                step);
    return;
  }
  float* natural = of_branch.natural_weight.data();
  float* natural_bias = of_branch.natural_bias.data();
  ops_.natural_gradient(conditional, natural_gradient_->inverse(index), rates, gradient, bias_gradient,
                        natural, natural_bias);
  ops_.update(conditional, learning.state, optimizer_, rates, natural, natural_bias, learning.diverged, step);
}

void DeltaRule::add_terms(int index, Learning& learning) {
  const std::int32_t* bias_terms = std::exchange(bias_terms_[static_cast<std::size_t>(index)], nullptr);
  learning.added_bias = bias_terms;
  if (held_.empty() || !held_[static_cast<std::size_t>(index)].pending) return;
  Held& held = held_[static_cast<std::size_t>(index)];
  held.pending = false;
  if (bias_terms != nullptr)
    ops_.add(held.gradient.bias.data(), bias_terms, machine_.conditional(index).receiving);
  learning.added = held.gradient.weight.data();
  learning.added_bias = held.gradient.bias.data();
}

void DeltaRule::follow(const NaturalGradient& natural_gradient) {
  natural_gradient_ = &natural_gradient;
  for (Working& working : working_) {
    working.natural_weight = Buffer<float>(ops_, working.gradient.weight.size());
    working.natural_bias = Buffer<float>(ops_, working.gradient.bias.size());
  }
}

void DeltaRule::add_to_bias_gradient(int index, const std::int32_t* terms) {
  bias_terms_[static_cast<std::size_t>(index)] = terms;
}

void DeltaRule::hold(int index, ConstDeltas deltas, ConstStates input) {
  Held& held = held_.at(static_cast<std::size_t>(index));
  ops_.gradient(deltas, input, held.gradient.weight.data(), held.gradient.bias.data(),
                machine_.conditional(index).largest_input);
  held.pending = true;
}

void DeltaRule::check_divergence_of_before() {
  const void* before = diverged_readback_->result();
  if (before != nullptr) throw_if_any(static_cast<const std::uint32_t*>(before));
  diverged_readback_->request(diverged_.data());
}

void DeltaRule::check_divergence() {
  diverged_readback_->request(diverged_.data());
  throw_if_any(static_cast<const std::uint32_t*>(diverged_readback_->result()));
}

void DeltaRule::throw_if_any(const std::uint32_t* diverged) const {
  int first = -1;
  for (int index = 0; index < machine_.conditionals(); ++index) {
    if (diverged[index] != 0 && (first < 0 || diverged[index] < diverged[first])) first = index;
  }
  if (first < 0) return;
  throw DivergenceError("training diverged: a parameter of " + machine_.conditional_name(first) +
                        " is not finite or too large for its integers after step " +
                        std::to_string(diverged[first] - 1) +
                        " (counted from 0); use a smaller learning rate (it multiplies the mean gradient)");
}

namespace {

template <class States, class Visit>
void each_optimizer_tensor(const Machine& machine, States& all, const Visit& visit) {
  for (int index = 0; index < machine.conditionals(); ++index) {
    auto& state = all[static_cast<std::size_t>(index)];
    const Conditional& c = machine.conditional(index);
    const std::string name = "optimizer." + machine.conditional_name(index);
    visit(name + ".weight.first", std::vector<std::int64_t>{c.receiving, c.sending}, state.weight_first);
    visit(name + ".weight.second", std::vector<std::int64_t>{c.receiving, c.sending}, state.weight_second);
    visit(name + ".bias.first", std::vector<std::int64_t>{c.receiving}, state.bias_first);
    visit(name + ".bias.second", std::vector<std::int64_t>{c.receiving}, state.bias_second);
  }
}

}  // namespace

Tensors DeltaRule::download_optimizer() const {
  Tensors tensors;
  each_optimizer_tensor(
      machine_, optimizer_state_,
      [&](const std::string& name, std::vector<std::int64_t> shape, const Buffer<float>& buffer) {
        if (buffer.size() == 0) return;
        Tensor& tensor = tensors[name];
        tensor.shape = std::move(shape);
        tensor.values.resize(static_cast<std::size_t>(buffer.size()));
        buffer.copy_out(tensor.values.data());
      });
  return tensors;
}

void DeltaRule::upload_optimizer(const Tensors& tensors) {
  std::size_t used = 0;
  each_optimizer_tensor(
      machine_, optimizer_state_,
      [&](const std::string& name, const std::vector<std::int64_t>& shape, Buffer<float>& buffer) {
        if (buffer.size() == 0) return;
        buffer.copy_in(state_tensor(tensors, name, shape, "the optimiser state").values.data());
        ++used;
      });
  if (used != tensors.size()) {
    throw DataError("the checkpoint holds optimiser state that the optimiser " +
                    std::string(name_of(settings_.optimizer)) + " does not have");
  }
}

}  // namespace wakesleep
