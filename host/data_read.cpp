// Reading data sets: every format becomes lines of byte values, which LineCollector packs into bits for as
// long as they allow it. Nothing is held beyond the data set itself and buffers of a fixed size.
#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstdint>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "data_bits.hpp"
#include "data_npy_header.hpp"
#include "data_source.hpp"
#include "wakesleep/data.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {
namespace {

/// Values that are converted at a time: a multiple of 8, so that a piece of a line is whole bytes of bits.
constexpr std::int64_t piece_values = 65536;

// ------------------------------------------------------------------------------------ collecting

/// What one value of a file is, and by which values the file counts as binary.
enum class Element {
  idx_byte,  ///< binary if only 0 and 1, or only 0 and 255, occur
  npy_byte,  ///< binary if only 0 and 1 occur
  npy_bool,
  npy_float,    ///< binary if only 0 and 1 occur
  text_number,  ///< likewise
  packed_byte,  ///< eight units, kept as they are
};

/// Whether a byte of this value may stand for 1 where a file of such elements is binary.
bool may_mean_on(Element element, std::uint8_t value) {
  switch (element) {
    case Element::idx_byte:
      return value == 1 || value == 255;
    case Element::npy_byte:
    case Element::npy_bool:
      return value == 1;
    case Element::npy_float:
    case Element::text_number:
      return value == 255;
    case Element::packed_byte:
      break;
  }
  return false;
}

/// Takes the byte values of a file, line after line, and keeps them as bits until it meets a value that makes
/// the file a grey one; then those before become bytes too.
class LineCollector {
 public:
  /// `lines` is 0 where nobody knows yet. `trusted`: the file has been measured to hold that many.
  LineCollector(Element element, std::int64_t lines, std::int64_t line_length, bool trusted)
      : element_(element),
        lines_(lines),
        line_length_(line_length),
        trusted_(trusted),
        grey_(element == Element::packed_byte) {}

  /// The next values of a line. All pieces of a line but its last are a multiple of 8 long. `exact` is false
  /// where a value was rounded to a byte.
  void append(std::span<const std::uint8_t> values, bool exact) {
    if (!grey_ && !(exact && only_off_and_on(values))) turn_grey();
    const std::size_t old_size = bytes_.size();
    const auto count = static_cast<std::int64_t>(values.size());
    extend(bytes_, static_cast<std::size_t>(grey_ ? count : packed_bytes(count)));
    if (grey_) {
      std::copy(values.begin(), values.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(old_size));
    } else {
      const std::uint8_t* const value = values.data();
      pack_bits(
          count, [value](std::int64_t i) { return value[i] != 0; }, bytes_.data() + old_size);
    }
    values_ += count;
  }

  bool grey() const { return grey_; }
  std::vector<std::uint8_t> take() {
    bytes_.shrink_to_fit();
    return std::move(bytes_);
  }

 private:
  bool only_off_and_on(std::span<const std::uint8_t> values) {
    if (on_ == 0) {
      const auto first = std::find_if(values.begin(), values.end(), [](std::uint8_t v) { return v != 0; });
      if (first == values.end()) return true;
      if (!may_mean_on(element_, *first)) return false;
      on_ = *first;
    }
    unsigned others = 0;  // no early exit: the loop is to be vectorised
    for (const std::uint8_t value : values) others |= static_cast<unsigned>(value != 0 && value != on_);
    return others == 0;
  }

  void turn_grey() {
    grey_ = true;
    const std::vector<std::uint8_t> packed = std::exchange(bytes_, {});
    extend(bytes_, static_cast<std::size_t>(values_));
    const std::uint8_t* line = packed.data();
    for (std::int64_t first = 0; first < values_; first += line_length_) {
      const std::int64_t count = std::min(line_length_, values_ - first);
      std::uint8_t* const to = bytes_.data() + first;
      for (std::int64_t i = 0; i < count; ++i) to[i] = bit_is_on(line, i) ? on_ : std::uint8_t{0};
      line += packed_bytes(line_length_);
    }
  }

  /// Memory for all that a measured file holds is taken at once; otherwise it grows with what really came.
  void extend(std::vector<std::uint8_t>& bytes, std::size_t count) const {
    const std::size_t needed = bytes.size() + count;
    if (needed > bytes.capacity()) {
      const auto final_size =
          static_cast<std::size_t>(lines_ * (grey_ ? line_length_ : packed_bytes(line_length_)));
      std::size_t room = trusted_ ? final_size : 2 * bytes.capacity();
      if (lines_ > 0) room = std::min(room, final_size);
      bytes.reserve(std::max(room, needed));
    }
    bytes.resize(needed);
  }

