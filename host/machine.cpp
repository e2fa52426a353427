// The Helmholtz machine: its parameters and how they begin.
#include "wakesleep/machine.hpp"

#include <algorithm>
#include <cmath>

#include "floating_point.hpp"
#include "number_text.hpp"
#include "state_tensors.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {

Machine::Machine(Ops& ops, std::vector<std::int64_t> sizes, int weight_bits, Prior kind_of_prior,
                 VisibleUnits visible)
    : ops_(&ops), sizes_(std::move(sizes)), weight_bits_(weight_bits), visible_(visible) {
  if (sizes_.size() < 2) {
    throw UsageError("a machine needs a visible and at least one hidden layer, but " +
                     std::to_string(sizes_.size()) + " layer sizes were given");
  }
  if (weight_bits != 16 && weight_bits != 12 && weight_bits != 8) {
    throw UsageError("weight bits are " + std::to_string(weight_bits) + ": choose 16, 12 or 8");
  }
  if (layers() > max_layers) {
    throw UsageError("a machine of " + std::to_string(layers()) +
                     " hidden layers is too deep for the addresses of " + "random draws: at most " +
                     std::to_string(max_layers));
  }
  // A deviation of 0 would make of them what Bernoulli units are to a Conditional; NaN is refused, too.
  const double deviation = visible.deviation;
  if (has_gaussian_visible() &&
      !(deviation >= smallest_visible_deviation && deviation <= largest_visible_deviation)) {
    throw UsageError("the deviation of the Gaussian visible units is " + std::to_string(deviation) +
                     ": choose " + std::to_string(smallest_visible_deviation) + " to " +
                     std::to_string(largest_visible_deviation));
  }
  // Every layer sends to another or to itself: checked before anything is allocated.
  const std::int64_t widest = max_integer_sum / largest_integer_weight(weight_bits);
  const std::int64_t widest_fixed_point = widest / largest_fixed_point_state;
  if (has_gaussian_visible() && sizes_[0] > widest_fixed_point) {
    throw UsageError("a visible layer of " + std::to_string(sizes_[0]) +
                     " Gaussian units is too wide for exact sums with " + std::to_string(weight_bits) +
                     "-bit weights: at most " + std::to_string(widest_fixed_point) +
                     (weight_bits == 8 ? " units; use fewer units"
                                       : " units; use fewer weight bits (--weight-bits 8) or fewer units"));
  }
  std::int64_t units = 0;
  for (std::size_t layer = 0; layer < sizes_.size(); ++layer) {
    if (sizes_[layer] < 1)
      throw UsageError("layer " + std::to_string(layer) + " has no units: at least 1 is needed");
    if (sizes_[layer] > widest && widest < max_machine_units) {  // with 8 bits the whole machine's is less
      throw UsageError("layer " + std::to_string(layer) + " of " + std::to_string(sizes_[layer]) +
                       " units is too wide for exact sums with " + std::to_string(weight_bits) +
                       "-bit weights: at most " + std::to_string(widest) +
                       " units; use fewer units or fewer weight bits");
    }
    units = std::min(units + sizes_[layer], max_machine_units + 1);
  }
  if (units > max_machine_units) {
    throw UsageError("a machine of more than " + std::to_string(max_machine_units) +
                     " units is too large for exact log-probabilities: use fewer or narrower layers");
  }
  for (int index = 0; index <= 2 * layers(); ++index) {
    const int l = index / 2 + 1;
    const bool prior = index == 2 * layers();
    const bool upward = index % 2 == 0;
    Part part;
    Conditional& c = part.conditional;
    c.receiving = prior ? size(layers()) : upward ? size(l) : size(l - 1);
    c.autoregressive = prior && kind_of_prior == Prior::autoregressive;
    c.sending = c.autoregressive ? c.receiving : prior ? 0 : upward ? size(l - 1) : size(l);
    if (has_gaussian_visible() && index == generative_index(1)) c.deviation = visible_.deviation;
    if (has_gaussian_visible() && index == recognition_index(1)) c.largest_input = largest_fixed_point_state;
    part.bias = Buffer<float>(ops, c.receiving);
    part.bias.fill_zero();
    c.bias = part.bias.data();
    if (c.has_input()) {
      part.integers = ops.make_integer_weights(c.receiving, c.sending, weight_bits, c.largest_input);
      part.weight = Buffer<float>(ops, c.receiving * c.sending);
      part.weight.fill_zero();
      c.integers = part.integers.get();
      c.weight = {part.weight.data(), c.receiving, c.sending, c.sending};
      ops.quantize(c, nullptr, nullptr);
    }
    parts_.push_back(std::move(part));
  }
}

std::int64_t Machine::widest() const { return *std::max_element(sizes_.begin(), sizes_.end()); }

std::int64_t Machine::parameters() const {
  std::int64_t count = 0;
  for (const Part& part : parts_) count += part.weight.size() + part.bias.size();
  return count;
}

void Machine::gather_visible(DataRows data, const std::uint32_t* order, const std::uint32_t* first,
                             const Draw& draw, States states) const {
  data.fixed_point = has_gaussian_visible();
  ops_->gather(data, order, first, draw, states);
}

void Machine::sample_prior(const Draw& draw, States top, const ScoreSink& score) const {
  if (!prior().autoregressive) {
    ops_->sample(prior(), {}, draw, 1, top, score);
    return;
  }
  ops_->sample_in_order(prior(), draw, top);
  if (score.rows != nullptr || score.total != nullptr) ops_->score(prior(), top, top, score);
}

std::string Machine::conditional_name(int index) const {
  if (index == prior_index()) return "prior";
  return (index % 2 == 0 ? "recognition." : "generative.") + std::to_string(index / 2 + 1);
}

