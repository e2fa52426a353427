// Dreams, codes and reconstructions: ancestral sampling downward, upward, and upward then downward.
#include "wakesleep/generate.hpp"

#include <algorithm>
#include <cstddef>
#include <new>
#include <string>

#include "chunk_rows.hpp"
#include "visible_rows.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {
namespace {

/// The two directions of one row are told apart by the step of their addresses.
constexpr std::uint32_t upward_step = 0;
constexpr std::uint32_t downward_step = 1;

/// Two layers' states at a time, sampled layer by layer, for a chunk of rows.
class AncestralSampler {
 public:
  AncestralSampler(const Machine& machine, std::int64_t rows, Domain domain, std::uint64_t seed)
      : machine_(machine), ops_(machine.ops()), domain_(domain), seed_(seed) {
    const std::int64_t row_bytes =
        2 * padded_units(machine.widest()) + machine.widest() * std::int64_t{sizeof(float)};
    chunk_rows_ = chunk_rows_of(rows, row_bytes);
    for (Buffer<std::uint8_t>& states : states_) {
      states = Buffer<std::uint8_t>(ops_, chunk_rows_ * padded_units(machine.widest()));
    }
    probabilities_ = Buffer<float>(ops_, chunk_rows_ * machine.widest());
  }

  std::int64_t chunk_rows() const { return chunk_rows_; }

  /// The rows whose states are sampled next: first .. first + rows of the file, or of the dreams.
  void begin(std::int64_t first, std::int64_t rows) {
    first_ = first;
    rows_ = rows;
  }

  ConstStates sample_prior() {
    const int top = machine_.layers();
    machine_.sample_prior(draw(top, upward_step), states(top));
    return states(top);
  }

  /// h_{from+1} .. h_to ~ q, given the states of layer `from`.
  ConstStates sample_upward(ConstStates below, int from, int to) {
    for (int l = from + 1; l <= to; ++l) below = sample(machine_.recognition(l), below, l, upward_step);
    return below;
  }

  /// h_{L-1} .. h_1 ~ p, given the states of the top layer.
  ConstStates sample_downward(ConstStates above, std::uint32_t step) {
    for (int l = machine_.layers(); l > 1; --l) above = sample(machine_.generative(l), above, l - 1, step);
    return above;
  }

  void append_probabilities(const Conditional& conditional, ConstStates given, std::vector<float>& to) {
    const std::int64_t units = conditional.receiving;
    ops_.probabilities(conditional, given, {probabilities_.data(), rows_, units, units});
    const std::size_t before = to.size();
    to.resize(before + static_cast<std::size_t>(rows_ * units));
    ops_.copy_out(to.data() + before, probabilities_.data(), (to.size() - before) * sizeof(float));
  }

  void append_states(ConstStates states, std::vector<std::uint8_t>& to) {
    std::vector<std::uint8_t> padded(static_cast<std::size_t>(states.rows * states.stride));
    ops_.copy_out(padded.data(), states.data, padded.size());
    for (std::int64_t r = 0; r < states.rows; ++r) {
      const std::uint8_t* row = padded.data() + r * states.stride;
      to.insert(to.end(), row, row + states.columns);
    }
  }

 private:
  ConstStates sample(const Conditional& conditional, ConstStates given, int layer, std::uint32_t step) {
    ops_.sample(conditional, given, draw(layer, step), 1, states(layer));
    return states(layer);
  }

  Draw draw(int layer, std::uint32_t step) const {
    Draw draw;
    draw.seed = seed_;
    draw.domain = domain_;
    draw.layer = static_cast<std::uint32_t>(layer);
    draw.first_row = static_cast<std::uint32_t>(first_);
    draw.first_step = step;
    return draw;
  }

  States states(int layer) const {
    const std::int64_t units = machine_.size(layer);
    return {states_[layer % 2].data(), rows_, units, padded_units(units)};
  }

