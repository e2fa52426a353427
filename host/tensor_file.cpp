// Named tensors with metadata as a file: its digests, its bytes, and how they are read back.
#include "tensor_file.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "checked_size.hpp"
#include "file.hpp"
#include "file_messages.hpp"
#include "hash.hpp"
#include "number_text.hpp"
#include "tensor_header.hpp"

namespace wakesleep {
namespace {

static_assert(std::endian::native == std::endian::little,
              "model files hold little-endian values, and this file copies them as they are in memory");

constexpr const char* format_name = "wakesleep";
constexpr const char* format_version = "1";
constexpr const char* digest_key = "sha256";
constexpr const char* digest_prefix = "sha256.";
constexpr std::size_t length_bytes = 8;  // of the header's length, with which a file begins

/// Checked before anything is allocated: a checkpoint of 1,000 layers with Adam has a header of about 2.6 MB,
/// and this holds that of max_tensors tensors.
constexpr std::uint64_t max_header_bytes = std::uint64_t{16} << 20;

// ------------------------------------------------------------------------------------------ digests

/// What is hashed of a tensor: name, newline, shape as numbers with commas, newline, values.
void add_tensor(Sha256& hash, const std::string& name, const Tensor& tensor) {
  const std::string head = name + "\n" + numbers_text(tensor.shape) + "\n";
  hash.add(head.data(), head.size());
  hash.add(tensor.values.data(), tensor.values.size() * sizeof(float));
}

std::string tensor_digest(const std::string& name, const Tensor& tensor) {
  Sha256 hash;
  add_tensor(hash, name, tensor);
  return hash.finish();
}

/// Over the lines name=value of all metadata but the digest itself.
std::string metadata_digest(const Metadata& metadata) {
  Sha256 hash;
  for (const auto& [name, value] : metadata) {
    if (name == digest_key) continue;
    const std::string line = name + "=" + value + "\n";
    hash.add(line.data(), line.size());
  }
  return hash.finish();
}

// ------------------------------------------------------------------------------------------ writing

void check_tensor(const std::string& name, const Tensor& tensor) {
  if (!is_tensor_name(name)) {
    throw UsageError(shown(name) +
                     " cannot name a tensor; use 1 to 256 printable ASCII characters, no spaces");
  }
  if (tensor.shape.size() > max_rank) {
    throw UsageError("tensor " + name + " has " + std::to_string(tensor.shape.size()) +
                     " dimensions; use at most " + std::to_string(max_rank));
  }
  if (element_count(tensor.shape) != tensor.values.size()) {
    throw UsageError("tensor " + name + " has " + std::to_string(tensor.values.size()) +
                     " values, which is not what its shape " + shape_text(tensor.shape) +
                     " says; correct either");
  }
}

void check_can_write(const TensorContent& file) {
  if (file.tensors.size() > max_tensors) {
    throw UsageError("it would have " + std::to_string(file.tensors.size()) +
                     " tensors, a file holds at most " + std::to_string(max_tensors) + "; use fewer layers");
  }
  constexpr std::size_t own_entries = 3;  // format, format_version, sha256
  const std::size_t entries = file.metadata.size() + file.tensors.size() + own_entries;
  if (entries > max_metadata_entries) {
    throw UsageError("it would have " + std::to_string(entries) + " metadata entries, a file holds at most " +
                     std::to_string(max_metadata_entries) + "; give less metadata");
  }
  for (const auto& [name, tensor] : file.tensors) check_tensor(name, *tensor);
  for (const auto& [name, value] : file.metadata) {
    const bool is_reserved = name == "format" || name == "format_version" || name == digest_key;
    if (!is_metadata_name(name) || is_reserved || name.starts_with(digest_prefix)) {
      throw UsageError(shown(name) +
                       " cannot name metadata; use printable ASCII without spaces and \"=\", and " +
                       "not format, format_version or sha256, which the file itself uses");
    }
    if (!is_metadata_value(value)) {
      throw UsageError("the metadata entry " + name + " holds a control character; use text of one line");
    }
  }
}

TensorHeader header_for(const TensorContent& file) {
  TensorHeader header;
  header.metadata = file.metadata;
  header.metadata["format"] = format_name;
  header.metadata["format_version"] = format_version;
  std::uint64_t position = 0;
  for (const auto& [name, tensor] : file.tensors) {
    TensorEntry& entry = header.tensors[name];
    entry.shape = tensor->shape;
    entry.begin = position;
    position += tensor->values.size() * sizeof(float);
    entry.end = position;
    header.metadata[digest_prefix + name] = tensor_digest(name, *tensor);
  }
  header.metadata[digest_key] = metadata_digest(header.metadata);
  return header;
}

std::vector<std::uint8_t> bytes_of(const TensorContent& file) {
  check_can_write(file);
  const TensorHeader header = header_for(file);
  const std::string text = canonical_text(header);
  if (text.size() > max_header_bytes) {
    throw UsageError("its header would have " + std::to_string(text.size()) +
                     " bytes, a file holds at most " + std::to_string(max_header_bytes) +
                     "; use fewer layers or less metadata");
  }
  std::size_t data_bytes = 0;
  for (const auto& [name, entry] : header.tensors) data_bytes = entry.end;

  std::vector<std::uint8_t> bytes(length_bytes + text.size() + data_bytes);
  const std::uint64_t length = text.size();
  std::memcpy(bytes.data(), &length, length_bytes);
  std::memcpy(bytes.data() + length_bytes, text.data(), text.size());
  std::uint8_t* data = bytes.data() + length_bytes + text.size();
  for (const auto& [name, tensor] : file.tensors) {
    data = std::copy_n(reinterpret_cast<const std::uint8_t*>(tensor->values.data()),
                       tensor->values.size() * sizeof(float), data);
  }
  return bytes;
}

// ------------------------------------------------------------------------------------------ reading

/// The bytes of the header. What they say about lengths is not believed before the file's own length bears it
/// out.
std::string header_text(const std::vector<std::uint8_t>& bytes) {
  if (bytes.size() < length_bytes) {
    throw DataError("it has " + std::to_string(bytes.size()) +
                    " bytes, too few for a model; check that it is the right file");
  }
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), length_bytes);
  if (length > max_header_bytes) {
    throw DataError("its header would have " + std::to_string(length) + " bytes, at most " +
                    std::to_string(max_header_bytes) +
                    " are expected: it is no safetensors file, or damaged");
  }
  if (length > bytes.size() - length_bytes) {
    throw DataError("its header would have " + std::to_string(length) + " bytes, the file has " +
                    std::to_string(bytes.size()) + ": " + damaged);
  }
  const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(length_bytes);
  return std::string(begin, begin + static_cast<std::ptrdiff_t>(length));
}

