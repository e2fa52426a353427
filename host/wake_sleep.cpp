// Classic wake-sleep. Equations: docs/math.md.
#include "wakesleep/wake_sleep.hpp"

#include <algorithm>

#include "wakesleep/error.hpp"

namespace wakesleep {

WakeSleep::WakeSleep(Machine& machine, const TrainingSettings& settings)
    : machine_(machine), ops_(machine.ops()), settings_(settings), optimizer_(optimizer_of(settings)) {
  if (settings.batch_size < 1 || settings.batch_size > max_batch_rows) {
    throw UsageError("a batch of " + std::to_string(settings.batch_size) +
                     " rows cannot be summed exactly: choose 1 to " + std::to_string(max_batch_rows));
  }
  if (settings.weight_bits != machine.weight_bits()) {
    throw InternalError("the settings say " + std::to_string(settings.weight_bits) +
                        "-bit weights, but the machine has " + std::to_string(machine.weight_bits()) +
                        "-bit ones");
  }
  std::int64_t largest_weight = 0;
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
      if (c.sending > 0) make(state.weight_first, state.view.weight_first, c.receiving * c.sending);
      make(state.bias_first, state.view.bias_first, c.receiving);
    }
    if (optimizer_.kind == OptimizerKind::adam) {
      if (c.sending > 0) make(state.weight_second, state.view.weight_second, c.receiving * c.sending);
      make(state.bias_second, state.view.bias_second, c.receiving);
    }
    optimizer_state_.push_back(std::move(state));
  }
  const std::int64_t row_bytes = padded_units(machine.widest());
  for (Buffer<std::uint8_t>& buffer : states_)
    buffer = Buffer<std::uint8_t>(ops_, settings.batch_size * row_bytes);
  deltas_ = Buffer<std::int8_t>(ops_, settings.batch_size * row_bytes);
  gradient_ = Buffer<std::int32_t>(ops_, largest_weight);
  bias_gradient_ = Buffer<std::int32_t>(ops_, machine.widest());
  scalars_ = Buffer<StepScalars>(ops_, 1);
  diverged_ = Buffer<std::uint32_t>(ops_, machine.conditionals());
  diverged_.fill_zero();
  diverged_seen_.resize(static_cast<std::size_t>(machine.conditionals()));
}

void WakeSleep::reserve(std::int64_t rows) {
  for (int index = 0; index < machine_.conditionals(); ++index) {
    ops_.reserve(machine_.conditional(index), rows);
  }
}

States WakeSleep::states(int buffer, std::int64_t rows, std::int64_t units) const {
  return {states_[buffer].data(), rows, units, padded_units(units)};
}
Deltas WakeSleep::deltas(std::int64_t rows, std::int64_t units) const {
  return {deltas_.data(), rows, units, padded_units(units)};
}

void WakeSleep::step(const DeviceData& data, const std::uint32_t* order, std::int64_t first,
                     std::int64_t rows, std::int64_t step, std::int64_t steps_per_epoch) {
  StepScalars scalars;
  scalars.step = static_cast<std::uint32_t>(step);
  scalars.first = static_cast<std::uint32_t>(first);
  scalars.epoch = static_cast<std::uint32_t>(step / steps_per_epoch);
  scalars.generative = rates_at(settings_, settings_.generative_learning_rate, step, steps_per_epoch, rows);
  scalars.recognition = rates_at(settings_, settings_.recognition_learning_rate, step, steps_per_epoch, rows);
  scalars_.copy_in(&scalars);
  wake(data, order, rows);
  sleep(rows);
}

// Data drives sampled states upward, and each layer is predicted from the one above:
//   h_l ~ q(. | h_{l-1}),   dG_l = (h_{l-1} - sigma(G_l h_l + b_{l-1})) h_l^T,   da = h_L - sigma(a).
// The chain reads R alone and the updates write G alone, so a layer learns as soon as its two neighbours are
// known.
void WakeSleep::wake(const DeviceData& data, const std::uint32_t* order, std::int64_t rows) {
  const StepScalars* now = scalars_.data();
  const auto draw = [&](Domain domain, int layer, const std::uint32_t* step) {
    return Draw{settings_.seed, domain, static_cast<std::uint32_t>(layer), 0, 0, step, SampleAddress::row};
  };
  int below = 0;
  ops_.gather(data.rows(), order, &now->first, draw(Domain::binarize_dynamic, 0, &now->epoch),
              states(below, rows, machine_.size(0)));
  for (int l = 1; l <= machine_.layers(); ++l) {
    const States h_below = states(below, rows, machine_.size(l - 1));
    const States h = states(1 - below, rows, machine_.size(l));
    const Deltas error = deltas(rows, machine_.size(l - 1));
    ops_.sample(machine_.recognition(l), h_below, draw(Domain::wake_sample, l, &now->step), 1, h);
    ops_.delta(machine_.generative(l), h, h_below, draw(Domain::wake_generative_rounding, l - 1, &now->step),
               error);
    learn(Machine::generative_index(l), &now->generative, error, h);
    below = 1 - below;
  }
  const int top = machine_.layers();
  const States h_top = states(below, rows, machine_.size(top));
  const Deltas error = deltas(rows, machine_.size(top));
  ops_.delta(machine_.prior(), {}, h_top, draw(Domain::wake_generative_rounding, top, &now->step), error);
  learn(machine_.prior_index(), &now->generative, error, {});
}

