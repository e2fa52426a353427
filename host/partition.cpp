// The normalising constant of a bidirectional Helmholtz machine.
#include "wakesleep/partition.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "chunk_rows.hpp"
#include "floating_point.hpp"
#include "logarithm.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {
namespace {

constexpr std::int64_t most_dreams = std::int64_t{1} << 31;

/// Dreams and what the recognition model makes of them, a chunk at a time. Neighbouring layers alone are
/// alive.
class DreamScores {
 public:
  DreamScores(const Machine& machine, std::int64_t dreams, std::uint64_t seed)
      : machine_(machine), ops_(machine.ops()), seed_(seed) {
    const std::int64_t row_bytes = padded_units(machine.widest());
    chunk_rows_ = chunk_rows_of(dreams, row_bytes);
    for (Buffer<std::uint8_t>& states : states_) {
      states = Buffer<std::uint8_t>(ops_, chunk_rows_ * row_bytes);
    }
    scores_ = Buffer<std::int64_t>(ops_, chunk_rows_);
  }

  std::int64_t chunk_rows() const { return chunk_rows_; }

  /// log q(h | x) - log p(x, h) + log p(x, h') - log q(h' | x) of each dream, in units of 2^-20 nats.
  std::vector<std::int64_t> of(std::int64_t first, std::int64_t rows) {
    first_ = first;
    rows_ = rows;
    scores_.fill_zero();
    recognise(dream());
    std::vector<std::int64_t> scores(static_cast<std::size_t>(rows));
    ops_.copy_out(scores.data(), scores_.data(), scores.size() * sizeof(std::int64_t));
    return scores;
  }

 private:
  /// (x, h) ~ p, and its log q(h | x) - log p(x, h). Returns x.
  ConstStates dream() {
    const int top = machine_.layers();
    States h = states(top % 2, top);
    machine_.sample_prior(draw(Domain::partition_dream, top), h, minus());
    for (int l = top; l >= 1; --l) {
      const States below = states(l == 1 ? visible : (l - 1) % 2, l - 1);
      ops_.sample(machine_.generative(l), h, draw(Domain::partition_dream, l - 1), 1, below, minus());
      ops_.score(machine_.recognition(l), below, h, plus());
      h = below;
    }
    return h;
  }

  /// h' ~ q(. | x), and its log p(x, h') - log q(h' | x).
  void recognise(ConstStates below) {
    for (int l = 1; l <= machine_.layers(); ++l) {
      const States h = states(l % 2, l);
      ops_.sample(machine_.recognition(l), below, draw(Domain::partition_sample, l), 1, h, minus());
      ops_.score(machine_.generative(l), h, below, plus());
      below = h;
    }
    ops_.score(machine_.prior(), machine_.prior_input(below), below, plus());
  }

  ScoreSink plus() const { return {scores_.data(), 1}; }
  ScoreSink minus() const { return {scores_.data(), -1}; }

  States states(int buffer, int layer) const {
    const std::int64_t units = machine_.size(layer);
    return {states_[buffer].data(), rows_, units, padded_units(units)};
  }

  Draw draw(Domain domain, int layer) const {
    Draw draw;
    draw.seed = seed_;
    draw.domain = domain;
    draw.layer = static_cast<std::uint32_t>(layer);
    draw.first_row = static_cast<std::uint32_t>(first_);
    return draw;
  }

  static constexpr int visible = 2;  ///< the buffer of x; hidden layers take the other two in turn

  const Machine& machine_;
  Ops& ops_;
  std::uint64_t seed_;
  std::int64_t chunk_rows_ = 0;
  std::int64_t first_ = 0;
  std::int64_t rows_ = 0;
  Buffer<std::uint8_t> states_[3];
  Buffer<std::int64_t> scores_;
};

/// The logarithm of the mean of exp(score / 2), and its standard error, which is to first order the relative
/// one of the mean. The sums are integers, so that their order does not matter.
PartitionEstimate log_mean_of_roots(const std::vector<std::int64_t>& scores) {
  constexpr int half_fraction_bits = log_fraction_bits + 1;  // half a score is the same integer in half units
  const std::int64_t maximum = *std::max_element(scores.begin(), scores.end());
  std::int64_t sum = 0;
  std::int64_t sum_of_squares = 0;  // of weights shortened by ten bits: at most 2^40 each
  for (const std::int64_t score : scores) {
    const std::int64_t weight = relative_weight(score, maximum, half_fraction_bits);
    sum += weight;
    sum_of_squares += (weight >> 10) * (weight >> 10) >> 9;  // 2^31 terms of at most 2^31
  }
  const double count = static_cast<double>(scores.size());
  const double mean = static_cast<double>(sum) / double{relative_weight_one} / count;
  const double mean_square = static_cast<double>(sum_of_squares) / 2147483648.0 / count;
  PartitionEstimate estimate;
  estimate.dreams = static_cast<std::int64_t>(scores.size());
  estimate.log_partition = static_cast<double>(maximum) * nats_per_log_unit / 2 + natural_logarithm(mean);
  estimate.standard_error = std::sqrt(std::max(0.0, mean_square - mean * mean) / count) / mean;
  return estimate;
}

}  // namespace

PartitionEstimate estimate_partition(const Machine& machine, const PartitionSettings& settings) {
  const FloatingPointScope scope;
  if (machine.has_gaussian_visible()) {
    throw UsageError(
        "the normalising constant is that of machines with Bernoulli visible units, but those of "
        "this machine are Gaussian: use the log density that evaluate() estimates");
  }
  if (settings.dreams < 1 || settings.dreams > most_dreams) {
    throw UsageError("the number of dreams is " + std::to_string(settings.dreams) +
                     ", but must be between 1 and " + std::to_string(most_dreams));
  }
  DreamScores scores(machine, settings.dreams, settings.seed);
  std::vector<std::int64_t> all;
  all.reserve(static_cast<std::size_t>(settings.dreams));
  for (std::int64_t first = 0; first < settings.dreams; first += scores.chunk_rows()) {
    const std::int64_t rows = std::min(scores.chunk_rows(), settings.dreams - first);
    const std::vector<std::int64_t> chunk = scores.of(first, rows);
    all.insert(all.end(), chunk.begin(), chunk.end());
    if (settings.progress) settings.progress(first + rows, settings.dreams);
  }
  return log_mean_of_roots(all);
}

}  // namespace wakesleep
