// Numbers as text, alone and in lists: the same in messages, settings, metadata and what is hashed.
#pragma once

#include <array>
#include <charconv>
#include <cstdint>
#include <string>
#include <vector>

namespace wakesleep {

/// The shortest text that reads back as the same number, whatever the locale.
template <class Number>
std::string number_text(Number number) {
  std::array<char, 32> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number).ptr;
  return std::string(buffer.data(), end);
}

/// "784,200,200".
inline std::string numbers_text(const std::vector<std::int64_t>& numbers, const char* separator = ",") {
  std::string text;
  for (const std::int64_t number : numbers) {
    if (!text.empty()) text += separator;
    text += number_text(number);
  }
  return text;
}

/// "[200, 784]".
inline std::string shape_text(const std::vector<std::int64_t>& shape) {
  return "[" + numbers_text(shape, ", ") + "]";
}

}  // namespace wakesleep