  Element element_;
  std::int64_t lines_;
  std::int64_t line_length_;
  bool trusted_;
  bool grey_;
  std::uint8_t on_ = 0;  ///< 0: no value but 0 so far
  std::int64_t values_ = 0;
  std::vector<std::uint8_t> bytes_;
};

// ------------------------------------------------------------------------------------ values

/// rint(255 x), ties to even, for x in [0, 1], whatever the rounding mode. (255 x is exact for a float x.)
std::uint8_t grey_of(double x) {
  const double scaled = 255.0 * x;
  const auto below = static_cast<unsigned>(scaled);
  const double rest = scaled - below;
  const bool up = rest > 0.5 || (rest == 0.5 && below % 2 == 1);
  return static_cast<std::uint8_t>(up ? below + 1 : below);
}

bool is_probability(double x) { return x >= 0.0 && x <= 1.0; }  // false for NaN

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

// ------------------------------------------------------------------------------------ arrays

/// How the values of an IDX or NPY file lie: line after line, a line being a row of the data set in C order,
/// and one unit of all rows in Fortran order.
struct ArrayLayout {
  Element element = Element::idx_byte;
  std::int64_t rows = 0;
  std::int64_t height = 1;  ///< a row is a height x width image, or 1 x units
  std::int64_t width = 0;
  bool fortran_order = false;

  std::int64_t columns() const { return height * width; }
  std::int64_t lines() const { return fortran_order ? columns() : rows; }
  std::int64_t line_length() const { return fortran_order ? rows : columns(); }
  std::int64_t element_bytes() const { return element == Element::npy_float ? 4 : 1; }

  /// In Fortran order the first index runs fastest: line y + height x holds column y width + x.
  std::int64_t column_of_line(std::int64_t line) const { return line % height * width + line / height; }
  std::int64_t line_of_column(std::int64_t column) const { return column % width * height + column / width; }

  std::string place(std::int64_t line, std::int64_t position) const {
    const std::int64_t row = fortran_order ? position : line;
    const std::int64_t column = fortran_order ? column_of_line(line) : position;
    return "row " + std::to_string(row) + ", column " + std::to_string(column) + " (counted from 0)";
  }
};

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

/// Reads the values, of which the source holds nothing else any more.
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

// ------------------------------------------------------------------------------------ IDX

std::string idx_type_name(unsigned type) {
  switch (type) {
    case 0x09:
      return "signed bytes";
    case 0x0B:
      return "16-bit integers";
    case 0x0C:
      return "32-bit integers";
    case 0x0D:
      return "32-bit floats";
    case 0x0E:
      return "64-bit floats";
    default:
      return "values of the unknown type " + std::to_string(type);
  }
}

DataSet read_idx(ByteSource& source) {
  std::array<std::uint8_t, 4> magic{};
  source.read(magic.data(), magic.size());
  const unsigned type = magic[2];
  const unsigned dimensions = magic[3];
  if (type != 0x08) {
    source.fail("is an IDX file of " + idx_type_name(type) + "; expected unsigned bytes");
  }
  if (dimensions == 1) source.fail("holds labels, not images: give the images file");
  if (dimensions != 3) {
    source.fail("is an IDX file of " + std::to_string(dimensions) +
                " dimensions; expected 3 (images, rows, columns)");
  }
  std::array<std::int64_t, 3> shape{};
  for (std::int64_t& length : shape) {
    std::array<std::uint8_t, 4> bytes{};
    source.read(bytes.data(), bytes.size());
    for (const std::uint8_t byte : bytes) length = length << 8 | byte;
  }
  ArrayLayout layout;
  layout.element = Element::idx_byte;
  layout.rows = shape[0];
  layout.height = shape[1];
  layout.width = shape[2];
  DataSet data = read_array(source, layout);
  data.height = layout.height;
  data.width = layout.width;
  return data;
}

// ------------------------------------------------------------------------------------ NPY

Element npy_element(const ByteSource& source, const std::string& dtype) {
  const bool has_order = !dtype.empty() && std::string_view("<>|=").find(dtype[0]) != std::string_view::npos;
  const std::string kind = has_order ? dtype.substr(1) : dtype;
  if (kind == "u1") return Element::npy_byte;
  if (kind == "b1") return Element::npy_bool;
  if (dtype == "<f4") return Element::npy_float;
  if (dtype == ">f4") {
    source.fail(
        "holds big-endian float32 values (dtype '>f4'); expected little-endian ones, save the array again "
        "after astype('<f4')");
  }
  std::string printable = dtype.substr(0, 32);
  for (char& c : printable) c = c >= ' ' && c <= '~' ? c : '?';
  source.fail("holds values of dtype '" + printable +
              "'; expected uint8, bool or float32, so convert the array with astype");
}

/// Turns an array of packed bytes into what it stands for, rows of `row_length` units.
void unpack_shape(const ByteSource& source, std::int64_t row_length, DataSet& data) {
  data.grey = false;
  data.units = row_length;
  const unsigned unused = 0xFFu >> ((row_length - 1) % 8 + 1);
  for (std::int64_t r = 0; r < data.rows; ++r) {
    if ((data.row(r)[data.row_bytes - 1] & unused) != 0) {
      source.fail(
          "has bits beyond row length " + std::to_string(row_length) + " set in row " + std::to_string(r) +
          " (counted from 0); expected zeros there, so give the row length that the rows were packed from");
    }
  }
}

DataSet read_npy(ByteSource& source, std::int64_t row_length) {
  const NpyHeader header = read_npy_header(source);
  const std::size_t dimensions = header.shape.size();
  if (dimensions != 2 && dimensions != 3) {
    source.fail("holds an array of " + std::to_string(dimensions) +
                " dimensions; expected 2 (rows, units) or 3 (rows, height, width)");
  }
  ArrayLayout layout;
  layout.element = npy_element(source, header.dtype);
  layout.fortran_order = header.fortran_order;
  layout.rows = header.shape[0];
  layout.height = dimensions == 3 ? header.shape[1] : 1;
  layout.width = header.shape.back();
  if (row_length > 0) {
    if (layout.element != Element::npy_byte || dimensions != 2) {
      source.fail("does not hold bit-packed rows, which are uint8 in 2 dimensions; leave the row length out");
    }
    if (layout.width != packed_bytes(row_length)) {
      source.fail("has rows of " + std::to_string(layout.width) + " bytes; expected " +
                  std::to_string(packed_bytes(row_length)) + " for bit-packed rows of row length " +
                  std::to_string(row_length) + ", so give the row length that the rows were packed from");
    }
    layout.element = Element::packed_byte;
  }
  DataSet data = read_array(source, layout);
  if (row_length > 0) unpack_shape(source, row_length, data);
  if (dimensions == 3) {
    data.height = layout.height;
    data.width = layout.width;
  }
  return data;
}

// ------------------------------------------------------------------------------------ AMAT

bool is_text_space(std::uint8_t byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }

bool looks_like_text(std::span<const std::uint8_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [](std::uint8_t b) { return is_text_space(b) || (b > ' ' && b <= '~'); });
}

