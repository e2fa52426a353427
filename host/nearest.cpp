#include "nearest.hpp"

#include <algorithm>
#include <cstddef>

namespace wakesleep {
namespace {

/// Lower case (ASCII, whatever the locale), underscores as dashes.
std::string folded(std::string word) {
  for (char& c : word) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (c == '_') c = '-';
  }
  return word;
}

/// Damerau-Levenshtein distance in its restricted form (optimal string alignment): insertions, deletions,
/// substitutions and swaps of neighbours, no place edited twice.
std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> before_last(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::swap(before_last, last);
    std::swap(last, row);
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, substituted});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before_last[j - 2] + 1);
    }
  }
  return row[b.size()];
}

/// The candidate that begins with `wanted`, if it is the only one.
std::string only_continuation(const std::string& wanted, const std::vector<std::string>& candidates) {
  constexpr std::size_t enough_letters = 3;
  if (wanted.size() < enough_letters) return "";
  std::string found;
  for (const std::string& candidate : candidates) {
    if (folded(candidate).rfind(wanted, 0) != 0) continue;
    if (!found.empty()) return "";
    found = candidate;
  }
  return found;
}

}  // namespace

std::string nearest(const std::string& word, const std::vector<std::string>& candidates) {
  const std::string wanted = folded(word);
  const std::string continued = only_continuation(wanted, candidates);
  if (!continued.empty()) return continued;
  std::size_t smallest = std::max<std::size_t>(2, wanted.size() / 3) + 1;
  std::string found;
  for (const std::string& candidate : candidates) {
    const std::string offered = folded(candidate);
    const std::size_t distance = edit_distance(wanted, offered);
    const bool nothing_shared = distance == std::max(wanted.size(), offered.size()) && distance > 0;
    if (distance < smallest && !nothing_shared) {
      smallest = distance;
      found = candidate;
    }
  }
  return found;
}

}  // namespace wakesleep
