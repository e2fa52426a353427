// What the commands that use a trained model read: the model onto a device, and data that fits it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "command/arguments.hpp"
#include "wakesleep/data.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/machine.hpp"
#include "wakesleep/model_file.hpp"

namespace wakesleep::command {

/// A model on the device that the options ask for.
struct OpenModel {
  explicit OpenModel(const Arguments& arguments)
      : path(arguments.required("model")),
        model(load_model(path)),
        device(choose_device(arguments)),
        machine(machine_of(*device.ops, model)) {}

  std::string path;
  Model model;
  Device device;
  Machine machine;
};

/// Drops all but the first `count` rows (0: keeps all).
inline void keep_first_rows(DataSet& data, std::int64_t count) {
  if (count == 0 || count >= data.rows) return;
  data.rows = count;
  data.bytes.resize(static_cast<std::size_t>(count * data.row_bytes));
  data.bytes.shrink_to_fit();
}

/// A copy of the first `count` rows (0: all).
inline DataSet first_rows(const DataSet& data, std::int64_t count) {
  DataSet first = {.rows = data.rows,
                   .units = data.units,
                   .row_bytes = data.row_bytes,
                   .grey = data.grey,
                   .height = data.height,
                   .width = data.width,
                   .bytes = {},
                   .source = data.source};
  if (count > 0) first.rows = std::min(first.rows, count);
  first.bytes.assign(data.row(0), data.row(first.rows));
  return first;
}

/// Rows of bits or grey values as numbers from 0 to 1.
inline std::vector<float> values_of(const DataSet& data) {
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(data.rows * data.units));
  for (std::int64_t r = 0; r < data.rows; ++r) {
    for (std::int64_t unit = 0; unit < data.units; ++unit) {
      const std::uint8_t* row = data.row(r);
      values.push_back(data.grey ? static_cast<float>(row[unit]) / 255.0f
                                 : static_cast<float>(row[unit / 8] >> (7 - unit % 8) & 1));
    }
  }
  return values;
}

/// Grey data as `settings` binarize it when it is to be evaluated: dynamic means sampled once, too. Gaussian
/// visible units take it as it is.
inline DataSet binarize_for_evaluation(DataSet data, const TrainingSettings& settings, std::uint64_t seed) {
  if (settings.visible == Visible::gaussian) return data;
  const bool sampled = settings.binarization != Binarization::threshold;
  return binarize(std::move(data), sampled ? Binarization::fixed : Binarization::threshold,
                  settings.threshold, seed);
}

/// What to try where rows of `data` have too few units: they may be bits; else nothing.
inline std::string bit_packed_hint(const DataSet& data, std::int64_t units) {
  return data.units * 8 >= units && data.units < units ? ", or --row-length for bit-packed rows" : "";
}

/// The first `limit` rows of the data that the options name, binarized as the model records, if it does.
inline DataSet read_data_for(const OpenModel& open, const Arguments& arguments, std::int64_t limit) {
  DataSet data = read_data(arguments.required("data"), read_options(arguments));
  const std::int64_t units = open.model.sizes.front();
  if (data.units != units) {
    throw DataError(data.source + " has rows of " + std::to_string(data.units) + " units where the model " +
                    open.path + " has " + std::to_string(units) +
                    " visible units; give data of the model's size" + bit_packed_hint(data, units));
  }
  keep_first_rows(data, limit);
  return binarize_for_evaluation(std::move(data), open.model.settings, arguments.seed("seed"));
}

}  // namespace wakesleep::command
