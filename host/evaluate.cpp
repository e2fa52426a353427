// The importance-sampled likelihood: log p^(x) = log 1/K sum_k p(x, h^k) / q(h^k | x), h^k ~ q(. | x).
#include "wakesleep/evaluate.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>

#include "floating_point.hpp"
#include "logarithm.hpp"
#include "visible_rows.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {
namespace {

/// Totals over a whole data set can leave 64 bits.
__extension__ typedef __int128 WideInteger;

/// K (e_k >> 10)^2 <= 2^40 K stays inside int64 (ImportanceSummary::sum_of_squares).
constexpr std::int64_t max_samples = (std::int64_t{1} << 23) - 1;

/// What the host reads of either direction's probabilities: little beside the working memory, which is the
/// backend's.
constexpr std::int64_t probabilities_at_a_time = std::int64_t{1} << 17;

void check(const EvaluationSettings& settings) {
  if (settings.samples < 1 || settings.samples > max_samples) {
    throw UsageError("the number of samples K is " + std::to_string(settings.samples) +
                     ", but must be between 1 and " + std::to_string(max_samples) +
                     ", up to which the sums over the samples are exact");
  }
  if (settings.memory_bytes < 1) {
    throw UsageError("the working memory of an evaluation is " + std::to_string(settings.memory_bytes) +
                     " bytes, but must be positive");
  }
}

/// How rows and samples are cut so that the working memory keeps its bound.
struct Chunk {
  std::int64_t images;   ///< rows of the file at a time
  std::int64_t samples;  ///< samples of each at a time: all K, or fewer where even one image has too many
};

std::int64_t widest_hidden(const Machine& machine) {
  return *std::max_element(machine.sizes().begin() + 1, machine.sizes().end());
}

/// Two neighbouring hidden layers are alive at a time.
std::int64_t live_layers(const Machine& machine) { return std::min(machine.layers(), 2); }

/// The backend's working memory for each row of the images, and of their samples.
struct Scratch {
  std::int64_t image = 0;
  std::int64_t sample = 0;
};

Scratch scratch_of(const Machine& machine) {
  const auto of = [&](const Conditional& c) { return machine.ops().scratch_bytes_per_row(c); };
  Scratch scratch;
  scratch.image = of(machine.recognition(1));
  for (int l = 1; l <= machine.layers(); ++l) {
    scratch.sample = std::max(scratch.sample, of(machine.generative(l)));
    if (l > 1) scratch.sample = std::max(scratch.sample, of(machine.recognition(l)));
  }
  scratch.sample = std::max(scratch.sample, of(machine.prior()));
  return scratch;
}

/// A piece of the samples of one image has as many, whatever the memory: single ones would take for ever.
constexpr std::int64_t least_piece = 64;

/// The states, the log weights and the backend's working memory of a chunk fit `memory_bytes`. Where those of
/// one image do not, its samples are drawn in pieces: then the states of a piece fit, beside the image's K
/// log weights, which must all be there for their maximum; and the first layer's product, otherwise done once
/// per image, is done once per piece.
Chunk choose_chunk(const Machine& machine, std::int64_t rows, const EvaluationSettings& settings) {
  const Scratch scratch = scratch_of(machine);
  const std::int64_t probability_bytes = 2 * widest_hidden(machine) * std::int64_t{sizeof(float)};
  const std::int64_t image_bytes = padded_units(machine.size(0)) + std::int64_t{sizeof(ImportanceSummary)} +
                                   probability_bytes + scratch.image;
  const std::int64_t state_bytes =
      live_layers(machine) * padded_units(widest_hidden(machine)) + scratch.sample;
  const std::int64_t sample_bytes = state_bytes + std::int64_t{sizeof(std::int64_t)} +
                                    (settings.bidirectional ? std::int64_t{sizeof(std::int32_t)} : 0);
  // With fewer than 2^31 states in a layer, totals of log-probabilities (at most 2^30 a unit) stay inside
  // int64.
  const std::int64_t most_rows = std::min(max_batch_rows, max_integer_sum / padded_units(machine.widest()));

  const std::int64_t images = settings.memory_bytes / (image_bytes + settings.samples * sample_bytes);
  if (images >= 1 && settings.samples <= most_rows) {
    return {std::min({images, rows, most_rows / settings.samples}), settings.samples};
  }
  const std::int64_t weight_bytes = settings.samples * (sample_bytes - state_bytes);
  const std::int64_t samples = (settings.memory_bytes - image_bytes - weight_bytes) / state_bytes;
  return {1, std::min({std::max(samples, least_piece), settings.samples, most_rows})};
}

/// One hidden layer's sums over all rows and samples, in units of 2^-20 nats.
struct LayerTotals {
  WideInteger log_q = 0;
  WideInteger log_p = 0;
};

struct MeanAndError {
  double mean = 0;
  double standard_error = 0;
};

/// The standard error is the sample standard deviation over the square root of the count, 0 for a single
/// value.
MeanAndError mean_and_error(const std::vector<double>& values) {
  const double count = static_cast<double>(values.size());
  double sum = 0;
  for (const double value : values) sum += value;
  const double mean = sum / count;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, values.size() < 2 ? 0.0 : std::sqrt(squares / (count - 1) / count)};
}

