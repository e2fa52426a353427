#include "command/html.hpp"

#include <algorithm>

#include "command/progress.hpp"

namespace wakesleep::command {
namespace {

constexpr const char* replacement_character = "\xEF\xBF\xBD";  // U+FFFD
constexpr const char* minus_sign = "\xE2\x88\x92";             // U+2212

std::uint8_t byte_at(const std::string& text, std::size_t place) {
  return place < text.size() ? static_cast<std::uint8_t>(text[place]) : 0;
}

/// Length of the UTF-8 character at `place`, 0 if there is no valid and printable one (Unicode 15, table
/// 3-7).
std::size_t printable_length(const std::string& text, std::size_t place) {
  const auto continues = [&](std::size_t offset) { return (byte_at(text, place + offset) & 0xC0) == 0x80; };
  const std::uint8_t lead = byte_at(text, place);
  const std::uint8_t second = byte_at(text, place + 1);
  if (lead < 0x80) return lead >= 0x20 && lead != 0x7F ? 1 : 0;
  if (lead < 0xC2 || lead > 0xF4 || !continues(1)) return 0;
  if (lead < 0xE0) return lead == 0xC2 && second < 0xA0 ? 0 : 2;  // U+0080 .. U+009F are controls
  if (lead < 0xF0) {
    const bool overlong = lead == 0xE0 && second < 0xA0;
    const bool surrogate = lead == 0xED && second > 0x9F;
    return continues(2) && !overlong && !surrogate ? 3 : 0;
  }
  const bool overlong = lead == 0xF0 && second < 0x90;
  const bool beyond_unicode = lead == 0xF4 && second > 0x8F;
  return continues(2) && continues(3) && !overlong && !beyond_unicode ? 4 : 0;
}

}  // namespace

std::string escape_html(const std::string& text) {
  std::string escaped;
  escaped.reserve(text.size());
  for (std::size_t place = 0; place < text.size();) {
    const std::size_t length = printable_length(text, place);
    switch (text[place]) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        length > 0 ? escaped.append(text, place, length) : escaped.append(replacement_character);
    }
    place += std::max<std::size_t>(length, 1);
  }
  return escaped;
}

std::string typeset_number(double value, int digits) {
  std::string text = decimals(value, digits);
  if (text.front() == '-') text.replace(0, 1, minus_sign);
  return text;
}

std::string element(const std::string& name, const std::string& text) {
  return "<" + name + ">" + escape_html(text) + "</" + name + ">";
}

std::string base64(const std::vector<std::uint8_t>& bytes) {
  static constexpr char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t available = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t j = 0; j < 3; ++j) group = group << 8 | (j < available ? bytes[i + j] : 0u);
    for (std::size_t j = 0; j < 4; ++j) {
      text += j <= available ? alphabet[group >> (18 - 6 * j) & 63u] : '=';
    }
  }
  return text;
}

}  // namespace wakesleep::command
