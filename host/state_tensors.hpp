// Tensors as a machine and its training go on from them. Files are checked when they are read
// (tensor_file.cpp, model_file.cpp), but the caller of Trainer or Machine::upload may also have made the
// tensors by hand.
#pragma once

#include <cstdint>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "number_text.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/machine.hpp"

namespace wakesleep {

inline std::int64_t elements_of(const std::vector<std::int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

/// Whether the tensor has the shape and as many values as the shape says.
inline bool has_shape(const Tensor& tensor, const std::vector<std::int64_t>& shape) {
  return tensor.shape == shape && static_cast<std::int64_t>(tensor.values.size()) == elements_of(shape);
}

/// Its shape and how many values it has, which need not agree.
inline std::string size_text(const Tensor& tensor) {
  return "shape " + shape_text(tensor.shape) + " and " + std::to_string(tensor.values.size()) + " values";
}

/// The tensor `name` of a checkpoint's state, which is `what`. Throws DataError where it is missing or is not
/// of this shape in full.
inline const Tensor& state_tensor(const Tensors& tensors, const std::string& name,
                                  const std::vector<std::int64_t>& shape, const std::string& what) {
  const auto found = tensors.find(name);
  const bool missing = found == tensors.end();
  if (!missing && has_shape(found->second, shape)) return found->second;
  throw DataError("the tensor \"" + name + "\" of " + what +
                  (missing ? " is missing" : " has " + size_text(found->second)) + ", expected shape " +
                  shape_text(shape) + ": this checkpoint does not continue this run");
}

/// Whether a value is a whole number of 16 bits: what bits and counts are in checkpoints.
inline bool is_16_bit_number(float value) {
  return value >= 0.0f && value <= 65535.0f && value == static_cast<float>(static_cast<int>(value));
}

}  // namespace wakesleep