class Evaluator {
 public:
  Evaluator(const Machine& machine, const DataSet& data, std::int64_t rows,
            const EvaluationSettings& settings)
      : machine_(machine),
        ops_(machine.ops()),
        settings_(settings),
        rows_(rows),
        chunk_(choose_chunk(machine, rows, settings)),
        visible_(machine, data, chunk_.images),
        log_weights_(ops_, chunk_.images * settings.samples),
        summaries_(ops_, chunk_.images),
        log_q_(ops_, machine.layers()),
        log_p_(ops_, machine.layers()),
        recognised_(ops_, chunk_.images * widest_hidden(machine)),
        predicted_(ops_, chunk_.images * widest_hidden(machine)),
        differences_(static_cast<std::size_t>(machine.layers())),
        totals_(static_cast<std::size_t>(machine.layers())) {
    const std::int64_t state_bytes = chunk_.images * chunk_.samples * padded_units(widest_hidden(machine));
    for (int buffer = 0; buffer < live_layers(machine); ++buffer) {
      states_[buffer] = Buffer<std::uint8_t>(ops_, state_bytes);
    }
    for (int l = 1; l <= machine.layers(); ++l) {
      on_counts_.emplace_back(ops_, machine.size(l));
      on_counts_.back().fill_zero();
    }
    if (settings.bidirectional) {
      relative_weights_ = Buffer<std::int32_t>(ops_, chunk_.images * settings.samples);
      total_weights_ = Buffer<std::int64_t>(ops_, chunk_.images);
    }
  }

  Evaluation run() {
    for (std::int64_t first = 0; first < rows_; first += chunk_.images) {
      const std::int64_t images = std::min(chunk_.images, rows_ - first);
      evaluate_chunk(first, images);
      if (settings_.progress) settings_.progress(first + images, rows_);
    }
    return result();
  }

 private:
  void evaluate_chunk(std::int64_t first_row, std::int64_t images) {
    const ConstStates visible = visible_.read(first_row, images);
    log_weights_.fill_zero();
    for (std::int64_t first = 0; first < settings_.samples; first += chunk_.samples) {
      // Pieces of samples lie side by side in the one row of log weights that there is then.
      add_log_weights(visible, first_row, first, std::min(chunk_.samples, settings_.samples - first),
                      log_weights_.data() + first);
    }
    const Matrix<const std::int64_t> log_weights{log_weights_.data(), images, settings_.samples,
                                                 settings_.samples};
    ops_.importance(log_weights, summaries_.data());
    const std::vector<ImportanceSummary> summaries = read_summaries(images);
    if (settings_.bidirectional) estimate_unnormalized(log_weights, summaries);
  }

  /// Half a log weight is the same integer in half units.
  void estimate_unnormalized(Matrix<const std::int64_t> log_weights,
                             const std::vector<ImportanceSummary>& summaries) {
    ops_.importance_weights(log_weights, log_fraction_bits + 1, relative_weights_.data(),
                            total_weights_.data());
    std::vector<std::int64_t> totals(summaries.size());
    ops_.copy_out(totals.data(), total_weights_.data(), totals.size() * sizeof(std::int64_t));
    for (std::size_t i = 0; i < totals.size(); ++i) {
      unnormalized_.push_back(
          static_cast<double>(summaries[i].maximum) * nats_per_log_unit +
          2 * natural_logarithm(static_cast<double>(totals[i]) / double{relative_weight_one}) -
          2 * natural_logarithm(static_cast<double>(settings_.samples)));
    }
  }