  const Machine& machine_;
  Ops& ops_;
  Domain domain_;
  std::uint64_t seed_;
  std::int64_t chunk_rows_ = 0;
  std::int64_t first_ = 0;
  std::int64_t rows_ = 0;
  Buffer<std::uint8_t> states_[2];
  Buffer<float> probabilities_;
};

void check_layer(const Machine& machine, int layer) {
  if (layer < 1 || layer > machine.layers()) {
    throw UsageError("the layer to encode is " + std::to_string(layer) +
                     ", but the machine's hidden layers are 1 to " + std::to_string(machine.layers()));
  }
}

/// An empty result with room for rows of units, so that too little memory shows before anything is drawn.
template <class Value>
std::vector<Value> with_room_for(std::int64_t rows, std::int64_t units) {
  std::vector<Value> result;
  std::int64_t count = 0;
  if (__builtin_mul_overflow(rows, units, &count) || static_cast<std::size_t>(count) > result.max_size()) {
    throw std::bad_alloc();
  }
  result.reserve(static_cast<std::size_t>(count));
  return result;
}

/// What read(sampler, visible states, result) appends for every chunk of the rows: `units` values a row.
template <class Value, class Read>
std::vector<Value> read_out(const Machine& machine, const DataSet& data, std::int64_t units,
                            std::uint64_t seed, const Read& read) {
  const std::int64_t rows = rows_to_use(machine, data, 0);
  std::vector<Value> result = with_room_for<Value>(rows, units);
  AncestralSampler sampler(machine, rows, Domain::encode_sample, seed);
  VisibleRows visible(machine, data, sampler.chunk_rows());
  for (std::int64_t first = 0; first < rows; first += sampler.chunk_rows()) {
    const std::int64_t count = std::min(sampler.chunk_rows(), rows - first);
    sampler.begin(first, count);
    read(sampler, visible.read(first, count), result);
  }
  return result;
}

}  // namespace

std::vector<float> dream(const Machine& machine, std::int64_t count, std::uint64_t seed) {
  if (count < 0 || count > max_addressed_rows) {
    throw UsageError("the number of dreams is " + std::to_string(count) + ", but must be between 0 and " +
                     std::to_string(max_addressed_rows));
  }
  std::vector<float> result = with_room_for<float>(count, machine.size(0));
  AncestralSampler sampler(machine, count, Domain::generate_sample, seed);
  for (std::int64_t first = 0; first < count; first += sampler.chunk_rows()) {
    sampler.begin(first, std::min(sampler.chunk_rows(), count - first));
    const ConstStates lowest = sampler.sample_downward(sampler.sample_prior(), upward_step);
    sampler.append_probabilities(machine.generative(1), lowest, result);
  }
  return result;
}

std::vector<float> encode(const Machine& machine, const DataSet& data, int layer, std::uint64_t seed) {
  check_layer(machine, layer);
  return read_out<float>(machine, data, machine.size(layer), seed,
                         [&](AncestralSampler& sampler, ConstStates visible, std::vector<float>& result) {
                           const ConstStates below = sampler.sample_upward(visible, 0, layer - 1);
                           sampler.append_probabilities(machine.recognition(layer), below, result);
                         });
}

std::vector<std::uint8_t> encode_states(const Machine& machine, const DataSet& data, int layer,
                                        std::uint64_t seed) {
  check_layer(machine, layer);
  return read_out<std::uint8_t>(
      machine, data, machine.size(layer), seed,
      [&](AncestralSampler& sampler, ConstStates visible, std::vector<std::uint8_t>& result) {
        sampler.append_states(sampler.sample_upward(visible, 0, layer), result);
      });
}

std::vector<float> reconstruct(const Machine& machine, const DataSet& data, std::uint64_t seed) {
  return read_out<float>(machine, data, machine.size(0), seed,
                         [&](AncestralSampler& sampler, ConstStates visible, std::vector<float>& result) {
                           const ConstStates top = sampler.sample_upward(visible, 0, machine.layers());
                           const ConstStates lowest = sampler.sample_downward(top, downward_step);
                           sampler.append_probabilities(machine.generative(1), lowest, result);
                         });
}

}  // namespace wakesleep
