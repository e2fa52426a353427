// Natural reweighted wake-sleep. Equations: docs/math.md.
#include "wakesleep/natural_reweighted_wake_sleep.hpp"

namespace wakesleep {

NaturalReweightedWakeSleep::NaturalReweightedWakeSleep(Machine& machine, DeltaRule& delta_rule,
                                                       const TrainingSettings& settings)
    : ReweightedWakeSleep(machine, delta_rule, settings, true),
      machine_(machine),
      refresh_(settings.fisher_refresh),
      natural_gradient_(machine, settings) {
  delta_rule.follow(natural_gradient_);
}

std::int64_t NaturalReweightedWakeSleep::steps_without_host(std::int64_t step) const {
  return (refresh_ - step % refresh_) % refresh_;
}

namespace {

/// w_k / images of every sample, so that its sum over the rows is 1.
std::vector<double> shares_of(Ops& ops, const SampleWeights& weights, std::int64_t images) {
  std::vector<std::int32_t> relative(static_cast<std::size_t>(images * weights.samples));
  std::vector<std::int64_t> total(static_cast<std::size_t>(images));
  ops.copy_out(relative.data(), weights.relative, relative.size() * sizeof(std::int32_t));
  ops.copy_out(total.data(), weights.total, total.size() * sizeof(std::int64_t));
  std::vector<double> shares;
  for (std::size_t r = 0; r < relative.size(); ++r) {
    const std::int64_t of_image = total[r / static_cast<std::size_t>(weights.samples)];
    shares.push_back(static_cast<double>(relative[r]) / static_cast<double>(of_image) /
                     static_cast<double>(images));
  }
  return shares;
}

}  // namespace

// Generative: F_i = 1/B sum_b sum_k w_k p_i (1 - p_i) s~ s~^T.  Recognition: F_i = 1/rows sum_r p_i (1 - p_i)
// s~ s~^T.
void NaturalReweightedWakeSleep::samples_weighted(const Batch& batch, const PosteriorSamples& posterior,
                                                  const SampleWeights& weights) {
  const bool recorded = batch.step < 0;
  if (recorded || steps_without_host(batch.step) > 0) return;
  const int top = machine_.layers();
  const std::vector<double> shares = shares_of(machine_.ops(), weights, batch.rows);
  for (int l = 0; l < top; ++l) {
    natural_gradient_.refresh(Machine::generative_index(l + 1), posterior.generative(batch, l), shares);
  }
  natural_gradient_.refresh(machine_.prior_index(), posterior.generative(batch, top),
                            machine_.prior().autoregressive ? shares : std::vector<double>{1.0});
  for (int l = 1; l <= top; ++l) {
    const PosteriorSamples::Rows drawn = posterior.recognition(batch, l);
    const auto rows = static_cast<std::size_t>(drawn.input.rows);
    natural_gradient_.refresh(Machine::recognition_index(l), drawn,
                              std::vector<double>(rows, 1.0 / static_cast<double>(rows)));
  }
}

}  // namespace wakesleep