  /// Samples h ~ q(. | x) layer by layer, upward, and adds log p(x, h) - log q(h | x) to the log weights.
  void add_log_weights(ConstStates visible, std::int64_t first_row, std::int64_t first_sample,
                       std::int64_t samples, std::int64_t* log_weights) {
    log_q_.fill_zero();
    log_p_.fill_zero();
    ConstStates below = visible;
    for (int l = 1; l <= machine_.layers(); ++l) {
      const std::int64_t units = machine_.size(l);
      const States states{states_[l % live_layers(machine_)].data(), visible.rows * samples, units,
                          padded_units(units)};
      ops_.sample(machine_.recognition(l), below, draw(l, first_row, first_sample), samples, states,
                  {log_weights, -1, log_q_of(l)});
      ops_.score(machine_.generative(l), states, below, {log_weights, 1, l > 1 ? log_p_of(l - 1) : nullptr});
      ops_.count(states, on_counts_[static_cast<std::size_t>(l - 1)].data());
      if (first_sample == 0) {
        const ConstStates first_states = first_of(states, visible.rows);
        if (l > 1) compare_probabilities(l - 1, machine_.generative(l), first_states, visible.rows);
        ops_.probabilities(machine_.recognition(l), first_of(below, visible.rows),
                           probabilities_in(recognised_, visible.rows, units));
      }
      below = states;
    }
    ops_.score(machine_.prior(), machine_.prior_input(below), below,
               {log_weights, 1, log_p_of(machine_.layers())});
    if (first_sample == 0) {
      compare_probabilities(machine_.layers(), machine_.prior(),
                            machine_.prior_input(first_of(below, visible.rows)), visible.rows);
    }
    read_totals();
  }

  /// Every image's first sample.
  static ConstStates first_of(ConstStates states, std::int64_t images) {
    return {states.data, images, states.columns, states.stride * (states.rows / images)};
  }

  static Matrix<float> probabilities_in(const Buffer<float>& buffer, std::int64_t images,
                                        std::int64_t units) {
    return {buffer.data(), images, units, units};
  }

  /// Adds up |q - p| over the images and the units of layer l, whose recognition probabilities are those last
  /// computed; `generative` predicts it from the states `above`.
  void compare_probabilities(int l, const Conditional& generative, ConstStates above, std::int64_t images) {
    const std::int64_t units = machine_.size(l);
    ops_.probabilities(generative, above, probabilities_in(predicted_, images, units));
    const std::int64_t count = images * units;
    const auto most = static_cast<std::size_t>(std::min(count, probabilities_at_a_time));
    std::vector<float> q(most), p(most);
    double& sum = differences_[static_cast<std::size_t>(l - 1)];  // in the order of the rows, in any chunks
    for (std::int64_t first = 0; first < count; first += probabilities_at_a_time) {
      const auto piece = static_cast<std::size_t>(std::min(probabilities_at_a_time, count - first));
      ops_.copy_out(q.data(), recognised_.data() + first, piece * sizeof(float));
      ops_.copy_out(p.data(), predicted_.data() + first, piece * sizeof(float));
      for (std::size_t i = 0; i < piece; ++i) {
        sum += std::abs(static_cast<double>(q[i]) - static_cast<double>(p[i]));
      }
    }
  }

  Draw draw(int l, std::int64_t first_row, std::int64_t first_sample) const {
    Draw draw;
    draw.seed = settings_.seed;
    draw.domain = Domain::evaluation_sample;
    draw.layer = static_cast<std::uint32_t>(l);
    draw.first_row = static_cast<std::uint32_t>(first_row);
    draw.first_step = static_cast<std::uint32_t>(first_sample);
    draw.samples = SampleAddress::step;
    return draw;
  }

  std::int64_t* log_q_of(int l) const { return log_q_.data() + (l - 1); }
  std::int64_t* log_p_of(int l) const { return log_p_.data() + (l - 1); }

  void read_totals() {
    std::vector<std::int64_t> log_q(totals_.size()), log_p(totals_.size());
    log_q_.copy_out(log_q.data());
    log_p_.copy_out(log_p.data());
    for (std::size_t i = 0; i < totals_.size(); ++i) {
      totals_[i].log_q += log_q[i];
      totals_[i].log_p += log_p[i];
    }
  }

