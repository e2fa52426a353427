// AMAT: numbers as text.
#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "data_bits.hpp"
#include "data_formats.hpp"
#include "data_lines.hpp"

namespace wakesleep {
namespace {

bool is_text_space(std::uint8_t byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }

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

}  // namespace

bool looks_like_text(std::span<const std::uint8_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [](std::uint8_t b) { return is_text_space(b) || (b > ' ' && b <= '~'); });
}

DataSet read_amat(ByteSource& source) { return AmatReader(source).read(); }

}  // namespace wakesleep