void check_format(const Metadata& metadata) {
  const auto format = metadata.find("format");
  if (format == metadata.end() || format->second != format_name) {
    throw DataError(
        "it is a safetensors file, but its metadata does not say format=wakesleep; give a model that "
        "wakesleep has written");
  }
  const std::string version = found_in(metadata, "format_version");
  if (version != format_version) {
    throw DataError("its format version is " + shown(version) + ", this program reads version " +
                    format_version + "; use the version of the program that wrote it");
  }
}

/// Tensors follow one another in the order of their names, from the end of the header to the end of the file.
void check_layout(const TensorHeader& header, std::size_t header_bytes, std::size_t file_bytes) {
  std::uint64_t expected_begin = 0;
  for (const auto& [name, entry] : header.tensors) {
    const std::optional<std::uint64_t> bytes = byte_count(entry.shape);
    const std::optional<std::uint64_t> expected_end =
        bytes ? checked_sum(expected_begin, *bytes) : std::nullopt;
    if (!expected_end) {
      throw DataError("tensor " + name + " has the shape " + shape_text(entry.shape) +
                      ", too large for any file: " + damaged);
    }
    if (entry.begin != expected_begin || entry.end != *expected_end) {
      throw DataError("tensor " + name + " lies at bytes " + std::to_string(entry.begin) + " to " +
                      std::to_string(entry.end) + " of the data, where " + std::to_string(expected_begin) +
                      " to " + std::to_string(*expected_end) +
                      " follow from its shape and the tensors before it: " + damaged);
    }
    expected_begin = *expected_end;
  }
  const std::uint64_t data_bytes = file_bytes - length_bytes - header_bytes;
  if (expected_begin != data_bytes) {
    throw DataError("its tensors have " + std::to_string(expected_begin) + " bytes, the file holds " +
                    std::to_string(data_bytes) +
                    " after its header: it was cut short or added to, so use another "
                    "copy of it or an earlier checkpoint");
  }
}

