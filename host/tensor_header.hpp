// The header of a tensor file (docs/file-format.md): one JSON object that names the tensors, their shapes and
// places, and the metadata. There is one text for each header, and nothing else is read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "wakesleep/model_file.hpp"

namespace wakesleep {

// Limits, checked before anything is allocated from a number in the file. A checkpoint of 1,000 layers with
// Adam has 12,003 tensors.
inline constexpr std::size_t max_tensors = 65536;
inline constexpr std::size_t max_metadata_entries = 2 * max_tensors;
inline constexpr std::size_t max_rank = 8;

// What may stand in a header: names of printable ASCII without spaces, those of tensors of at most 256 bytes,
// those of metadata without "="; values of one line. (That values are UTF-8 is the JSON library's business.)
bool is_tensor_name(const std::string& name);
bool is_metadata_name(const std::string& name);
bool is_metadata_value(const std::string& value);

struct TensorEntry {
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;  ///< in bytes from the end of the header
  std::uint64_t end = 0;
};

struct TensorHeader {
  std::map<std::string, TensorEntry> tensors;
  Metadata metadata;
};

/// The one form in which a header may stand in a file: JSON without white space, all names in bytewise order,
/// padded with spaces so that the tensors begin at a multiple of 8. Throws UsageError for metadata that is
/// not UTF-8.
std::string canonical_text(const TensorHeader& header);

/// Throws DataError at the first piece that has no place in a header. What the JSON parser takes for the
/// same, such as white space, is not refused: compare with canonical_text().
TensorHeader parse_tensor_header(const std::string& text);

}  // namespace wakesleep