  std::vector<ImportanceSummary> read_summaries(std::int64_t images) {
    std::vector<ImportanceSummary> summaries(static_cast<std::size_t>(images));
    ops_.copy_out(summaries.data(), summaries_.data(), summaries.size() * sizeof(ImportanceSummary));
    const double samples = static_cast<double>(settings_.samples);
    for (const ImportanceSummary& s : summaries) {
      const double sum = static_cast<double>(s.sum);
      estimates_.push_back(static_cast<double>(s.maximum) * nats_per_log_unit +
                           natural_logarithm(sum / double{relative_weight_one}) - natural_logarithm(samples));
      bounds_.push_back(
          (static_cast<double>(s.total_high) + static_cast<double>(s.total_low) * nats_per_log_unit) /
          samples);
      // The squares are those of weights shortened by ten bits, which can lift the quotient a hair above K.
      const double shortened_sum = sum / 1024.0;
      const double effective = shortened_sum * shortened_sum / static_cast<double>(s.sum_of_squares);
      effective_sample_sizes_.push_back(std::min(effective, samples));
    }
    return summaries;
  }

  Evaluation result() const {
    Evaluation evaluation;
    evaluation.rows = rows_;
    evaluation.samples = settings_.samples;
    const MeanAndError estimate = mean_and_error(estimates_);
    evaluation.log_likelihood = estimate.mean;
    evaluation.standard_error = estimate.standard_error;
    const MeanAndError bound = mean_and_error(bounds_);
    evaluation.bound = bound.mean;
    evaluation.bound_standard_error = bound.standard_error;
    evaluation.effective_sample_size = mean_and_error(effective_sample_sizes_).mean;
    if (settings_.bidirectional) {
      const MeanAndError unnormalized = mean_and_error(unnormalized_);
      evaluation.unnormalized = unnormalized.mean;
      evaluation.unnormalized_standard_error = unnormalized.standard_error;
    }
    const double draws = static_cast<double>(rows_) * static_cast<double>(settings_.samples);
    for (std::size_t i = 0; i < totals_.size(); ++i) {
      evaluation.layer_kl.push_back(static_cast<double>(totals_[i].log_q - totals_[i].log_p) *
                                    nats_per_log_unit / draws);
      evaluation.active_units.push_back(count_active(on_counts_[i]));
      evaluation.layer_mismatch.push_back(
          differences_[i] / (static_cast<double>(rows_) * static_cast<double>(on_counts_[i].size())));
    }
    return evaluation;
  }

  std::int64_t count_active(const Buffer<std::int64_t>& on_counts) const {
    std::vector<std::int64_t> on(static_cast<std::size_t>(on_counts.size()));
    on_counts.copy_out(on.data());
    const WideInteger draws = static_cast<WideInteger>(rows_) * settings_.samples;
    return std::count_if(on.begin(), on.end(), [draws](std::int64_t count) {
      const WideInteger hundredfold = static_cast<WideInteger>(count) * 100;
      return draws <= hundredfold && hundredfold <= draws * 99;
    });
  }

  const Machine& machine_;
  Ops& ops_;
  const EvaluationSettings& settings_;
  std::int64_t rows_;
  Chunk chunk_;
  VisibleRows visible_;
  Buffer<std::uint8_t> states_[2];
  Buffer<std::int64_t> log_weights_;  ///< [images x K]
  Buffer<ImportanceSummary> summaries_;
  Buffer<std::int64_t> log_q_;  ///< of the present piece, one word per hidden layer
  Buffer<std::int64_t> log_p_;
  Buffer<float> recognised_;  ///< probabilities of a layer's units, for every image of the chunk
  Buffer<float> predicted_;
  std::vector<double> differences_;              ///< per hidden layer
  std::vector<Buffer<std::int64_t>> on_counts_;  ///< per hidden layer and unit
  std::vector<LayerTotals> totals_;
  Buffer<std::int32_t> relative_weights_;  ///< of halved log weights; empty unless bidirectional, as the next
  Buffer<std::int64_t> total_weights_;
  std::vector<double> estimates_;  ///< per row, as the three below
  std::vector<double> bounds_;
  std::vector<double> effective_sample_sizes_;
  std::vector<double> unnormalized_;  ///< empty unless bidirectional
};

}  // namespace

Evaluation evaluate(const Machine& machine, const DataSet& data, const EvaluationSettings& settings) {
  const FloatingPointScope scope;
  check(settings);
  const std::int64_t rows = rows_to_use(machine, data, settings.limit);
  return Evaluator(machine, data, rows, settings).run();
}

}  // namespace wakesleep