/// Catches what the parser takes for the same: white space, padding, escapes, another order of names.
void check_canonical(const TensorHeader& header, const std::string& text) {
  if (canonical_text(header) != text) {
    throw DataError("its header is not written byte for byte as wakesleep writes it; " +
                    std::string(damaged));
  }
}

void check_metadata_digest(const Metadata& metadata) {
  if (found_in(metadata, digest_key) != metadata_digest(metadata)) {
    throw DataError("its metadata does not have the SHA-256 that is stored with it: " + std::string(damaged));
  }
}

void check_tensor_digest(const std::string& name, const Tensor& tensor, const Metadata& metadata) {
  if (found_in(metadata, digest_prefix + name) != tensor_digest(name, tensor)) {
    throw DataError("tensor " + name + " does not have the SHA-256 that is stored with it: " + damaged);
  }
}

/// Metadata without what the file format itself put there.
Metadata without_file_entries(Metadata metadata, const Tensors& tensors) {
  for (const auto& [name, tensor] : tensors) metadata.erase(digest_prefix + name);
  for (const char* name : {"format", "format_version", digest_key}) metadata.erase(name);
  for (const auto& [name, value] : metadata) {
    if (name.starts_with(digest_prefix)) {
      throw DataError("its metadata has the entry " + shown(name) +
                      " for a tensor that is not there: " + damaged);
    }
  }
  return metadata;
}

TensorFile parse(const std::vector<std::uint8_t>& bytes) {
  const std::string text = header_text(bytes);
  TensorHeader header = parse_tensor_header(text);
  check_format(header.metadata);
  check_layout(header, text.size(), bytes.size());
  check_canonical(header, text);
  check_metadata_digest(header.metadata);

  TensorFile file;
  const std::uint8_t* data = bytes.data() + length_bytes + text.size();
  for (auto& [name, entry] : header.tensors) {
    Tensor& tensor = file.tensors[name];
    const std::size_t size = entry.end - entry.begin;
    tensor.shape = std::move(entry.shape);
    tensor.values.resize(size / sizeof(float));
    if (size > 0) std::memcpy(tensor.values.data(), data + entry.begin, size);
    check_tensor_digest(name, tensor, header.metadata);
  }
  file.metadata = without_file_entries(std::move(header.metadata), file.tensors);
  return file;
}

}  // namespace

std::string found_in(const Metadata& metadata, const std::string& name) {
  const auto found = metadata.find(name);
  if (found == metadata.end()) throw DataError("its metadata has no entry " + name + ": " + damaged);
  return found->second;
}

std::string hash_of(const Tensors& tensors) {
  Sha256 hash;
  for (const auto& [name, tensor] : tensors) add_tensor(hash, name, tensor);
  return hash.finish();
}

void write_content(const std::string& path, const TensorContent& content) {
  const std::vector<std::uint8_t> bytes = about(path, [&] { return bytes_of(content); });
  write_file_atomically(path, bytes.data(), bytes.size());
}

void write_tensor_file(const std::string& path, const TensorFile& file) {
  TensorContent content;
  for (const auto& [name, tensor] : file.tensors) content.tensors[name] = &tensor;
  content.metadata = file.metadata;
  write_content(path, content);
}

TensorFile read_tensor_file(const std::string& path) {
  const std::vector<std::uint8_t> bytes = read_file(path);
  return about(path, [&] { return parse(bytes); });
}

}  // namespace wakesleep
