// Binarizing and splitting data sets. Every choice is a draw at an address of its own (philox.hpp),
// so that it depends on the seed and the row alone.
#include "wakesleep/data.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "data_bits.hpp"
#include "floating_point.hpp"
#include "wakesleep/arithmetic.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/philox.hpp"

namespace wakesleep {
namespace {

/// A row and the key it is sorted by; equal keys go by row.
using KeyedRow = std::pair<std::uint64_t, std::uint32_t>;

std::vector<KeyedRow> keyed_rows(std::int64_t rows, Domain domain, std::uint64_t seed) {
  if (rows < 0 || rows > max_data_rows) {
    throw DataError(std::to_string(rows) + " rows cannot be ordered; expected 0 to " +
                    std::to_string(max_data_rows) + ", so split the data");
  }
  std::vector<KeyedRow> keyed(static_cast<std::size_t>(rows));
  for (std::uint32_t row = 0; row < keyed.size(); ++row) {
    keyed[row] = {sorting_key(philox4x32_10(draw_counter(0, row, 0, domain_word(domain, 0)), seed)), row};
  }
  return keyed;
}

/// Packs every row in place: a packed row never reaches beyond the grey values that have been read.
/// on_in_row(row number) gives the predicate on(unit, grey value), asked for the units in their order.
template <class OnInRow>
DataSet packed(DataSet data, OnInRow&& on_in_row) {
  const std::int64_t row_bytes = packed_bytes(data.units);
  for (std::int64_t r = 0; r < data.rows; ++r) {
    const std::uint8_t* const grey = data.row(r);
    auto on = on_in_row(r);
    pack_bits(
        data.units, [&](std::int64_t unit) { return on(unit, grey[unit]); },
        data.bytes.data() + r * row_bytes);
  }
  data.grey = false;
  data.row_bytes = row_bytes;
  data.bytes.resize(static_cast<std::size_t>(data.rows * row_bytes));
  data.bytes.shrink_to_fit();
  return data;
}

DataSet above_threshold(DataSet data, int threshold) {
  return packed(std::move(data), [threshold](std::int64_t) {
    return [threshold](std::int64_t, std::uint8_t grey) { return grey >= threshold; };
  });
}

DataSet sampled_once(DataSet data, std::uint64_t seed) {
  return packed(std::move(data), [seed](std::int64_t r) {
    return [seed, row = static_cast<std::uint32_t>(r), block = PhiloxBlock{}](std::int64_t unit,
                                                                              std::uint8_t grey) mutable {
      if (unit % 4 == 0) {
        const auto group = static_cast<std::uint32_t>(unit / 4);
        block = philox4x32_10(draw_counter(group, row, 0, domain_word(Domain::binarize_fixed, 0)), seed);
      }
      return sample_grey(grey, block.word[unit % 4]) != 0;
    };
  });
}

/// `data` without its rows.
DataSet same_shape(const DataSet& data) {
  DataSet empty;
  empty.units = data.units;
  empty.row_bytes = data.row_bytes;
  empty.grey = data.grey;
  empty.height = data.height;
  empty.width = data.width;
  empty.source = data.source;
  return empty;
}

}  // namespace

DataSet binarize(DataSet data, Binarization how, int threshold, std::uint64_t seed) {
  check_layout(data);
  if (!data.grey) return data;
  switch (how) {
    case Binarization::threshold:
      if (threshold < 1 || threshold > 255) {
        throw UsageError("a threshold of " + std::to_string(threshold) +
                         " would turn all grey values on, or all off; choose 1 to 255");
      }
      return above_threshold(std::move(data), threshold);
    case Binarization::fixed:
      return sampled_once(std::move(data), seed);
    case Binarization::dynamic:
      break;
  }
  return data;
}

DataSet hold_out(DataSet& data, std::int64_t count, std::uint64_t seed) {
  check_layout(data);
  if (count < 0 || count >= data.rows) {
    throw UsageError("cannot hold out " + std::to_string(count) + " of the " + std::to_string(data.rows) +
                     " rows of '" + data.source +
                     "'; give a number that leaves at least one row to train on");
  }
  DataSet held = same_shape(data);
  held.rows = count;
  held.bytes.reserve(static_cast<std::size_t>(count * data.row_bytes));

  std::vector<KeyedRow> keyed = keyed_rows(data.rows, Domain::held_out, seed);
  std::nth_element(keyed.begin(), keyed.begin() + count, keyed.end());
  std::vector<bool> chosen(keyed.size());
  for (auto it = keyed.begin(); it != keyed.begin() + count; ++it) chosen[it->second] = true;

  std::int64_t kept = 0;
  for (std::int64_t r = 0; r < data.rows; ++r) {
    const std::uint8_t* const row = data.row(r);
    if (chosen[static_cast<std::size_t>(r)]) {
      held.bytes.insert(held.bytes.end(), row, row + data.row_bytes);
    } else {
      std::memmove(data.bytes.data() + kept * data.row_bytes, row, static_cast<std::size_t>(data.row_bytes));
      ++kept;
    }
  }
  data.rows = kept;
  data.bytes.resize(static_cast<std::size_t>(kept * data.row_bytes));
  return held;
}

std::vector<double> unit_means(const DataSet& data) {
  check_layout(data);
  const FloatingPointScope scope;
  if (data.rows == 0)
    throw DataError("'" + data.source + "' has no rows to take means of; give at least one");
  std::vector<std::int64_t> sums(static_cast<std::size_t>(data.units));
  for (std::int64_t r = 0; r < data.rows; ++r) {
    const std::uint8_t* const row = data.row(r);
    for (std::int64_t unit = 0; unit < data.units; ++unit) {
      sums[static_cast<std::size_t>(unit)] += data.grey ? row[unit] : bit_is_on(row, unit);
    }
  }
  const double largest_sum = static_cast<double>(data.rows) * (data.grey ? 255.0 : 1.0);
  std::vector<double> means(sums.size());
  std::transform(sums.begin(), sums.end(), means.begin(),
                 [largest_sum](std::int64_t sum) { return static_cast<double>(sum) / largest_sum; });
  return means;
}

void check_layout(const DataSet& data) {
  if (data.rows < 0 || data.units < 0) {
    throw UsageError("data set '" + data.source + "' has " + std::to_string(data.rows) + " rows of " +
                     std::to_string(data.units) + " units; expected 0 or more of both");
  }
  const std::int64_t row_bytes = data.grey ? data.units : packed_bytes(data.units);
  const auto size = static_cast<std::int64_t>(data.bytes.size());
  std::int64_t expected = 0;
  const bool overflow = __builtin_mul_overflow(data.rows, row_bytes, &expected);
  if (data.row_bytes != row_bytes || overflow || size != expected) {
    throw UsageError("data set '" + data.source + "' of " + std::to_string(data.rows) + " rows and " +
                     std::to_string(data.units) + " units has " + std::to_string(size) +
                     " bytes in rows of " + std::to_string(data.row_bytes) + "; expected rows of " +
                     std::to_string(row_bytes));
  }
  if ((data.height != 0 || data.width != 0) &&
      (data.height < 1 || data.width < 1 || data.units % data.height != 0 ||
       data.units / data.height != data.width)) {
    throw UsageError("data set '" + data.source + "' has images of " + std::to_string(data.height) + " x " +
                     std::to_string(data.width) + ", but rows of " + std::to_string(data.units) +
                     " units; expected a height and width of that product, or 0 for both");
  }
}

DeviceData::DeviceData(Ops& ops, const DataSet& data) {
  check_layout(data);
  const auto size = static_cast<std::int64_t>(data.bytes.size());
  if (size > 0) {
    bytes_ = Buffer<std::uint8_t>(ops, size);
    bytes_.copy_in(data.bytes.data());
  }
  view_ = {bytes_.data(), data.rows, data.units, data.row_bytes, data.grey};
}

}  // namespace wakesleep
