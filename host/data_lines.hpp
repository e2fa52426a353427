// What every format of data becomes: lines of byte values, which are packed into bits for as long as they
// allow it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "data_bits.hpp"

namespace wakesleep {

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
inline bool may_mean_on(Element element, std::uint8_t value) {
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

/// rint(255 x), ties to even, for x in [0, 1], whatever the rounding mode. (255 x is exact for a float x.)
inline std::uint8_t grey_of(double x) {
  const double scaled = 255.0 * x;
  const auto below = static_cast<unsigned>(scaled);
  const double rest = scaled - below;
  const bool up = rest > 0.5 || (rest == 0.5 && below % 2 == 1);
  return static_cast<std::uint8_t>(up ? below + 1 : below);
}

inline bool is_probability(double x) { return x >= 0.0 && x <= 1.0; }  // false for NaN

}  // namespace wakesleep