namespace {

float initial_limit(const Conditional& c) {
  return static_cast<float>(std::sqrt(6.0 / static_cast<double>(c.sending + c.receiving)) /
                            static_cast<double>(c.sending));
}

float logit(double mean) {
  const float p = static_cast<float>(std::clamp(mean, 1e-4, 1.0 - 1e-4));
  return log(p) - log(1.0f - p);
}

}  // namespace

void Machine::initialize(const std::vector<double>& visible_means, std::uint64_t seed) {
  if (static_cast<std::int64_t>(visible_means.size()) != size(0)) {
    throw DataError("the data has " + std::to_string(visible_means.size()) +
                    " units a row, but the machine has " + std::to_string(size(0)) + " visible units");
  }
  const FloatingPointScope scope;
  std::vector<float> visible_bias;
  for (const double mean : visible_means) {
    visible_bias.push_back(has_gaussian_visible() ? static_cast<float>(mean) : logit(mean));
    if (is_finite(visible_bias.back())) continue;
    throw DataError("the mean of visible unit " + std::to_string(visible_bias.size() - 1) + " is " +
                    std::to_string(mean) + ", expected a number from 0 to 1");
  }
  for (int index = 0; index < conditionals(); ++index) {
    Part& part = parts_[static_cast<std::size_t>(index)];
    const Conditional& c = part.conditional;
    const std::vector<float> hidden_bias(static_cast<std::size_t>(c.receiving), -1.0f);
    part.bias.copy_in(index == generative_index(1) ? visible_bias.data() : hidden_bias.data());
    if (!c.has_input()) continue;
    if (index == prior_index()) {
      part.weight.fill_zero();
    } else {
      const bool upward = index == recognition_index(index / 2 + 1);
      Draw draw;
      draw.seed = seed;
      draw.domain = upward ? Domain::initial_recognition : Domain::initial_generative;
      draw.layer = static_cast<std::uint32_t>(index / 2 + 1);
      ops_->draw_weights(c, draw, initial_limit(c));
    }
    ops_->quantize(c, nullptr, nullptr);
  }
}

std::map<std::string, std::vector<std::int64_t>> Machine::shapes() const {
  std::map<std::string, std::vector<std::int64_t>> shapes;
  for (int index = 0; index < conditionals(); ++index) {
    const Conditional& c = conditional(index);
    const std::string name = conditional_name(index);
    shapes[name + ".bias"] = {c.receiving};
    if (c.has_input()) shapes[name + ".weight"] = {c.receiving, c.sending};
  }
  return shapes;
}

Tensors Machine::zeros() const {
  Tensors tensors;
  for (const auto& [name, shape] : shapes()) {
    tensors[name] = {shape, std::vector<float>(static_cast<std::size_t>(elements_of(shape)))};
  }
  return tensors;
}

Tensors Machine::download() const {
  Tensors tensors = zeros();
  for (int index = 0; index < conditionals(); ++index) {
    const Part& part = parts_[static_cast<std::size_t>(index)];
    const std::string name = conditional_name(index);
    part.bias.copy_out(tensors.at(name + ".bias").values.data());
    if (!part.conditional.has_input()) continue;
    part.weight.copy_out(tensors.at(name + ".weight").values.data());
  }
  return tensors;
}

void Machine::upload(const Tensors& tensors) {
  const auto own = shapes();
  for (const auto& [name, tensor] : tensors) {
    if (!own.contains(name)) throw DataError("tensor \"" + name + "\" belongs to no layer of this machine");
  }
  for (const auto& [name, shape] : own) {
    const auto given = tensors.find(name);
    if (given == tensors.end()) throw DataError("tensor \"" + name + "\" is missing");
    if (!has_shape(given->second, shape)) {
      throw DataError("tensor \"" + name + "\" has " + size_text(given->second) + ", expected shape " +
                      shape_text(shape));
    }
    const std::vector<float>& values = given->second.values;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!is_finite(values[i])) {
        throw DataError("tensor \"" + name + "\" is not finite at index " + std::to_string(i));
      }
    }
  }
  if (prior().autoregressive) check_below_diagonal("prior.weight", tensors.at("prior.weight"));
  for (int index = 0; index < conditionals(); ++index) {
    Part& part = parts_[static_cast<std::size_t>(index)];
    const std::string name = conditional_name(index);
    part.bias.copy_in(tensors.at(name + ".bias").values.data());
    if (!part.conditional.has_input()) continue;
    part.weight.copy_in(tensors.at(name + ".weight").values.data());
    Buffer<std::uint32_t> diverged(*ops_, 1);
    diverged.fill_zero();
    ops_->quantize(part.conditional, diverged.data(), nullptr);
    std::uint32_t left_range = 0;
    diverged.copy_out(&left_range);
    if (left_range != 0) {
      throw DataError("tensor \"" + name + ".weight\" holds weights too large for " +
                      std::to_string(weight_bits_) + "-bit integers with a shift of -30 or more");
    }
  }
}

Prior prior_of(const Tensors& tensors) {
  return tensors.contains("prior.weight") ? Prior::autoregressive : Prior::factorial;
}

void check_below_diagonal(const std::string& name, const Tensor& tensor) {
  const std::int64_t units = tensor.shape.at(0);
  for (std::int64_t i = 0; i < units; ++i) {
    for (std::int64_t j = i; j < units; ++j) {
      if (tensor.values[static_cast<std::size_t>(i * units + j)] == 0.0f) continue;
      throw DataError("tensor " + name + " is not 0 at row " + std::to_string(i) + ", column " +
                      std::to_string(j) +
                      ", but in an autoregressive prior a unit receives only from units before it: give a "
                      "matrix that is 0 on and above its diagonal");
    }
  }
}

}  // namespace wakesleep
