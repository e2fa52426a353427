// What a model must be, and how its parts become the tensors and metadata of a file.
#include "wakesleep/model_file.hpp"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <utility>

#include "checked_size.hpp"
#include "file_messages.hpp"
#include "number_text.hpp"
#include "tensor_file.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {

// ------------------------------------------------------------------------------------------ tensors

namespace {

std::string weight_of(const char* direction, std::size_t layer) {
  return std::string(direction) + "." + std::to_string(layer) + ".weight";
}
std::string bias_of(const char* direction, std::size_t layer) {
  return std::string(direction) + "." + std::to_string(layer) + ".bias";
}

const Tensor& tensor_named(const Tensors& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) throw DataError("tensor " + name + " is missing; give a whole model");
  return found->second;
}

void check_shape(const Tensors& tensors, const std::string& name, const std::vector<std::int64_t>& expected) {
  const Tensor& tensor = tensor_named(tensors, name);
  if (tensor.shape != expected) {
    throw DataError("tensor " + name + " has the shape " + shape_text(tensor.shape) + " where " +
                    shape_text(expected) + " follows from the layers below it; give tensors of one machine");
  }
  if (element_count(expected) != tensor.values.size()) {
    throw DataError("tensor " + name + " has " + std::to_string(tensor.values.size()) +
                    " values, which is not what its shape " + shape_text(expected) +
                    " says; give all of them");
  }
}

}  // namespace

std::vector<std::int64_t> sizes_of(const Tensors& tensors) {
  std::vector<std::int64_t> sizes;
  std::size_t expected_tensors = 1;  // the prior's biases
  for (std::size_t layer = 1; layer == 1 || tensors.count(weight_of("recognition", layer)) > 0; ++layer) {
    const std::string name = weight_of("recognition", layer);
    const Tensor& weight = tensor_named(tensors, name);
    if (weight.shape.size() != 2 || weight.shape[0] < 1 || weight.shape[1] < 1) {
      throw DataError("tensor " + name + " has the shape " + shape_text(weight.shape) +
                      " where [receiving units, sending units] is expected; give a weight matrix");
    }
    if (sizes.empty()) sizes.push_back(weight.shape[1]);
    const std::int64_t below = sizes.back();
    const std::int64_t above = weight.shape[0];
    check_shape(tensors, name, {above, below});
    check_shape(tensors, bias_of("recognition", layer), {above});
    check_shape(tensors, weight_of("generative", layer), {below, above});
    check_shape(tensors, bias_of("generative", layer), {below});
    sizes.push_back(above);
    expected_tensors += 4;
  }
  check_shape(tensors, "prior.bias", {sizes.back()});
  if (prior_of(tensors) == Prior::autoregressive) {
    check_shape(tensors, "prior.weight", {sizes.back(), sizes.back()});
    ++expected_tensors;
  }
  if (tensors.size() != expected_tensors) {
    throw DataError("it has " + std::to_string(tensors.size()) + " parameter tensors where a machine of " +
                    numbers_text(sizes) + " has " + std::to_string(expected_tensors) +
                    "; remove those that belong to no layer");
  }
  return sizes;
}

// ------------------------------------------------------------------------------------------ models

namespace {

constexpr const char* optimizer_prefix = "optimizer.";
/// Of what the training algorithms carry.
bool is_algorithm_state(const std::string& name) {
  return name.starts_with("chain.") || name.starts_with("activation.") || name.starts_with("fisher.");
}

/// Row-major position `position` of a shape as "[2, 0]".
std::string index_text(const std::vector<std::int64_t>& shape, std::size_t position) {
  std::vector<std::int64_t> index(shape.size());
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    const std::size_t extent = static_cast<std::size_t>(shape[axis]);
    index[axis] = static_cast<std::int64_t>(position % extent);
    position /= extent;
  }
  return shape_text(index);
}

