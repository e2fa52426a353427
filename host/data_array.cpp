#include "data_array.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <system_error>
#include <vector>

namespace wakesleep {
namespace {

/// Values that are converted at a time: a multiple of 8, so that a piece of a line is whole bytes of bits.
constexpr std::int64_t piece_values = 65536;

// ------------------------------------------------------------------------------------ values

float little_endian_float(const std::uint8_t* bytes) {
  std::uint32_t bits = 0;
  for (unsigned i = 0; i < 4; ++i) bits |= std::uint32_t{bytes[i]} << (8 * i);
  return std::bit_cast<float>(bits);
}

std::string text_of(float value) {
  std::array<char, 32> text{};
  const auto [end, error] = std::to_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() ? std::string(text.data(), end) : std::string("?");
}

constexpr const char* divide_hint = "; expected values from 0 to 1, so divide grey values 0..255 by 255";

/// Bytes of all values. Throws DataError when there is no row or column, or more than can be addressed.
std::uint64_t checked_payload(const ByteSource& source, const ArrayLayout& layout) {
  if (layout.rows == 0) source.fail("holds no rows; expected at least one");
  if (layout.height == 0 || layout.width == 0) source.fail("holds rows of no columns; expected at least one");
  std::int64_t bytes = 0;
  const bool overflow = __builtin_mul_overflow(layout.height, layout.width, &bytes) ||
                        __builtin_mul_overflow(bytes, layout.rows, &bytes) ||
                        __builtin_mul_overflow(bytes, layout.element_bytes(), &bytes);
  constexpr std::int64_t beyond_any_file = std::int64_t{1} << 62;
  if (overflow || bytes > beyond_any_file) {
    source.fail("declares an impossible shape, more values than 64 bits can count; its header is broken");
  }
  if (layout.rows > max_data_rows) {
    source.fail("holds " + std::to_string(layout.rows) + " rows; expected at most " +
                std::to_string(max_data_rows) + ", so split it");
  }
  return static_cast<std::uint64_t>(bytes);
}

/// Byte values of `count` elements, and whether none of them was rounded. Throws DataError at the first that
/// is no value of its kind; `line` and `first` say where the elements stand.
bool convert(const ByteSource& source, const ArrayLayout& layout, std::int64_t line, std::int64_t first,
             const std::uint8_t* raw, std::int64_t count, std::uint8_t* values) {
  if (layout.element == Element::npy_float) {
    bool exact = true;
    for (std::int64_t i = 0; i < count; ++i) {
      const float x = little_endian_float(raw + 4 * i);
      if (!is_probability(x)) {
        source.fail("holds the value " + text_of(x) + " at " + layout.place(line, first + i) + divide_hint);
      }
      exact = exact && (x == 0.0f || x == 1.0f);
      values[i] = grey_of(x);
    }
    return exact;
  }
  std::copy(raw, raw + count, values);
  if (layout.element == Element::npy_bool) {
    const std::uint8_t* const wrong = std::find_if(raw, raw + count, [](std::uint8_t v) { return v > 1; });
    if (wrong != raw + count) {
      source.fail("holds the byte " + std::to_string(*wrong) + " at " +
                  layout.place(line, first + (wrong - raw)) +
                  "; expected 0 or 1 in an array of bool, save it again with numpy.save");
    }
  }
  return true;
}

/// Rows of bits out of columns of bits: row r is bit r of every line.
std::vector<std::uint8_t> transpose_bits(const std::vector<std::uint8_t>& lines, const ArrayLayout& layout) {
  const std::int64_t line_bytes = packed_bytes(layout.rows);
  const std::int64_t row_bytes = packed_bytes(layout.columns());
  std::vector<std::uint8_t> rows(static_cast<std::size_t>(layout.rows * row_bytes));
  for (std::int64_t r = 0; r < layout.rows; ++r) {
    const auto on = [&](std::int64_t column) {
      return bit_is_on(lines.data() + layout.line_of_column(column) * line_bytes, r);
    };
    pack_bits(layout.columns(), on, rows.data() + r * row_bytes);
  }
  return rows;
}

std::vector<std::uint8_t> transpose_bytes(const std::vector<std::uint8_t>& lines, const ArrayLayout& layout) {
  constexpr std::int64_t rows_at_a_time = 64;  // of a line, so that whole cache lines are read
  const std::int64_t columns = layout.columns();
  std::vector<std::uint8_t> rows(lines.size());
  for (std::int64_t first = 0; first < layout.rows; first += rows_at_a_time) {
    const std::int64_t end = std::min(first + rows_at_a_time, layout.rows);
    for (std::int64_t column = 0; column < columns; ++column) {
      const std::uint8_t* const line = lines.data() + layout.line_of_column(column) * layout.rows;
      for (std::int64_t r = first; r < end; ++r)
        rows[static_cast<std::size_t>(r * columns + column)] = line[r];
    }
  }
  return rows;
}

}  // namespace

DataSet read_array(ByteSource& source, const ArrayLayout& layout) {
  source.expect_size(source.position() + checked_payload(source, layout));
  LineCollector collector(layout.element, layout.lines(), layout.line_length(), !source.compressed());
  const std::int64_t piece = std::min(piece_values, layout.line_length());
  std::vector<std::uint8_t> raw(static_cast<std::size_t>(piece * layout.element_bytes()));
  std::vector<std::uint8_t> values(static_cast<std::size_t>(piece));
  for (std::int64_t line = 0; line < layout.lines(); ++line) {
    for (std::int64_t first = 0; first < layout.line_length(); first += piece) {
      const std::int64_t count = std::min(piece, layout.line_length() - first);
      source.read(raw.data(), static_cast<std::size_t>(count * layout.element_bytes()));
      const bool exact = convert(source, layout, line, first, raw.data(), count, values.data());
      collector.append({values.data(), static_cast<std::size_t>(count)}, exact);
    }
  }
  source.expect_end();

  DataSet data;
  data.rows = layout.rows;
  data.units = layout.columns();
  data.grey = collector.grey();
  data.row_bytes = data.grey ? data.units : packed_bytes(data.units);
  data.bytes = collector.take();
  if (layout.fortran_order) {
    data.bytes = data.grey ? transpose_bytes(data.bytes, layout) : transpose_bits(data.bytes, layout);
  }
  return data;
}

}  // namespace wakesleep
