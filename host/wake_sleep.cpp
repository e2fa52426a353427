// Classic wake-sleep. Equations: docs/math.md.
#include "wakesleep/wake_sleep.hpp"

namespace wakesleep {

WakeSleep::WakeSleep(Machine& machine, DeltaRule& delta_rule, const TrainingSettings& settings)
    : machine_(machine), delta_rule_(delta_rule), ops_(machine.ops()), seed_(settings.seed) {
  // A branch reads the states of two layers while the main line makes those of the next.
  for (int place = 0; place < delta_rule.branches() + 1; ++place) {
    states_.emplace_back(ops_, settings.batch_size * padded_units(machine.widest()));
  }
}

void WakeSleep::reserve(std::int64_t rows) { delta_rule_.reserve(rows); }

States WakeSleep::states(int place, std::int64_t rows, int layer) const {
  const std::int64_t units = machine_.size(layer);
  return {states_[static_cast<std::size_t>(place) % states_.size()].data(), rows, units, padded_units(units)};
}

void WakeSleep::await_branches() {
  for (int branch = 0; branch < delta_rule_.branches(); ++branch) ops_.await_branch(branch);
}

void WakeSleep::step(const Batch& batch) {
  wake(batch);
  sleep(batch);
}

// Data drives sampled states upward, and each layer is predicted from the one above:
//   h_l ~ q(. | h_{l-1}),   dG_l = (h_{l-1} - sigma(G_l h_l + b_{l-1})) h_l^T,   da = h_L - sigma(a).
// The chain reads R alone and the updates write G alone, so a layer learns, on a branch, as soon as its two
// neighbours are known, while the chain goes on.
void WakeSleep::wake(const Batch& batch) {
  const StepScalars* now = batch.now;
  const auto draw = [&](Domain domain, int layer, const std::uint32_t* step) {
    return Draw{seed_, domain, static_cast<std::uint32_t>(layer), 0, 0, step, SampleAddress::row};
  };
  const int top = machine_.layers();
  const auto learn = [&](int branch, int index, ConstStates input, ConstStates target, int target_layer) {
    ops_.on_branch(branch, [&] {
      const Deltas error = delta_rule_.error(branch, target.rows, target.columns);
      ops_.delta(machine_.conditional(index), input, target,
                 draw(Domain::wake_generative_rounding, target_layer, &now->step), error);
      delta_rule_.learn(branch, index, &now->generative, &now->step, error, input);
    });
  };
  ops_.gather(batch.data, batch.order, &now->first, draw(Domain::binarize_dynamic, 0, &now->epoch),
              states(0, batch.rows, 0));
  for (int l = 1; l <= top; ++l) {
    const States h_below = states(l - 1, batch.rows, l - 1);
    const States h = states(l, batch.rows, l);
    const int branch = l % delta_rule_.branches();
    ops_.await_branch(branch);  // h takes the place of states that it was the last to read
    ops_.sample(machine_.recognition(l), h_below, draw(Domain::wake_sample, l, &now->step), 1, h);
    learn(branch, Machine::generative_index(l), h, h_below, l - 1);
  }
  learn((top + 1) % delta_rule_.branches(), machine_.prior_index(), {}, states(top, batch.rows, top), top);
  await_branches();
}

// The generative model dreams downward, and each layer is recognised from the one below:
//   h_L ~ p,  h_{l-1} ~ p(. | h_l),   dR_l = (h_l - sigma(R_l h_{l-1} + c_l)) h_{l-1}^T.
void WakeSleep::sleep(const Batch& batch) {
  const StepScalars* now = batch.now;
  const auto draw = [&](Domain domain, int layer) {
    return Draw{seed_, domain, static_cast<std::uint32_t>(layer), 0, 0, &now->step, SampleAddress::row};
  };
  const int top = machine_.layers();
  ops_.sample(machine_.prior(), {}, draw(Domain::sleep_sample, top), 1, states(0, batch.rows, top));
  for (int l = top; l >= 1; --l) {
    const int place = top - l + 1;
    const States h = states(place - 1, batch.rows, l);
    const States h_below = states(place, batch.rows, l - 1);
    const int branch = place % delta_rule_.branches();
    ops_.await_branch(branch);
    ops_.sample(machine_.generative(l), h, draw(Domain::sleep_sample, l - 1), 1, h_below);
    ops_.on_branch(branch, [&] {
      const Deltas error = delta_rule_.error(branch, batch.rows, machine_.size(l));
      ops_.delta(machine_.recognition(l), h_below, h, draw(Domain::sleep_rounding, l), error);
      delta_rule_.learn(branch, Machine::recognition_index(l), &now->recognition, &now->step, error, h_below);
    });
  }
  await_branches();
}

}  // namespace wakesleep