void check_finite(const Tensors& tensors) {
  for (const auto& [name, tensor] : tensors) {
    const auto& values = tensor.values;
    const auto found = std::find_if_not(values.begin(), values.end(), [](float x) { return is_finite(x); });
    if (found != values.end()) {
      const std::string index = index_text(tensor.shape, static_cast<std::size_t>(found - values.begin()));
      throw DataError("tensor " + name + " is not finite at " + index +
                      "; go back to a checkpoint from before training diverged");
    }
  }
}

/// Of an autoregressive prior, weights and what the optimiser keeps of them.
void check_prior_weights(const Model& model, std::int64_t units) {
  for (const Tensors* tensors : {&model.tensors, &model.optimizer}) {
    for (const char* name :
         {"prior.weight", "optimizer.prior.weight.first", "optimizer.prior.weight.second"}) {
      const auto found = tensors->find(name);
      if (found == tensors->end()) continue;
      check_shape(*tensors, name, {units, units});
      check_below_diagonal(name, found->second);
    }
  }
}

/// What must hold of every model, before it is written as after it is read.
void check_model(const Model& model) {
  const std::vector<std::int64_t> sizes = sizes_of(model.tensors);
  if (model.sizes != sizes) {
    throw DataError("its sizes are " + numbers_text(model.sizes) + ", but its tensors form a machine of " +
                    numbers_text(sizes) + "; give tensors and sizes of one machine");
  }
  if (!std::equal(sizes.begin() + 1, sizes.end(), model.settings.layers.begin(),
                  model.settings.layers.end())) {
    throw DataError("its setting layers is " + numbers_text(model.settings.layers) +
                    ", but its tensors form a machine of " + numbers_text(sizes) +
                    "; give the settings of this machine");
  }
  if (model.step < 0) throw DataError("its step is " + std::to_string(model.step) + "; a step is at least 0");
  const bool has_shape = model.height != 0 || model.width != 0;
  if (has_shape && element_count({model.height, model.width}) != static_cast<std::uint64_t>(sizes[0])) {
    throw DataError("its images are " + std::to_string(model.height) + " x " + std::to_string(model.width) +
                    ", but it has " + std::to_string(sizes[0]) +
                    " visible units; give the shape of its own images");
  }
  if (model.settings.prior != prior_of(model.tensors)) {
    throw DataError(std::string("its setting prior is ") + name_of(model.settings.prior) +
                    ", but its tensors are those of a machine with the prior " +
                    name_of(prior_of(model.tensors)) + "; give the settings of this machine");
  }
  check_prior_weights(model, sizes.back());
  check_finite(model.tensors);
  check_finite(model.optimizer);
  check_finite(model.algorithm);
}

// ------------------------------------------------------------------------------------------ writing

constexpr const char* setting_prefix = "setting.";
constexpr const char* run_prefix = "run.";

TensorContent content_of(const Model& model) {
  check(model.settings);
  check_model(model);
  TensorContent file;
  for (const auto& [name, tensor] : model.tensors) file.tensors[name] = &tensor;
  for (const auto& [name, tensor] : model.optimizer) {
    if (!name.starts_with(optimizer_prefix)) {
      throw UsageError("the optimiser state " + shown(name) +
                       " must have a name that begins with optimizer.");
    }
    file.tensors[name] = &tensor;
  }
  for (const auto& [name, tensor] : model.algorithm) {
    if (!is_algorithm_state(name)) {
      throw UsageError("the algorithm's state " + shown(name) +
                       " must have a name that begins with chain., activation. or fisher.");
    }
    file.tensors[name] = &tensor;
  }
  file.metadata = {{"arithmetic", arithmetic_contract},
                   {"step", std::to_string(model.step)},
                   {"seed", std::to_string(model.settings.seed)},
                   {"sizes", numbers_text(model.sizes)},
                   {"height", std::to_string(model.height)},
                   {"width", std::to_string(model.width)},
                   {"hash", hash_of(model.tensors)}};
  for (const auto& [name, value] : to_pairs(model.settings)) file.metadata[setting_prefix + name] = value;
  for (const auto& [name, value] : model.run) file.metadata[run_prefix + name] = value;
  return file;
}

