// The rows of a data set as states of a machine's visible layer, read in the order of the file. Evaluation,
// enumeration, encoding and reconstruction share it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "wakesleep/data.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/machine.hpp"

namespace wakesleep {

/// The file's row is one 32-bit word of a random address.
inline constexpr std::int64_t max_addressed_rows = std::int64_t{1} << 32;

/// How many rows to use: the first `limit`, all where `limit` is 0. Throws DataError when the data does not
/// fit the machine and UsageError when it is grey where the visible units are 0 or 1, when check_layout
/// refuses it, or `limit` is negative.
inline std::int64_t rows_to_use(const Machine& machine, const DataSet& data, std::int64_t limit) {
  const std::string name = data.source.empty() ? "the data" : data.source;
  if (limit < 0) {
    throw UsageError("the limit on the rows of " + name + " is " + std::to_string(limit) +
                     ", but must be positive, or 0 for all rows");
  }
  if (data.units != machine.size(0)) {
    throw DataError("the rows of " + name + " have " + std::to_string(data.units) +
                    " units, but the machine has " + std::to_string(machine.size(0)) +
                    " visible units: use data of the kind that it was trained on");
  }
  if (data.grey && !machine.has_gaussian_visible()) {
    throw UsageError("the values of " + name +
                     " are grey, but the machine's visible units are 0 or 1: binarize the data first");
  }
  if (data.rows < 1) throw DataError("there are no rows in " + name + ", but at least one is needed");
  check_layout(data);
  const std::int64_t rows = limit == 0 ? data.rows : std::min(limit, data.rows);
  if (rows > max_addressed_rows) {
    throw UsageError("there are " + std::to_string(rows) + " rows in " + name + ", but at most " +
                     std::to_string(max_addressed_rows) + " have random addresses of their own: set a limit");
  }
  return rows;
}

/// Brings rows of data, which rows_to_use has passed, to the machine's backend, a chunk at a time. The data
/// must outlive it.
class VisibleRows {
 public:
  VisibleRows(const Machine& machine, const DataSet& data, std::int64_t most_rows)
      : machine_(machine),
        ops_(machine.ops()),
        data_(data),
        bytes_(ops_, most_rows * data.row_bytes),
        first_(ops_, 1),
        stride_(padded_units(data.units)),
        states_(ops_, most_rows * stride_) {
    first_.fill_zero();
  }

  /// Rows first .. first + count of the file, valid until the next call; count is at most `most_rows`.
  ConstStates read(std::int64_t first, std::int64_t count) {
    ops_.copy_in(bytes_.data(), data_.row(first), static_cast<std::size_t>(count * data_.row_bytes));
    const States states{states_.data(), count, data_.units, stride_};
    machine_.gather_visible({bytes_.data(), count, data_.units, data_.row_bytes, data_.grey}, nullptr,
                            first_.data(), Draw{}, states);
    return states;
  }

 private:
  const Machine& machine_;
  Ops& ops_;
  const DataSet& data_;
  Buffer<std::uint8_t> bytes_;
  Buffer<std::uint32_t> first_;  ///< 0
  std::int64_t stride_;
  Buffer<std::uint8_t> states_;
};

}  // namespace wakesleep