// The generative model dreams downward, and each layer is recognised from the one below:
//   h_L ~ p,  h_{l-1} ~ p(. | h_l),   dR_l = (h_l - sigma(R_l h_{l-1} + c_l)) h_{l-1}^T.
void WakeSleep::sleep(std::int64_t rows) {
  const StepScalars* now = scalars_.data();
  const auto draw = [&](Domain domain, int layer) {
    return Draw{settings_.seed,    domain, static_cast<std::uint32_t>(layer), 0, 0, &now->step,
                SampleAddress::row};
  };
  int above = 0;
  const int top = machine_.layers();
  ops_.sample(machine_.prior(), {}, draw(Domain::sleep_sample, top), 1,
              states(above, rows, machine_.size(top)));
  for (int l = top; l >= 1; --l) {
    const States h = states(above, rows, machine_.size(l));
    const States h_below = states(1 - above, rows, machine_.size(l - 1));
    const Deltas error = deltas(rows, machine_.size(l));
    ops_.sample(machine_.generative(l), h, draw(Domain::sleep_sample, l - 1), 1, h_below);
    ops_.delta(machine_.recognition(l), h_below, h, draw(Domain::sleep_rounding, l), error);
    learn(Machine::recognition_index(l), &now->recognition, error, h_below);
    above = 1 - above;
  }
}

// The delta rule of one conditional: errors times the states that predicted them, summed over the batch.
void WakeSleep::learn(int index, const Rates* rates, ConstDeltas error, ConstStates input) {
  const Conditional& conditional = machine_.conditional(index);
  std::int32_t* gradient = conditional.sending > 0 ? gradient_.data() : nullptr;
  ops_.gradient(error, input, gradient, bias_gradient_.data());
  ops_.update(conditional, optimizer_state_[static_cast<std::size_t>(index)].view, optimizer_, rates,
              gradient, bias_gradient_.data(), diverged_.data() + index, &scalars_.data()->step);
}

void WakeSleep::check_divergence() {
  std::vector<std::uint32_t>& diverged = diverged_seen_;
  diverged_.copy_out(diverged.data());
  int first = -1;
  for (int index = 0; index < machine_.conditionals(); ++index) {
    const std::uint32_t when = diverged[static_cast<std::size_t>(index)];
    if (when != 0 && (first < 0 || when < diverged[static_cast<std::size_t>(first)])) first = index;
  }
  if (first < 0) return;
  throw DivergenceError("training diverged: a parameter of " + machine_.conditional_name(first) +
                        " is not finite or too large for its integers after step " +
                        std::to_string(diverged[static_cast<std::size_t>(first)] - 1) +
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

Tensors WakeSleep::download_optimizer() const {
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

void WakeSleep::upload_optimizer(const Tensors& tensors) {
  std::size_t used = 0;
  each_optimizer_tensor(
      machine_, optimizer_state_,
      [&](const std::string& name, const std::vector<std::int64_t>& shape, Buffer<float>& buffer) {
        if (buffer.size() == 0) return;
        const auto tensor = tensors.find(name);
        if (tensor == tensors.end() || tensor->second.shape != shape) {
          throw DataError("optimiser state \"" + name +
                          "\" is missing or has another shape: this checkpoint does not continue "
                          "this run");
        }
        buffer.copy_in(tensor->second.values.data());
        ++used;
      });
  if (used != tensors.size()) {
    throw DataError("the checkpoint holds optimiser state that the optimiser " +
                    std::string(name_of(settings_.optimizer)) + " does not have");
  }
}

std::size_t WakeSleep::optimizer_bytes() const {
  std::size_t bytes = 0;
  for (const State& s : optimizer_state_) {
    bytes += s.weight_first.bytes() + s.weight_second.bytes() + s.bias_first.bytes() + s.bias_second.bytes();
  }
  return bytes;
}

}  // namespace wakesleep
