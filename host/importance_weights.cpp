// Self-normalised importance weights. Equations: docs/math.md.
#include "wakesleep/importance_weights.hpp"

namespace wakesleep {

ImportanceWeights::ImportanceWeights(Ops& ops, const TrainingSettings& settings)
    : ops_(ops), relative_(ops, rows_of_a_step(settings)), totals_(ops, settings.batch_size) {}

SampleWeights ImportanceWeights::normalize(Matrix<const std::int64_t> log_weights, int fraction_bits) {
  ops_.importance_weights(log_weights, fraction_bits, relative_.data(), totals_.data());
  SampleWeights weights;
  weights.relative = relative_.data();
  weights.total = totals_.data();
  weights.samples = log_weights.columns;
  return weights;
}

}  // namespace wakesleep
