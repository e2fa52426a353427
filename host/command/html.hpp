// Pieces of an HTML page: text, numbers, elements and bytes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace wakesleep::command {

/// Text for HTML: & < > " ' escaped, invalid UTF-8 and control characters shown as U+FFFD.
std::string escape_html(const std::string& text);

/// A number as people read it, with a true minus sign.
std::string typeset_number(double value, int digits);

/// "<name>text</name>", the text escaped.
std::string element(const std::string& name, const std::string& text);

std::string base64(const std::vector<std::uint8_t>& bytes);

}  // namespace wakesleep::command
