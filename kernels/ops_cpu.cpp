// The CPU backend: every operation is divided over a team of threads by rows (or receiving units), and each
// thread multiplies a piece of the batch and treats the sums while they are in its cache.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>

#include "kernels/cpu/product.hpp"
#include "kernels/cpu/rows.hpp"
#include "kernels/cpu/threads.hpp"
#include "kernels/importance_cpu.hpp"
#include "kernels/shapes.hpp"
#include "kernels/shuffle_cpu.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/ops.hpp"

namespace wakesleep {
namespace cpu {
namespace {

/// A piece's sums should stay in the second-level cache beside the weights.
constexpr std::int64_t piece_bytes = 512 * 1024;

/// From here on a request is worth a look at the machine's memory.
constexpr std::size_t large_request = 64 << 20;

std::uint32_t step_of(const Draw& draw) { return draw.first_step + (draw.step != nullptr ? *draw.step : 0); }

/// Address of output row `row`, of which there are `samples` for every row of the batch.
RowAddress address_of(const Draw& draw, std::int64_t row, std::int64_t samples) {
  RowAddress address;
  address.seed = draw.seed;
  address.domain_and_layer = domain_word(draw.domain, draw.layer);
  if (draw.samples == SampleAddress::row) {
    address.row = draw.first_row + static_cast<std::uint32_t>(row);
    address.step = step_of(draw);
  } else {
    address.row = draw.first_row + static_cast<std::uint32_t>(row / samples);
    address.step = step_of(draw) + static_cast<std::uint32_t>(row % samples);
  }
  return address;
}

/// Bytes that can be had without swapping, as Linux estimates them; SIZE_MAX where it does not say.
std::size_t available_memory() {
  std::ifstream file("/proc/meminfo");
  for (std::string name; file >> name;) {
    std::size_t kilobytes = 0;
    if (name == "MemAvailable:" && file >> kilobytes) return kilobytes * 1024;
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return SIZE_MAX;
}

/// Largest magnitudes of an integer gradient.
struct LargestIntegers {
  std::int32_t weight = 0;
  std::int32_t bias = 0;
};

class CpuReadback : public Readback {
 public:
  explicit CpuReadback(std::size_t bytes) : bytes_(bytes) {}
  void request(const void* from) override {
    requested_ = true;
    std::memcpy(bytes_.data(), from, bytes_.size());
  }
  const void* result() override { return requested_ ? bytes_.data() : nullptr; }

 private:
  bool requested_ = false;
  std::vector<std::byte> bytes_;
};

class CpuUpload : public Upload {
 public:
  explicit CpuUpload(std::size_t bytes) : bytes_(bytes) {}
  void* fill() override { return bytes_.data(); }
  void send(void* to, std::size_t bytes) override {
    require_size_of_upload(bytes, bytes_.size());
    std::memcpy(to, bytes_.data(), bytes);
  }
  void await() override {}

 private:
  std::vector<std::byte> bytes_;
};

class CpuOps : public Ops {
 public:
  explicit CpuOps(const CpuOptions& options)
      : kernels_(row_kernels(options.instructions)),
        route_(options.route == CpuRoute::best ? best_route() : options.route),
        piece_rows_(options.piece_rows),
        team_(options.threads) {
    if (!cpu_route_available(route_)) {
      throw DeviceError("this CPU has no AVX2 with FMA, which the route avx2 needs: choose best or int8");
    }
    check_route(*this, route_);
    for (int thread = 0; thread < team_.size(); ++thread) products_.emplace_back(*this, route_);
    ordered_sums_.resize(static_cast<std::size_t>(team_.size()));
    largest_sums_.resize(static_cast<std::size_t>(team_.size()));
    largest_integers_.resize(static_cast<std::size_t>(team_.size()));
  }

  std::string description() const override {
    return "CPU, " + std::to_string(team_.size()) + (team_.size() == 1 ? " thread, " : " threads, ") +
           kernels_.name + " kernels, " + route_text(route_);
  }
  std::string device() const override { return "cpu"; }

  // -------------------------------------------------------------------------------------------- memory
  void* allocate(std::size_t bytes) override {
    constexpr std::size_t alignment = 256;
    // Products read whole words, of which the last may begin in the last unit of the last row.
    constexpr std::size_t read_beyond = 64;
    const std::size_t rounded = (bytes + read_beyond + alignment - 1) / alignment * alignment;
    // Linux grants more than it has and kills whoever touches it, so a large request is held against what
    // there is.
    const bool fits = rounded >= bytes && (rounded < large_request || rounded <= cpu::available_memory());
    void* memory = fits ? std::aligned_alloc(alignment, rounded) : nullptr;
    if (memory == nullptr) {
      throw DeviceError("out of memory: " + std::to_string(bytes) + " bytes were needed and " +
                        std::to_string(memory_use().current) +
                        " are held; use a smaller batch, fewer samples at a time or smaller layers");
    }
    note_allocation(bytes);
    return memory;
  }
  void deallocate(void* memory, std::size_t bytes) noexcept override {
    std::free(memory);
    note_deallocation(bytes);
  }
  void copy_in(void* to, const void* from_host, std::size_t bytes) override {
    if (bytes > 0) std::memcpy(to, from_host, bytes);
  }
  void copy_out(void* to_host, const void* from, std::size_t bytes) override {
    if (bytes > 0) std::memcpy(to_host, from, bytes);
  }
  void fill_zero(void* memory, std::size_t bytes) override {
    if (bytes > 0) std::memset(memory, 0, bytes);
  }
  void synchronize() override {}
  std::size_t available_memory() const override { return cpu::available_memory(); }
  std::unique_ptr<Readback> make_readback(std::size_t bytes) override {
    return std::make_unique<CpuReadback>(bytes);
  }
  std::unique_ptr<Upload> make_upload(std::size_t bytes) override {
    return std::make_unique<CpuUpload>(bytes);
  }

  // -------------------------------------------------------------------------------------------- weights
  std::unique_ptr<IntegerWeights> make_integer_weights(std::int64_t receiving, std::int64_t sending, int bits,
                                                       std::int32_t largest_input) override {
    require_shapes_of_integer_weights(receiving, sending, largest_input);
    check_route(*this, route_, largest_input);
    return std::make_unique<CpuWeights>(*this, route_, receiving, sending, bits, largest_input);
  }

  void draw_weights(const Conditional& conditional, const Draw& draw, float limit) override {
    require_shapes_of_draw_weights(conditional);
    const ArithmeticScope scope;
    team_.run([&](int thread) {
      const Range units = part_of(conditional.receiving, thread, team_.size());
      for (std::int64_t i = units.begin; i < units.end; ++i) {
        kernels_.draw_weights(address_of(draw, i, 1), limit, conditional.sending, conditional.weight.row(i));
      }
    });
  }

  void quantize(const Conditional& conditional, std::uint32_t* diverged, const std::uint32_t* step) override {
    require_shapes_of_quantize(conditional);
    if (!conditional.has_input()) return;
    const ArithmeticScope scope;
    team_.run([&](int thread) {
      const Range units = part_of(conditional.receiving, thread, team_.size());
      bool fits = true;
      for (std::int64_t i = units.begin; i < units.end; ++i) fits &= quantize_unit(conditional, i);
      if (!fits) note_divergence(diverged, step);
    });
  }

  void reserve(const Conditional& conditional, std::int64_t rows) override {
    require_shapes_of_reserve(conditional);
    if (!conditional.has_input()) return;
    const ArithmeticScope scope;
    const ConstStates input{nullptr, rows, conditional.sending, padded_units(conditional.sending)};
    reserve_forward(weights_of(conditional), input);
    reserve_gradient({nullptr, rows, conditional.receiving, padded_units(conditional.receiving)}, input,
                     conditional.largest_input);
    if (conditional.autoregressive) reserve_in_order(conditional.receiving);
  }

  // -------------------------------------------------------------------------------------------- the step
  void advance(const StepScalars* table, std::uint32_t* position, StepScalars* now) override {
    *now = table[(*position)++];
  }

  void shuffle(const Draw& draw, std::int64_t rows, std::uint32_t* order) override {
    shuffle_(*this, team_, address_of(draw, 0, 1), rows, order);
  }

  void gather(const DataRows& data, const std::uint32_t* order, const std::uint32_t* first, const Draw& draw,
              States states) override {
    require_shapes_of_gather(data, states);
    const ArithmeticScope scope;
    team_.run([&](int thread) {
      const Range rows = part_of(states.rows, thread, team_.size());
      for (std::int64_t r = rows.begin; r < rows.end; ++r) {
        const std::int64_t position = static_cast<std::int64_t>(*first) + r;
        const std::int64_t row = order != nullptr ? order[position] : position;
        const std::uint8_t* bytes = data.bytes + (data.ordered ? position : row) * data.row_bytes;
        if (data.grey && data.fixed_point) {
          kernels_.gather_fixed_point(bytes, data.units, states.row(r));
        } else if (data.grey) {
          Draw of_row = draw;
          of_row.first_row = static_cast<std::uint32_t>(row);
          kernels_.gather_grey(bytes, data.units, address_of(of_row, 0, 1), states.row(r));
        } else {
          kernels_.gather_bits(bytes, data.units, data.fixed_point ? largest_fixed_point_state : 1,
                               states.row(r));
        }
      }
    });
  }

  void sample(const Conditional& conditional, ConstStates input, const Draw& draw, std::int64_t samples,
              States output, const ScoreSink& score, Matrix<float> kept, Matrix<float> errors) override {
    require_shapes_of_sample(conditional, input, samples, output, kept, errors);
    if (output.rows == 0) return;
    const std::int64_t repeats = conditional.has_input() ? output.rows / input.rows : 1;
    each_distribution(
        conditional, input, output.rows, [&](const LogitRow& logits, std::int64_t first, std::int64_t count) {
          if (kept.data != nullptr) kernels_.logits(logits, output.columns, kept.row(first / repeats));
          std::array<RowAddress, 16> addresses;
          std::int64_t log_probability = 0;
          for (std::int64_t begin = 0; begin < count; begin += std::ssize(addresses)) {
            const std::int64_t row = first + begin;
            const std::int64_t rows = std::min(count - begin, std::ssize(addresses));
            for (std::int64_t r = 0; r < rows; ++r) {
              addresses[static_cast<std::size_t>(r)] = address_of(draw, row + r, samples);
            }
            log_probability += kernels_.sample(logits, output.columns, addresses.data(), output.row(row),
                                               output.stride, rows, results_from(row, score, errors));
          }
          add_total(score, log_probability);
        });
  }

  void sample_in_order(const Conditional& conditional, const Draw& draw, States output) override {
    require_shapes_of_sample_in_order(conditional, output);
    if (output.rows == 0) return;
    const std::int64_t units = conditional.receiving;
    const ArithmeticScope scope;
    reserve_in_order(units);
    team_.run([&](int thread) {
      const Range part = part_of(units, thread, team_.size());
      for (std::int64_t i = part.begin; i < part.end; ++i) write_to_columns(conditional, i);
    });
    const OrderedWeights weights{ordered_columns_.data(), units, weights_of(conditional).scale.data(),
                                 conditional.bias};
    team_.run([&](int thread) {
      each_piece(output.rows, rows_in_order, thread, [&](std::int64_t first, std::int64_t count) {
        std::array<RowAddress, rows_in_order> addresses;
        for (std::int64_t r = 0; r < count; ++r) {
          addresses[static_cast<std::size_t>(r)] = address_of(draw, first + r, 1);
        }
        kernels_.sample_in_order(weights, units, addresses.data(), output.row(first), output.stride, count,
                                 ordered_sums_[static_cast<std::size_t>(thread)].data());
      });
    });
  }

  void delta(const Conditional& conditional, ConstStates input, ConstStates target, const Draw& draw,
             Deltas deltas, const SampleWeights& weights, Matrix<const float> kept) override {
    require_shapes_of_delta(conditional, input, target, deltas, weights, kept);
    if (deltas.rows == 0) return;
    const bool shared = target.rows > deltas.rows;
    const std::int64_t rows_a_target = shared ? 1 : deltas.rows / target.rows;
    const auto row_delta = [&](std::int64_t row, const LogitRow& logits) {
      if (shared) {
        const auto kernel =
            weights.coefficient != nullptr ? kernels_.shared_coefficient_delta : kernels_.shared_delta;
        kernel(logits, shared_targets(target, weights, row), deltas.columns, address_of(draw, row, 1),
               deltas.row(row));
      } else {
        kernels_.delta(logits, target.row(row / rows_a_target), weight_of(weights, row), deltas.columns,
                       address_of(draw, row, 1), deltas.row(row));
      }
    };
    if (kept.data == nullptr) {
      each_row(conditional, input, deltas.rows, row_delta);
    } else {
      each_kept_row(kept, row_delta);
    }
  }

  void round_errors(Matrix<const float> errors, const Draw& draw, Deltas deltas,
                    const SampleWeights& weights) override {
    require_shapes_of_round_errors(errors, deltas, weights);
    const ArithmeticScope scope;
    team_.run([&](int thread) {
      const Range rows = part_of(deltas.rows, thread, team_.size());
      for (std::int64_t r = rows.begin; r < rows.end; ++r) {
        kernels_.round_errors(errors.row(r), weight_of(weights, r), deltas.columns, address_of(draw, r, 1),
                              deltas.row(r));
      }
    });
  }

  void gradient(ConstDeltas deltas, ConstStates states, std::int32_t* gradient, std::int32_t* bias_gradient,
                std::int32_t largest_state) override {
    require_shapes_of_gradient(deltas, states, gradient, largest_state);
    const ArithmeticScope scope;
    if (gradient != nullptr) reserve_gradient(deltas, states, largest_state);
    team_.run([&](int thread) {
      gradient_of_units(deltas, states, gradient, bias_gradient, largest_state,
                        gradient_part(deltas.columns, thread), thread);
    });
  }

  void keep_below_diagonal(std::int32_t* gradient, std::int64_t units) override {
    team_.run([&](int thread) {
      const Range part = gradient_part(units, thread);
      for (std::int64_t i = part.begin; i < part.end; ++i) {
        std::fill(gradient + i * units + i, gradient + (i + 1) * units, 0);
      }
    });
  }

  void add(std::int32_t* sums, const std::int32_t* terms, std::int64_t count) override {
    team_.run([&](int thread) {
      const Range share = part_of(count, thread, team_.size(), 16);
      for (std::int64_t i = share.begin; i < share.end; ++i) sums[i] += terms[i];
    });
  }

  void sparsity(ConstStates states, const Sparsity& sparsity, float* activation,
                std::int32_t* penalty) override {
    require_shapes_of_sparsity(states);
    if (states.rows == 0) return;
    if (on_counts_.size() < states.columns) on_counts_ = {*this, states.columns};
    on_counts_.fill_zero();
    count(states, on_counts_.data());
    const ArithmeticScope scope;
    for (std::int64_t u = 0; u < states.columns; ++u) {
      activation[u] = running_activation(activation[u], on_counts_.data()[u], states.rows, sparsity);
      penalty[u] = sparsity_gradient(activation[u], states.rows, sparsity);
    }
  }

  void clip(const Conditional& conditional, const std::int32_t* gradient, const std::int32_t* bias_gradient,
            float limit, const Rates* rates, Rates* clipped) override {
    const ArithmeticScope scope;
    team_.run([&](int thread) {
      const Range units = gradient_part(conditional.receiving, thread);  // as they lie in the threads' caches
      const std::int64_t count = units.end - units.begin;
      LargestIntegers& largest = largest_integers_[static_cast<std::size_t>(thread)];
      largest.bias = kernels_.largest_integer(bias_gradient + units.begin, count);
      largest.weight = gradient == nullptr
                           ? 0
                           : kernels_.largest_integer(gradient + units.begin * conditional.sending,
                                                      count * conditional.sending);
    });
    LargestIntegers largest;
    for (const LargestIntegers& of_thread : largest_integers_) {
      largest.weight = std::max(largest.weight, of_thread.weight);
      largest.bias = std::max(largest.bias, of_thread.bias);
    }
    *clipped = *rates;
    clipped->mean *=
        clip_factor(largest.weight, largest.bias, conditional.gradient_units(), rates->mean, limit);
  }

  void update(const Conditional& conditional, const OptimizerState& state, const Optimizer& optimizer,
              const Rates* rates, const std::int32_t* gradient, const std::int32_t* bias_gradient,
              std::uint32_t* diverged, const std::uint32_t* step) override {
    update_with(kernels_.update, conditional, state, optimizer, rates, gradient, bias_gradient, diverged,
                step);
  }

  void update(const Conditional& conditional, const OptimizerState& state, const Optimizer& optimizer,
              const Rates* rates, const float* gradient, const float* bias_gradient, std::uint32_t* diverged,
              const std::uint32_t* step) override {
    update_with(kernels_.update_along, conditional, state, optimizer, rates, gradient, bias_gradient,
                diverged, step);
  }

  // The threads' gradients are those of the units that they move, so nobody waits in between.
  void learn(const Conditional& conditional, ConstDeltas deltas, ConstStates states,
             const Learning& learning) override {
    require_shapes_of_learn(conditional, deltas, states, learning);
    const std::int32_t largest_state = conditional.largest_input;
    const ArithmeticScope scope;
    if (learning.gradient != nullptr) reserve_gradient(deltas, states, largest_state);
    team_.run([&](int thread) {
      const Range units = gradient_part(conditional.receiving, thread);
      gradient_of_units(deltas, states, learning.gradient, learning.bias_gradient, largest_state, units,
                        thread);
      const auto add_part = [](std::int32_t* sums, const std::int32_t* terms, std::int64_t begin,
                               std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) sums[i] += terms[i];
      };
      if (learning.added != nullptr) {
        add_part(learning.gradient, learning.added, units.begin * conditional.sending,
                 units.end * conditional.sending);
      }
      if (learning.added_bias != nullptr)
        add_part(learning.bias_gradient, learning.added_bias, units.begin, units.end);
      update_units(kernels_.update, conditional, learning.state, learning.optimizer, learning.rates,
                   learning.gradient, learning.bias_gradient, learning.diverged, learning.step, units);
    });
  }

  void natural_gradient(const Conditional& conditional, const FisherInverse& inverse, const Rates* rates,
                        const std::int32_t* gradient, const std::int32_t* bias_gradient, float* natural,
                        float* natural_bias) override {
    require_shapes_of_natural_gradient(conditional, inverse);
    const ArithmeticScope scope;
    team_.run([&](int thread) {
      const Range units = part_of(conditional.receiving, thread, team_.size());
      for (std::int64_t i = units.begin; i < units.end; ++i) {
        const std::int64_t first = i * conditional.sending;
        kernels_.natural_gradient(inverse, i, conditional.sending, *rates, gradient + first, bias_gradient[i],
                                  natural + first, natural_bias + i);
      }
    });
  }

  // -------------------------------------------------------------------------------------------- chains
  void recall(const DataRows& remembered, const std::uint32_t* order, const std::uint32_t* first,
              const std::uint32_t* epoch, std::uint32_t from_epoch, States states) override {
    require_shapes_of_recall(remembered, states);
    if (*epoch >= from_epoch) gather(remembered, order, first, {}, states);
  }

  void remember(ConstStates states, std::int64_t samples, const std::uint32_t* chosen,
                const std::uint32_t* order, const std::uint32_t* first, std::uint8_t* bits,
                std::int64_t row_bytes) override {
    require_shapes_of_remember(states, samples, row_bytes);
    team_.run([&](int thread) {
      const Range images = part_of(states.rows / samples, thread, team_.size());
      for (std::int64_t i = images.begin; i < images.end; ++i) {
        const std::int64_t position = static_cast<std::int64_t>(*first) + i;
        std::uint8_t* row = bits + (order != nullptr ? order[position] : position) * row_bytes;
        kernels_.pack_bits(states.row(i * samples + chosen[i]), states.columns, row_bytes, row);
      }
    });
  }

  void metropolis(Matrix<const std::int64_t> log_weights, const Draw& draw, std::int32_t* visits,
                  std::int64_t* totals, std::uint32_t* last, std::int64_t* counts) override {
    require_shapes_of_metropolis(log_weights);
    const std::int64_t samples = log_weights.columns;
    const ArithmeticScope scope;
    std::atomic_ref<std::int64_t> all_accepted(counts[1]);
    team_.run([&](int thread) {
      const Range images = part_of(log_weights.rows, thread, team_.size());
      std::int64_t accepted = 0;
      for (std::int64_t i = images.begin; i < images.end; ++i) {
        const RowAddress address = address_of(draw, i, 1);
        const PhiloxBlock counter = draw_counter(0, address.row, address.step, address.domain_and_layer);
        accepted += run_chain(log_weights.row(i), samples, draw.seed, counter, visits + i * samples, last[i]);
        totals[i] = samples;
      }
      all_accepted.fetch_add(accepted, std::memory_order_relaxed);
    });
    counts[0] += log_weights.rows * (samples - 1);
  }

  // -------------------------------------------------------------------------------------------- reading out
  void score(const Conditional& conditional, ConstStates input, ConstStates target, const ScoreSink& sink,
             Matrix<float> errors) override {
    require_shapes_of_score(conditional, input, target, errors);
    const std::int64_t rows = conditional.has_input() ? input.rows : target.rows;
    if (rows == 0) return;
    const std::int64_t rows_a_target = rows / target.rows;
    each_distribution(
        conditional, input, rows, [&](const LogitRow& logits, std::int64_t first, std::int64_t count) {
          score_rows(logits, target, first / rows_a_target, count, results_from(first, sink, errors), sink);
        });
  }

  void score_kept(Matrix<const float> kept, ConstStates target, const ScoreSink& sink,
                  Matrix<float> errors) override {
    require_shapes_of_score_kept(kept, target, errors);
    if (target.rows == 0) return;
    const std::int64_t rows_a_logit = target.rows / kept.rows;
    each_kept_row(kept, [&](std::int64_t row, const LogitRow& logits) {
      const std::int64_t first = row * rows_a_logit;
      score_rows(logits, target, first, rows_a_logit, results_from(first, sink, errors), sink);
    });
  }

  void importance(Matrix<const std::int64_t> log_weights, ImportanceSummary* summaries) override {
    require_shapes_of_importance(log_weights);
    const ArithmeticScope scope;
    team_.run([&](int thread) {
      const Range images = part_of(log_weights.rows, thread, team_.size());
      for (std::int64_t i = images.begin; i < images.end; ++i) {
        summaries[i] = summarize(log_weights.row(i), log_weights.columns);
      }
    });
  }

  void importance_weights(Matrix<const std::int64_t> log_weights, int fraction_bits, std::int32_t* relative,
                          std::int64_t* totals) override {
    require_shapes_of_importance_weights(log_weights);
    const ArithmeticScope scope;
    team_.run([&](int thread) {
      const Range images = part_of(log_weights.rows, thread, team_.size());
      for (std::int64_t i = images.begin; i < images.end; ++i) {
        totals[i] =
            weigh(log_weights.row(i), log_weights.columns, fraction_bits, relative + i * log_weights.columns);
      }
    });
  }

  void vimco_weights(Matrix<const std::int64_t> log_weights, float* coefficients, const Rates* rates,
                     Rates* scaled) override {
    require_shapes_of_vimco_weights(log_weights);
    const std::int64_t samples = log_weights.columns;
    const ArithmeticScope scope;
    team_.run([&](int thread) {
      const Range images = part_of(log_weights.rows, thread, team_.size());
      float& largest = largest_sums_[static_cast<std::size_t>(thread)];
      largest = 0.0f;
      for (std::int64_t i = images.begin; i < images.end; ++i) {
        largest =
            std::max(largest, vimco_coefficients(log_weights.row(i), samples, coefficients + i * samples));
      }
    });
    const std::int32_t exponent =
        least_exponent(*std::max_element(largest_sums_.begin(), largest_sums_.end()));
    for (std::int64_t i = 0; i < log_weights.rows * samples; ++i) coefficients[i] *= power_of_two(-exponent);
    *scaled = *rates;
    scaled->mean *= power_of_two(exponent);
  }

  void probabilities(const Conditional& conditional, ConstStates input,
                     Matrix<float> probabilities) override {
    require_shapes_of_probabilities(conditional, input, probabilities);
    each_row(conditional, input, probabilities.rows, [&](std::int64_t row, const LogitRow& logits) {
      kernels_.probabilities(logits, probabilities.columns, probabilities.row(row));
    });
  }

  void multiply(const Conditional& conditional, ConstStates input) override {
    require_shapes_of_multiply(conditional, input);
    each_row(conditional, input, input.rows, [](std::int64_t, const LogitRow&) {});
  }

  void count(ConstStates states, std::int64_t* counts) override {
    require_shapes_of_count(states);
    team_.run([&](int thread) {
      const Range units = part_of(states.columns, thread, team_.size(), 64);
      kernels_.count_columns(states.data + units.begin, states.rows, states.stride, units.end - units.begin,
                             counts + units.begin);
    });
  }

 private:
  /// What is wanted of the rows of states from `first` on.
  static StateResults results_from(std::int64_t first, const ScoreSink& sink, const Matrix<float>& errors) {
    StateResults results;
    results.scored = sink.rows != nullptr || sink.total != nullptr;
    results.log_probabilities = sink.rows != nullptr ? sink.rows + first : nullptr;
    results.sign = sink.sign;
    results.errors = errors.data != nullptr ? errors.row(first) : nullptr;
    results.errors_stride = errors.stride;
    return results;
  }

  void score_rows(const LogitRow& logits, ConstStates target, std::int64_t first, std::int64_t count,
                  const StateResults& results, const ScoreSink& sink) const {
    add_total(sink, kernels_.score(logits, target.columns, target.row(first), target.stride, count, results));
  }

  /// The weight of a row of deltas.
  static float weight_of(const SampleWeights& weights, std::int64_t row) {
    if (weights.coefficient != nullptr) return weights.scale * weights.coefficient[row];
    if (weights.relative == nullptr) return weights.scale;
    const double baseline = weights.centred ? 1.0 / static_cast<double>(weights.samples) : 0.0;
    return weights.scale *
           sample_weight(weights.relative[row], weights.total[row / weights.samples], baseline);
  }

  static SharedTargets shared_targets(ConstStates target, const SampleWeights& weights, std::int64_t image) {
    const std::int64_t first = image * weights.samples;
    SharedTargets targets;
    targets.states = target.row(first);
    targets.stride = target.stride;
    targets.samples = weights.samples;
    if (weights.coefficient != nullptr) {
      targets.coefficient = weights.coefficient + first;
    } else {
      targets.relative = weights.relative + first;
      targets.total = weights.total[image];
    }
    targets.centred = weights.centred;
    targets.scale = weights.scale;
    return targets;
  }

  /// One thread's part of a gradient.
  void gradient_of_units(ConstDeltas deltas, ConstStates states, std::int32_t* gradient,
                         std::int32_t* bias_gradient, std::int32_t largest_state, Range units, int thread) {
    if (gradient != nullptr) {
      products_[static_cast<std::size_t>(thread)].gradient(deltas, states, units, gradient, largest_state);
    }
    if (bias_gradient != nullptr) {
      kernels_.sum_columns(deltas.data + units.begin, deltas.rows, deltas.stride, units.end - units.begin,
                           bias_gradient + units.begin);
    }
  }

  /// `kernel` is update or update_along of the row kernels.
  template <class Kernel, class Gradient>
  void update_with(const Kernel& kernel, const Conditional& conditional, const OptimizerState& state,
                   const Optimizer& optimizer, const Rates* rates, const Gradient* gradient,
                   const Gradient* bias_gradient, std::uint32_t* diverged, const std::uint32_t* step) {
    require_shapes_of_update(conditional, state, optimizer, gradient, bias_gradient);
    const ArithmeticScope scope;
    team_.run([&](int thread) {
      update_units(kernel, conditional, state, optimizer, rates, gradient, bias_gradient, diverged, step,
                   part_of(conditional.receiving, thread, team_.size()));
    });
  }

  /// One thread's part of an update.
  template <class Kernel, class Gradient>
  void update_units(const Kernel& kernel, const Conditional& conditional, const OptimizerState& state,
                    const Optimizer& optimizer, const Rates* rates, const Gradient* gradient,
                    const Gradient* bias_gradient, std::uint32_t* diverged, const std::uint32_t* step,
                    Range units) {
    if (units.begin == units.end) return;
    const GradientUnits gradient_units = conditional.gradient_units();
    const auto at = [](float* values, std::int64_t index) {
      return values == nullptr ? nullptr : values + index;
    };
    const Rates bias_rates = rates_in_units(*rates, gradient_units.bias);
    const Rates weight_rates = rates_in_units(*rates, gradient_units.weight);
    bool finite = kernel(conditional.bias + units.begin, at(state.bias_first, units.begin),
                         at(state.bias_second, units.begin), bias_gradient + units.begin,
                         units.end - units.begin, false, optimizer, bias_rates);
    for (std::int64_t i = units.begin; i < units.end && conditional.has_input(); ++i) {
      const std::int64_t first = i * conditional.sending;
      kernel(conditional.weight.row(i), at(state.weight_first, first), at(state.weight_second, first),
             gradient + first, conditional.sending, true, optimizer, weight_rates);
      finite &= quantize_unit(conditional, i);  // finds a weight that is not finite, too
    }
    if (!finite) note_divergence(diverged, step);
  }

  static const CpuWeights& weights_of(const Conditional& conditional) {
    return static_cast<const CpuWeights&>(*conditional.integers);
  }

  std::int64_t rows_of_a_piece(const CpuWeights& weights) const {
    if (piece_rows_ > 0) return piece_rows_;
    const std::int64_t row_bytes = 4 * weights.limbs * weights.receiving;
    return std::clamp<std::int64_t>(piece_bytes / std::max<std::int64_t>(row_bytes, 1), 16, 256);
  }

  /// Calls piece(first row, rows) for the pieces of one thread's share, as equal as they can be.
  template <class Piece>
  void each_piece(std::int64_t rows, std::int64_t piece_rows, int thread, const Piece& piece) const {
    const Range share = part_of(rows, thread, team_.size());
    const std::int64_t count = share.end - share.begin;
    const std::int64_t pieces = (count + piece_rows - 1) / piece_rows;
    for (std::int64_t p = 0; p < pieces; ++p) {
      const std::int64_t first = share.begin + count * p / pieces;
      piece(first, share.begin + count * (p + 1) / pieces - first);
    }
  }

  void reserve_forward(const CpuWeights& weights, ConstStates input) {
    for (int thread = 0; thread < team_.size(); ++thread) {
      each_piece(input.rows, rows_of_a_piece(weights), thread, [&](std::int64_t, std::int64_t count) {
        products_[static_cast<std::size_t>(thread)].reserve_forward(weights, count, input.stride);
      });
    }
  }

  void reserve_in_order(std::int64_t units) {
    const auto grow = [&](auto& buffer, std::int64_t count) {
      if (buffer.size() < count) buffer = {*this, count};
    };
    grow(ordered_columns_, units * units);
    for (Buffer<std::int32_t>& sums : ordered_sums_) grow(sums, rows_in_order * ordered_sums_stride(units));
  }

  /// What unit i of an autoregressive prior receives, in the columns of the units before it.
  void write_to_columns(const Conditional& conditional, std::int64_t i) {
    constexpr std::int64_t stretch = 1024;
    const float two_to_shift = 1.0f / weights_of(conditional).scale.data()[i];
    for (std::int64_t first = 0; first < i; first += stretch) {
      std::array<std::int16_t, stretch> words;
      const std::int64_t count = std::min(stretch, i - first);
      kernels_.quantize_words(conditional.weight.row(i) + first, count, two_to_shift, words.data());
      std::int16_t* to = ordered_columns_.data() + first * conditional.receiving + i;
      for (std::int64_t j = 0; j < count; ++j) {
        to[j * conditional.receiving] = words[static_cast<std::size_t>(j)];
      }
    }
  }

  /// The receiving units whose gradient a thread sums.
  Range gradient_part(std::int64_t receiving, int thread) const {
    return part_of(receiving, thread, team_.size(), 16);
  }
  void reserve_gradient(ConstDeltas deltas, ConstStates states, std::int32_t largest_state) {
    for (int thread = 0; thread < team_.size(); ++thread) {
      products_[static_cast<std::size_t>(thread)].reserve_gradient(
          deltas, states, gradient_part(deltas.columns, thread), largest_state);
    }
  }

  /// Calls work(row, logits) for every row of logits that were kept, on all threads.
  template <class Work>
  void each_kept_row(Matrix<const float> kept, const Work& work) {
    const ArithmeticScope scope;
    team_.run([&](int thread) {
      const Range share = part_of(kept.rows, thread, team_.size());
      for (std::int64_t r = share.begin; r < share.end; ++r) {
        LogitRow logits;
        logits.kept = kept.row(r);
        work(r, logits);
      }
    });
  }

  /// Calls work(row, logits) for every row of the input (of `rows` rows for a prior), on all threads.
  template <class Work>
  void each_row(const Conditional& conditional, ConstStates input, std::int64_t rows, const Work& work) {
    const ArithmeticScope scope;
    if (!conditional.has_input()) {
      team_.run([&](int thread) {
        const Range share = part_of(rows, thread, team_.size());
        LogitRow logits;
        logits.bias = conditional.bias;
        logits.deviation = conditional.deviation;
        for (std::int64_t r = share.begin; r < share.end; ++r) work(r, logits);
      });
      return;
    }
    const CpuWeights& weights = weights_of(conditional);
    reserve_forward(weights, input);
    team_.run([&](int thread) {
      each_piece(rows, rows_of_a_piece(weights), thread, [&](std::int64_t first, std::int64_t count) {
        const ConstStates piece{input.row(first), count, input.columns, input.stride};
        const std::int32_t* sums = products_[static_cast<std::size_t>(thread)].forward(weights, piece);
        for (std::int64_t r = 0; r < count; ++r) {
          const std::int32_t* row = sums + r * weights.limbs * weights.receiving;
          LogitRow logits;
          logits.high = weights.limbs == 2 ? row : nullptr;
          logits.low = weights.limbs == 2 ? row + weights.receiving : row;
          logits.scale = weights.scale.data();
          logits.bias = conditional.bias;
          logits.deviation = conditional.deviation;
          work(first + r, logits);
        }
      });
    });
  }

  /// Calls work(logits, first, count) for all rows of states, on all threads, where `count` rows from `first`
  /// on share their logits: those of an input row, or, for a prior, all that a thread has.
  template <class Work>
  void each_distribution(const Conditional& conditional, ConstStates input, std::int64_t rows,
                         const Work& work) {
    if (!conditional.has_input()) {
      const ArithmeticScope scope;
      team_.run([&](int thread) {
        const Range share = part_of(rows, thread, team_.size());
        LogitRow logits;
        logits.bias = conditional.bias;
        logits.deviation = conditional.deviation;
        if (share.begin < share.end) work(logits, share.begin, share.end - share.begin);
      });
    } else {
      const std::int64_t repeats = rows / input.rows;
      each_row(conditional, input, input.rows,
               [&](std::int64_t row, const LogitRow& logits) { work(logits, row * repeats, repeats); });
    }
  }

  /// False when the unit's weights have left the range of the integers.
  bool quantize_unit(const Conditional& conditional, std::int64_t i) const {
    CpuWeights& weights = static_cast<CpuWeights&>(*conditional.integers);
    const float* row = conditional.weight.row(i);
    const std::int32_t shift =
        weight_shift(kernels_.largest_magnitude(row, conditional.sending), weights.bits);
    if (shift == shift_overflow) return false;
    weights.quantize_row(kernels_, i, row, shift);
    return true;
  }

  static void note_divergence(std::uint32_t* diverged, const std::uint32_t* step) {
    if (diverged == nullptr) return;
    std::uint32_t none = 0;
    std::atomic_ref<std::uint32_t>(*diverged).compare_exchange_strong(none,
                                                                      1 + (step != nullptr ? *step : 0));
  }

  static void add_total(const ScoreSink& sink, std::int64_t log_probability) {
    if (sink.total != nullptr) {
      std::atomic_ref<std::int64_t>(*sink.total).fetch_add(log_probability, std::memory_order_relaxed);
    }
  }

  const RowKernels& kernels_;
  CpuRoute route_;
  std::int64_t piece_rows_;
  Team team_;
  std::vector<Products> products_;
  Shuffle shuffle_;
  Buffer<std::int64_t> on_counts_;                  ///< of sparsity, by unit
  Buffer<std::int16_t> ordered_columns_;            ///< of sample_in_order
  std::vector<Buffer<std::int32_t>> ordered_sums_;  ///< likewise, by thread
  std::vector<float> largest_sums_;                 ///< of coefficients, by thread
  std::vector<LargestIntegers> largest_integers_;   ///< of a gradient, by thread
};

}  // namespace
}  // namespace cpu

std::unique_ptr<Ops> make_cpu_ops(const CpuOptions& options) {
  if (options.threads < 0 || options.piece_rows < 0) {
    throw UsageError("the CPU was given " + std::to_string(options.threads) + " threads and pieces of " +
                     std::to_string(options.piece_rows) +
                     " rows; choose at least 1 of each, or 0 for what suits the machine");
  }
  return std::make_unique<cpu::CpuOps>(options);
}

}  // namespace wakesleep