// ------------------------------------------------------------------------------------------ reading

/// The entry `name`, which is taken out of `metadata`.
std::string taken(Metadata& metadata, const std::string& name) {
  std::string value = found_in(metadata, name);
  metadata.erase(name);
  return value;
}

std::int64_t integer_taken(Metadata& metadata, const std::string& name) {
  const std::string text = taken(metadata, name);
  std::int64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || stop != end) {
    throw DataError("its metadata says " + name + "=" + shown(text) +
                    " where an integer is expected: " + damaged);
  }
  return number;
}

/// The entries that begin with `prefix`, without it, taken out of `metadata`.
Metadata group_taken(Metadata& metadata, const std::string& prefix) {
  Metadata group;
  for (auto entry = metadata.lower_bound(prefix);
       entry != metadata.end() && entry->first.starts_with(prefix);) {
    group[entry->first.substr(prefix.size())] = entry->second;
    entry = metadata.erase(entry);
  }
  return group;
}

void require_equal(const std::string& name, const std::string& stored, const std::string& computed) {
  if (stored != computed) {
    throw DataError("its metadata says " + name + "=" + shown(stored) + ", but its content says " + computed +
                    ": " + damaged);
  }
}

Model model_of(TensorFile file) {
  Metadata& metadata = file.metadata;
  if (metadata.count("arithmetic") == 0) {
    throw DataError(
        "it is no model: its metadata has no entry arithmetic, which says how its weights compute; give a "
        "file that wakesleep train or save_model wrote");
  }
  const std::string arithmetic = taken(metadata, "arithmetic");
  if (arithmetic != arithmetic_contract) {
    throw DataError("it was written under the arithmetic contract " + shown(arithmetic) +
                    ", this program computes " + arithmetic_contract +
                    "; use the version of the program that wrote it");
  }
  Model model;
  for (auto entry = file.tensors.begin(); entry != file.tensors.end();) {
    const auto next = std::next(entry);
    if (entry->first.starts_with(optimizer_prefix)) {
      model.optimizer.insert(file.tensors.extract(entry));
    } else if (is_algorithm_state(entry->first)) {
      model.algorithm.insert(file.tensors.extract(entry));
    }
    entry = next;
  }
  model.tensors = std::move(file.tensors);
  model.sizes = sizes_of(model.tensors);
  model.step = integer_taken(metadata, "step");
  model.height = integer_taken(metadata, "height");
  model.width = integer_taken(metadata, "width");
  const Metadata settings = group_taken(metadata, setting_prefix);
  model.settings = settings_from_pairs({settings.begin(), settings.end()});
  model.run = group_taken(metadata, run_prefix);
  model.hash = hash_of(model.tensors);
  require_equal("sizes", taken(metadata, "sizes"), numbers_text(model.sizes));
  require_equal("seed", taken(metadata, "seed"), std::to_string(model.settings.seed));
  require_equal("hash", taken(metadata, "hash"), model.hash);
  if (!metadata.empty()) {
    throw DataError("its metadata has the unknown entry " + shown(metadata.begin()->first) +
                    "; use the version of the program that wrote it");
  }
  check_model(model);
  return model;
}

}  // namespace

Model finished(Model checkpoint) {
  checkpoint.optimizer.clear();
  checkpoint.algorithm.clear();
  const auto data = checkpoint.run.find("data");
  checkpoint.run = data == checkpoint.run.end() ? Metadata{} : Metadata{*data};
  return checkpoint;
}

Machine machine_of(Ops& ops, const Model& model) {
  Machine machine(ops, model.sizes, model.settings.weight_bits, model.settings.prior,
                  visible_units_of(model.settings));
  machine.upload(model.tensors);
  return machine;
}

void save_model(const std::string& path, const Model& model) {
  write_content(path, about(path, [&] { return content_of(model); }));
}

Model load_model(const std::string& path) {
  TensorFile file = read_tensor_file(path);
  return about(path, [&] { return model_of(std::move(file)); });
}

}  // namespace wakesleep
