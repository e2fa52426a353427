// Small machines and data sets for tests: made of integers by plain arithmetic, so that they are the same
// everywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "naive_machine.hpp"
#include "wakesleep/data.hpp"
#include "wakesleep/machine.hpp"

namespace wakesleep::testing {

/// `count` multiples of scale / 2^20, uniform in [-scale, scale).
inline std::vector<float> random_values(std::size_t count, float scale, std::mt19937_64& generator) {
  std::vector<float> values;
  for (std::size_t i = 0; i < count; ++i) {
    const auto integer = static_cast<std::int32_t>(generator() >> 43) - (1 << 20);
    values.push_back(static_cast<float>(integer) / (1 << 20) * scale);
  }
  return values;
}

/// The tensors of a machine with all weights and biases uniform in [-scale, scale).
inline Tensors random_tensors(const std::vector<std::int64_t>& sizes, float scale, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  Tensors tensors;
  const auto add = [&](const std::string& name, std::vector<std::int64_t> shape) {
    std::size_t count = 1;
    for (const std::int64_t extent : shape) count *= static_cast<std::size_t>(extent);
    tensors[name] = {std::move(shape), random_values(count, scale, generator)};
  };
  for (std::size_t l = 1; l < sizes.size(); ++l) {
    add("recognition." + std::to_string(l) + ".weight", {sizes[l], sizes[l - 1]});
    add("recognition." + std::to_string(l) + ".bias", {sizes[l]});
    add("generative." + std::to_string(l) + ".weight", {sizes[l - 1], sizes[l]});
    add("generative." + std::to_string(l) + ".bias", {sizes[l - 1]});
  }
  add("prior.bias", {sizes.back()});
  return tensors;
}

/// The same with an autoregressive prior, whose weights are likewise.
inline Tensors random_autoregressive_tensors(const std::vector<std::int64_t>& sizes, float scale,
                                             std::uint64_t seed) {
  std::mt19937_64 generator(seed + 1000);
  Tensors tensors = random_tensors(sizes, scale, seed);
  const auto units = static_cast<std::size_t>(sizes.back());
  std::vector<float> weights = random_values(units * units, scale, generator);
  for (std::size_t i = 0; i < units; ++i) {
    for (std::size_t j = i; j < units; ++j) weights[i * units + j] = 0;
  }
  tensors["prior.weight"] = {{sizes.back(), sizes.back()}, weights};
  return tensors;
}

inline std::vector<Bits> random_rows(std::size_t rows, std::int64_t units, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::vector<Bits> result(rows);
  for (Bits& row : result) {
    for (std::int64_t i = 0; i < units; ++i) row.push_back(static_cast<std::uint8_t>(generator() >> 63));
  }
  return result;
}

/// The rows as a binary data set, first unit in the most significant bit.
inline DataSet data_set_of(const std::vector<Bits>& rows) {
  DataSet data;
  data.rows = static_cast<std::int64_t>(rows.size());
  data.units = static_cast<std::int64_t>(rows.at(0).size());
  data.row_bytes = (data.units + 7) / 8;
  data.source = "test rows";
  for (const Bits& row : rows) {
    const std::size_t begin = data.bytes.size();
    data.bytes.resize(begin + static_cast<std::size_t>(data.row_bytes));
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (row[i] != 0) data.bytes[begin + i / 8] |= static_cast<std::uint8_t>(0x80u >> (i % 8));
    }
  }
  return data;
}

inline Machine machine_of(Ops& ops, const std::vector<std::int64_t>& sizes, const Tensors& tensors,
                          int weight_bits = 16, const VisibleUnits& visible = {}) {
  Machine machine(ops, sizes, weight_bits, prior_of(tensors), visible);
  machine.upload(tensors);
  return machine;
}

}  // namespace wakesleep::testing