/// Numbers separated by white space, a line for every row.
class AmatReader {
 public:
  explicit AmatReader(ByteSource& source) : source_(source) {}

  DataSet read() {
    for (std::span<const std::uint8_t> text = source_.peek(1); !text.empty(); text = source_.peek(1)) {
      for (const std::uint8_t byte : text) take(byte);
      source_.skip(text.size());
    }
    end_number();
    end_line();
    if (rows_ == 0) source_.fail("holds no rows, only white space; expected at least one line of numbers");
    DataSet data;
    data.rows = rows_;
    data.units = units_;
    data.grey = collector_->grey();
    data.row_bytes = data.grey ? units_ : packed_bytes(units_);
    data.bytes = collector_->take();
    return data;
  }

 private:
  void take(std::uint8_t byte) {
    if (!is_text_space(byte)) {
      if (length_ == number_.size()) fail_number();
      number_[length_++] = static_cast<char>(byte);
      return;
    }
    end_number();
    if (byte == '\n') end_line();
  }

  void end_number() {
    if (length_ == 0) return;
    double value = 0.0;
    if (length_ == 1 && (number_[0] == '0' || number_[0] == '1')) {
      value = number_[0] - '0';
    } else {
      const char* const end = number_.data() + length_;
      const auto [stopped, error] = std::from_chars(number_.data(), end, value);
      if (error != std::errc() || stopped != end || !is_probability(value)) fail_number();
    }
    if (rows_ > 0 && static_cast<std::int64_t>(values_.size()) == units_) fail_width("more than ");
    exact_ = exact_ && (value == 0.0 || value == 1.0);
    values_.push_back(grey_of(value));
    length_ = 0;
  }

  void end_line() {
    const auto count = static_cast<std::int64_t>(values_.size());
    if (count > 0) {
      if (rows_ == 0) {
        units_ = count;
        collector_.emplace(Element::text_number, 0, units_, false);
      }
      if (count != units_) fail_width("only " + std::to_string(count) + " values instead of ");
      if (rows_ == max_data_rows) {
        source_.fail("holds more than " + std::to_string(max_data_rows) + " rows; split it");
      }
      collector_->append(values_, exact_);
      ++rows_;
      values_.clear();
      exact_ = true;
    }
    ++line_;
  }

