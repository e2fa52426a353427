// The nearest valid name to a misspelt one.
#pragma once

#include <string>
#include <vector>

namespace wakesleep {

/// The only candidate of which `word` is the beginning (of at least 3 letters), or the one with the smallest
/// Damerau-Levenshtein distance to `word`, or "" when none is within a third
/// of the word's length (at least 2). Dashes and underscores count as equal, case is ignored. What has
/// nothing in common with a very short word is no help and is not returned.
std::string nearest(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace wakesleep
