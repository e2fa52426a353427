// The header of an NPY file: a Python dictionary such as
//   {'descr': '<f4', 'fortran_order': False, 'shape': (60000, 28, 28), }
#pragma once

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "data_source.hpp"

namespace wakesleep {

struct NpyHeader {
  std::string dtype;  ///< as numpy writes it, such as "|u1"
  bool fortran_order = false;
  std::vector<std::int64_t> shape;  ///< none is negative
};

/// Reads the dictionary, and refuses everything in it that numpy would not have written.
class NpyDictionary {
 public:
  NpyDictionary(const ByteSource& source, std::string_view text) : source_(source), text_(text) {}

  NpyHeader parse() {
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted_string();
      expect(':');
      parse_value(key);
      if (accept(',')) continue;
      expect('}');
      break;
    }
    skip_spaces();
    if (at_ < text_.size()) fail("bytes after its closing brace");
    if (!dtype_ || !fortran_order_ || !shape_) fail("not all of the keys descr, fortran_order and shape");
    return {*dtype_, *fortran_order_, *shape_};
  }

 private:
  [[noreturn]] void fail(const std::string& found) const {
    source_.fail("has an NPY header that cannot be read, with " + found +
                 "; save the array again with numpy.save");
  }

  void parse_value(const std::string& key) {
    if (key == "descr" && !dtype_) {
      skip_spaces();
      if (at_ < text_.size() && text_[at_] == '[') {
        source_.fail("holds records of several fields; save one array of uint8, bool or float32");
      }
      dtype_ = quoted_string();
    } else if (key == "fortran_order" && !fortran_order_) {
      fortran_order_ = boolean();
    } else if (key == "shape" && !shape_) {
      shape_ = tuple();
    } else {
      fail("a key that is unknown or stands twice");
    }
  }

  void skip_spaces() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool accept(char character) {
    skip_spaces();
    if (at_ >= text_.size() || text_[at_] != character) return false;
    ++at_;
    return true;
  }
  void expect(char character) {
    if (!accept(character)) fail(std::string("no '") + character + "' where one was expected");
  }

  std::string quoted_string() {
    const char quote = accept('"') ? '"' : '\'';
    if (quote == '\'') expect(quote);
    const std::size_t end = text_.find(quote, at_);
    if (end == std::string_view::npos) fail("a text that does not end");
    const std::string value(text_.substr(at_, end - at_));
    at_ = end + 1;
    return value;
  }

  bool boolean() {
    skip_spaces();
    for (const bool value : {true, false}) {
      const std::string_view name = value ? "True" : "False";
      if (text_.substr(at_).starts_with(name)) {
        at_ += name.size();
        return value;
      }
    }
    fail("a fortran_order that is neither True nor False");
  }

  std::vector<std::int64_t> tuple() {
    std::vector<std::int64_t> values;
    expect('(');
    while (!accept(')')) {
      values.push_back(dimension());
      if (accept(',')) continue;
      expect(')');
      break;
    }
    return values;
  }

  std::int64_t dimension() {
    skip_spaces();
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (error == std::errc::result_out_of_range) fail("a dimension beyond 64 bits");
    if (error != std::errc()) fail("a shape that is no tuple of integers");
    if (value < 0) fail("the negative dimension " + std::to_string(value));
    at_ = static_cast<std::size_t>(end - text_.data());
    return value;
  }

  const ByteSource& source_;
  std::string_view text_;
  std::size_t at_ = 0;
  std::optional<std::string> dtype_;
  std::optional<bool> fortran_order_;
  std::optional<std::vector<std::int64_t>> shape_;
};

/// Reads magic, version, length and dictionary; `source` then stands before the first value.
inline NpyHeader read_npy_header(ByteSource& source) {
  constexpr std::size_t longest = 10000;  // what numpy.load accepts
  std::array<std::uint8_t, 8> magic_and_version{};
  source.read(magic_and_version.data(), magic_and_version.size());
  const unsigned major = magic_and_version[6];
  const unsigned minor = magic_and_version[7];
  if (major < 1 || major > 3 || minor != 0) {
    source.fail("is an NPY file of version " + std::to_string(major) + "." + std::to_string(minor) +
                "; expected 1.0, 2.0 or 3.0, as numpy.save writes them");
  }
  std::array<std::uint8_t, 4> length_bytes{};
  source.read(length_bytes.data(), major == 1 ? 2 : 4);
  std::size_t length = 0;
  for (std::size_t i = 0; i < length_bytes.size(); ++i) length |= std::size_t{length_bytes[i]} << (8 * i);
  if (length > longest) {
    source.fail("declares an NPY header of " + std::to_string(length) + " bytes; expected at most " +
                std::to_string(longest) + ", save the array again with numpy.save");
  }
  std::string text(length, '\0');
  source.read(reinterpret_cast<std::uint8_t*>(text.data()), text.size());
  return NpyDictionary(source, text).parse();
}

}  // namespace wakesleep
