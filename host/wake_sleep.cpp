// Classic wake-sleep. Equations: docs/math.md.
#include "wakesleep/wake_sleep.hpp"

namespace wakesleep {

WakeSleep::WakeSleep(Machine& machine, DeltaRule& delta_rule, const TrainingSettings& settings)
    : TrainingAlgorithm(settings),
      machine_(machine),
      delta_rule_(delta_rule),
      ops_(machine.ops()),
      seed_(settings.seed),
      states_(ops_, delta_rule.branches(), settings.batch_size, machine.widest()),
      sleep_(machine, delta_rule, settings.seed) {}

void WakeSleep::reserve(std::int64_t rows) { delta_rule_.reserve(rows); }

void WakeSleep::queue_step(const Batch& batch) {
  wake(batch);
  sleep_.run(batch, states_);
}

// Data drives sampled states upward, and each layer is predicted from the one above:
//   h_l ~ q(. | h_{l-1}),   dG_l = (h_{l-1} - sigma(G_l h_l + b_{l-1})) h_l^T,   da = h_L - sigma(a).
// The chain reads R alone and the updates write G alone, so a layer learns, on a branch, as soon as its two
// neighbours are known, while the chain goes on.
void WakeSleep::wake(const Batch& batch) {
  const StepScalars* now = batch.now;
  const auto draw = [&](Domain domain, int layer, const std::uint32_t* step) {
    return Draw{.seed = seed_, .domain = domain, .layer = static_cast<std::uint32_t>(layer), .step = step};
  };
  const int top = machine_.layers();
  const auto states = [&](int layer) { return states_.at(layer, batch.rows, machine_.size(layer)); };
  const auto learn = [&](int branch, int index, ConstStates input, ConstStates target, int target_layer) {
    ops_.on_branch(branch, [&] {
      const Deltas deltas = delta_rule_.deltas(branch, target.rows, target.columns);
      ops_.delta(machine_.conditional(index), input, target,
                 draw(Domain::wake_generative_rounding, target_layer, &now->step), deltas);
      delta_rule_.learn(branch, index, &now->generative, &now->step, deltas, input);
    });
  };
  machine_.gather_visible(batch.data, batch.order, &now->first,
                          draw(Domain::binarize_dynamic, 0, &now->epoch), states(0));
  for (int l = 1; l <= top; ++l) {
    const States h_below = states(l - 1);
    const States h = states(l);
    const int branch = l % delta_rule_.branches();
    ops_.await_branch(branch);  // h takes the place of states that it was the last to read
    ops_.sample(machine_.recognition(l), h_below, draw(Domain::wake_sample, l, &now->step), 1, h);
    hidden_sampled(l, h);
    learn(branch, Machine::generative_index(l), h, h_below, l - 1);
  }
  learn((top + 1) % delta_rule_.branches(), machine_.prior_index(), machine_.prior_input(states(top)),
        states(top), top);
  delta_rule_.await_branches();
}

}  // namespace wakesleep
