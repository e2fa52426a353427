// Sleep. Equations: docs/math.md.
#include "wakesleep/sleep_phase.hpp"

namespace wakesleep {

SleepPhase::SleepPhase(Machine& machine, DeltaRule& delta_rule, std::uint64_t seed, float weight)
    : machine_(machine), delta_rule_(delta_rule), ops_(machine.ops()), seed_(seed) {
  weight_.scale = weight;
}

//   h_L ~ p,  h_{l-1} ~ p(. | h_l),   dR_l = (h_l - sigma(R_l h_{l-1} + c_l)) h_{l-1}^T.
// The chain reads G alone and the updates write R alone, so a layer learns, on a branch, while the chain goes
// on.
void SleepPhase::run(const Batch& batch, const PassingStates& states) {
  const StepScalars* now = batch.now;
  const auto draw = [&](Domain domain, int layer) {
    return Draw{
        .seed = seed_, .domain = domain, .layer = static_cast<std::uint32_t>(layer), .step = &now->step};
  };
  const int top = machine_.layers();
  machine_.sample_prior(draw(Domain::sleep_sample, top), states.at(0, batch.rows, machine_.size(top)));
  for (int l = top; l >= 1; --l) {
    const int place = top - l + 1;
    const States h = states.at(place - 1, batch.rows, machine_.size(l));
    const States h_below = states.at(place, batch.rows, machine_.size(l - 1));
    const int branch = place % delta_rule_.branches();
    ops_.await_branch(branch);  // h_below takes the place of states that it was the last to read
    ops_.sample(machine_.generative(l), h, draw(Domain::sleep_sample, l - 1), 1, h_below);
    ops_.on_branch(branch, [&] {
      const Deltas deltas = delta_rule_.deltas(branch, batch.rows, machine_.size(l));
      ops_.delta(machine_.recognition(l), h_below, h, draw(Domain::sleep_rounding, l), deltas, weight_);
      delta_rule_.learn(branch, Machine::recognition_index(l), &now->recognition, &now->step, deltas,
                        h_below);
    });
  }
  delta_rule_.await_branches();
}

}  // namespace wakesleep