  [[noreturn]] void fail_number() const {
    std::string shown;
    for (std::size_t i = 0; i < std::min<std::size_t>(length_, 24); ++i) {
      shown += number_[i] > ' ' && number_[i] <= '~' ? number_[i] : '?';
    }
    source_.fail("holds '" + shown + "' at line " + std::to_string(line_) + ", column " +
                 std::to_string(values_.size() + 1) +
                 " (counted from 1); expected numbers from 0 to 1 separated by spaces");
  }
  [[noreturn]] void fail_width(const std::string& found) const {
    source_.fail("holds in line " + std::to_string(line_) + " (counted from 1) " + found +
                 std::to_string(units_) + " values; expected every line to be as long as the first");
  }

  ByteSource& source_;
  std::optional<LineCollector> collector_;
  std::int64_t rows_ = 0;
  std::int64_t units_ = 0;
  std::int64_t line_ = 1;
  std::array<char, 64> number_{};  ///< far longer than any number that a program prints
  std::size_t length_ = 0;
  std::vector<std::uint8_t> values_;  ///< of this line
  bool exact_ = true;
};

// ------------------------------------------------------------------------------------ any format

enum class Format { idx, npy, amat };

Format recognise(ByteSource& source) {
  constexpr std::size_t enough = 64;
  const std::span<const std::uint8_t> at_hand = source.peek(enough);
  const std::span<const std::uint8_t> start = at_hand.first(std::min(enough, at_hand.size()));
  if (start.empty()) source.fail("is empty once decompressed; give a file with data");
  const std::string_view bytes(reinterpret_cast<const char*>(start.data()), start.size());
  if (bytes.starts_with(std::string_view("\0\0", 2))) return Format::idx;
  if (bytes.starts_with("\x93NUMPY")) return Format::npy;
  if (looks_like_text(start)) return Format::amat;

  std::string shown;
  constexpr std::string_view digits = "0123456789abcdef";
  for (const std::uint8_t byte : start.first(std::min<std::size_t>(start.size(), 4))) {
    shown += {' ', digits[byte / 16], digits[byte % 16]};
  }
  source.fail("is in no known format (it begins with the bytes" + shown +
              "); expected IDX, NPY or AMAT text, or one of them compressed by gzip");
}

void check(const ReadOptions& options) {
  if (options.row_length < 0) {
    throw UsageError("row length " + std::to_string(options.row_length) +
                     " is negative; give the units of a row");
  }
  if (options.height < 0 || options.width < 0 || (options.height == 0) != (options.width == 0)) {
    throw UsageError("image shape " + std::to_string(options.height) + " x " + std::to_string(options.width) +
                     " cannot be used; give both height and width, each at least 1, or neither");
  }
}

DataSet read_format(ByteSource& source, Format format, const ReadOptions& options) {
  if (options.row_length > 0 && format != Format::npy) {
    source.fail("is no NPY file, the only kind that holds bit-packed rows; leave the row length out");
  }
  switch (format) {
    case Format::idx:
      return read_idx(source);
    case Format::npy:
      return read_npy(source, options.row_length);
    case Format::amat:
      break;
  }
  return AmatReader(source).read();
}

/// The file's own word first, then the caller's, then a square.
void set_image_shape(const ReadOptions& options, DataSet& data) {
  const std::string asked = std::to_string(options.height) + " x " + std::to_string(options.width);
  if (options.height > 0) {
    std::int64_t product = 0;
    if (__builtin_mul_overflow(options.height, options.width, &product) || product != data.units) {
      throw UsageError("image shape " + asked + " does not fit '" + data.source + "', whose rows have " +
                       std::to_string(data.units) + " units; give a height and width of that product");
    }
    if (data.height > 0 && (data.height != options.height || data.width != options.width)) {
      throw UsageError("image shape " + asked + " contradicts '" + data.source + "', whose images are " +
                       std::to_string(data.height) + " x " + std::to_string(data.width) +
                       "; leave the shape out");
    }
    data.height = options.height;
    data.width = options.width;
  }
  if (data.height > 0) return;
  std::int64_t side = 1;
  while (side < data.units / side) ++side;
  if (side * side == data.units) data.height = data.width = side;
}

}  // namespace

DataSet read_data(const std::string& path, const ReadOptions& options) {
  check(options);
  ByteSource source(path);
  try {
    DataSet data = read_format(source, recognise(source), options);
    data.source = path.substr(path.rfind('/') + 1);
    set_image_shape(options, data);
    return data;
  } catch (const std::bad_alloc&) {
    source.fail("does not fit into this machine's memory; give fewer rows, or bit-packed ones");
  }
}

}  // namespace wakesleep
