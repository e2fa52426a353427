// What messages about model files and other tensor files have in common.
#pragma once

#include <string>

#include "wakesleep/error.hpp"

namespace wakesleep {

/// How a message about a damaged file ends.
inline constexpr const char* damaged = "the file is damaged; use another copy of it or an earlier checkpoint";

/// Text from a file as it may stand in a message: short, and without control characters.
inline std::string shown(const std::string& text) {
  constexpr std::size_t longest = 60;
  std::string result = "\"";
  for (const char c : text.substr(0, longest)) result += c >= ' ' && c <= '~' ? c : '?';
  return result + (text.size() > longest ? "...\"" : "\"");
}

/// Runs `work`; errors about the content of a file get the file's path in front of them.
template <class Work>
auto about(const std::string& path, const Work& work) {
  try {
    return work();
  } catch (const DataError& error) {
    throw DataError(path + ": " + error.what());
  } catch (const UsageError& error) {
    throw UsageError(path + ": " + error.what());
  }
}

}  // namespace wakesleep
