#include "wakesleep/model_file.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "file.hpp"
#include "hash.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {
namespace {

static_assert(std::endian::native == std::endian::little,
              "model files hold little-endian values, and this file copies them as they are in memory");

constexpr const char* format_name = "wakesleep";
constexpr const char* format_version = "1";
constexpr const char* metadata_key = "__metadata__";
constexpr const char* digest_key = "sha256";
constexpr const char* digest_prefix = "sha256.";
constexpr const char* setting_prefix = "setting.";
constexpr const char* run_prefix = "run.";
constexpr const char* optimizer_prefix = "optimizer.";
/// Of what the training algorithms carry.
bool is_algorithm_state(const std::string& name) {
  return name.starts_with("chain.") || name.starts_with("activation.") || name.starts_with("fisher.");
}
constexpr const char* damaged = "the file is damaged; use another copy of it or an earlier checkpoint";

// Limits, checked before anything is allocated from a number in the file. A checkpoint of 1,000 layers with
// Adam has 12,003 tensors, which with their hashes make a header of about 2.6 MB; 16 MiB hold the header of
// 65,536.
constexpr std::size_t length_bytes = 8;
constexpr std::uint64_t max_header_bytes = std::uint64_t{16} << 20;
constexpr std::size_t max_tensors = 65536;
constexpr std::size_t max_metadata_entries = 2 * max_tensors;
constexpr std::size_t max_rank = 8;
constexpr std::size_t max_name_bytes = 256;

/// Text from a file as it may stand in a message: short, and without control characters.
std::string shown(const std::string& text) {
  constexpr std::size_t longest = 60;
  std::string result = "\"";
  for (const char c : text.substr(0, longest)) result += c >= ' ' && c <= '~' ? c : '?';
  return result + (text.size() > longest ? "...\"" : "\"");
}

std::string joined(const std::vector<std::int64_t>& numbers) {
  std::string text;
  for (const std::int64_t number : numbers) {
    if (!text.empty()) text += ',';
    text += std::to_string(number);
  }
  return text;
}
std::string shape_text(const std::vector<std::int64_t>& shape) { return "[" + joined(shape) + "]"; }

// ------------------------------------------------------------------------------------------ sizes

/// The only place where sizes are multiplied and added: a size that remembers whether it has left 63 bits.
class CheckedSize {
 public:
  explicit CheckedSize(std::uint64_t size) : size_(size), fits_(size <= limit) {}
  void multiply(std::uint64_t by) {
    fits_ = !__builtin_mul_overflow(size_, by, &size_) && size_ <= limit && fits_;
  }
  void add(std::uint64_t more) {
    fits_ = !__builtin_add_overflow(size_, more, &size_) && size_ <= limit && fits_;
  }
  std::optional<std::uint64_t> value() const { return fits_ ? std::optional(size_) : std::nullopt; }

 private:
  static constexpr std::uint64_t limit = std::numeric_limits<std::int64_t>::max();
  std::uint64_t size_;
  bool fits_;
};

std::optional<std::uint64_t> product(std::uint64_t factor, const std::vector<std::int64_t>& shape) {
  CheckedSize size(factor);
  for (const std::int64_t extent : shape) {
    if (extent < 0) return std::nullopt;
    size.multiply(static_cast<std::uint64_t>(extent));
  }
  return size.value();
}
std::optional<std::uint64_t> element_count(const std::vector<std::int64_t>& shape) {
  return product(1, shape);
}
std::optional<std::uint64_t> byte_count(const std::vector<std::int64_t>& shape) {
  return product(sizeof(float), shape);
}
std::optional<std::uint64_t> sum(std::uint64_t first, std::uint64_t second) {
  CheckedSize size(first);
  size.add(second);
  return size.value();
}

// ------------------------------------------------------------------------------------------ hashes

/// What is hashed of a tensor: name, newline, shape as numbers with commas, newline, values.
void add_tensor(Sha256& hash, const std::string& name, const Tensor& tensor) {
  const std::string head = name + "\n" + joined(tensor.shape) + "\n";
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

// ------------------------------------------------------------------------------------------ names

/// Names are printable ASCII without spaces, so that the lines that are hashed cannot be mistaken for others.
bool is_name(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c <= '~'; });
}
bool is_tensor_name(const std::string& name) {
  return is_name(name) && name.size() <= max_name_bytes && name != metadata_key;
}
bool is_metadata_name(const std::string& name) {
  return is_name(name) && name.find('=') == std::string::npos;
}

/// Values are text of one line. (That it is UTF-8 is the JSON library's business.)
bool is_metadata_value(const std::string& value) {
  return std::none_of(value.begin(), value.end(), [](char c) { return (c >= 0 && c < ' ') || c == '\x7f'; });
}

// ------------------------------------------------------------------------------------------ header

struct TensorEntry {
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;  ///< in bytes from the end of the header
  std::uint64_t end = 0;
};

struct Header {
  std::map<std::string, TensorEntry> tensors;
  Metadata metadata;
};

/// The one form in which a header may stand in a file: JSON without white space, all names in bytewise order,
/// padded with spaces so that the tensors begin at a multiple of 8.
std::string canonical(const Header& header) {
  nlohmann::json json;
  json[metadata_key] = header.metadata;
  for (const auto& [name, entry] : header.tensors) {
    json[name] = {{"dtype", "F32"}, {"shape", entry.shape}, {"data_offsets", {entry.begin, entry.end}}};
  }
  std::string text = json.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

/// Takes the header apart as the JSON parser meets its pieces, and throws at the first that has no place in
/// it: so nothing nests deeper than an entry's shape, no name stands twice, and nothing grows beyond the
/// limits.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  Header take() && { return std::move(header_); }

  bool null() override { refuse("null"); }
  bool boolean(bool) override { refuse("a truth value"); }
  bool number_float(double, const std::string& text) override { refuse("the number " + shown(text)); }
  bool binary(binary_t&) override { refuse("binary data"); }

  bool number_integer(std::int64_t number) override {
    refuse("the negative number " + std::to_string(number));
  }

  bool number_unsigned(std::uint64_t number) override {
    if (place_ == Place::shape) {
      if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        refuse("the extent " + std::to_string(number));
      }
      if (entry_->shape.size() == max_rank) refuse("more than " + std::to_string(max_rank) + " dimensions");
      entry_->shape.push_back(static_cast<std::int64_t>(number));
      return true;
    }
    if (place_ == Place::offsets && offsets_ < 2) {
      (offsets_ == 0 ? entry_->begin : entry_->end) = number;
      ++offsets_;
      return true;
    }
    refuse("the number " + std::to_string(number));
  }

  bool string(std::string& text) override {
    if (place_ == Place::metadata) {
      if (!is_metadata_value(text)) refuse("a control character");
      header_.metadata[key_] = std::move(text);
      return true;
    }
    if (place_ == Place::tensor && field_ == Field::dtype) {
      if (text != "F32") refuse("the dtype " + shown(text) + ", where F32 is expected");
      return true;
    }
    refuse("the text " + shown(text));
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::before) {
      place_ = Place::top;
    } else if (place_ == Place::top && tensor_.empty()) {
      place_ = Place::metadata;
    } else if (place_ == Place::top) {
      place_ = Place::tensor;
      fields_seen_ = {};
    } else {
      refuse("an object");
    }
    return true;
  }

  bool key(std::string& name) override {
    if (place_ == Place::top) {
      begin_entry(name);
    } else if (place_ == Place::metadata) {
      begin_metadata(name);
    } else {
      begin_field(name);
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::tensor) {
      for (std::size_t i = 0; i < field_names.size(); ++i) {
        if (!fields_seen_[i]) refuse(std::string("no ") + field_names[i]);
      }
    }
    place_ = place_ == Place::top ? Place::before : Place::top;
    tensor_.clear();
    key_.clear();
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::tensor || field_ == Field::dtype) refuse("a list");
    place_ = field_ == Field::shape ? Place::shape : Place::offsets;
    offsets_ = 0;
    return true;
  }

  bool end_array() override {
    if (place_ == Place::offsets && offsets_ != 2) refuse("data_offsets that are not two numbers");
    place_ = Place::tensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) override {
    throw DataError("its header is not JSON at byte " + std::to_string(position) + ": " + damaged);
  }

 private:
  enum class Place { before, top, metadata, tensor, shape, offsets };
  enum Field : std::size_t { data_offsets, dtype, shape };
  static constexpr std::array<const char*, 3> field_names = {"data_offsets", "dtype", "shape"};

  [[noreturn]] void refuse(const std::string& what) const {
    std::string where = "its header";
    if (!tensor_.empty()) where = "tensor " + tensor_;
    if (place_ == Place::metadata) where = "the metadata";
    if (place_ == Place::metadata && !key_.empty()) where = "the metadata entry " + shown(key_);
    throw DataError(where + " has " + what + ", which docs/file-format.md does not allow: " + damaged);
  }

  void begin_entry(const std::string& name) {
    if (name == metadata_key) {
      if (has_metadata_) refuse("the name __metadata__ twice");
      has_metadata_ = true;
      return;
    }
    if (!is_tensor_name(name)) {
      refuse("the tensor name " + shown(name) + " of " + std::to_string(name.size()) + " bytes");
    }
    if (header_.tensors.size() == max_tensors)
      refuse("more than " + std::to_string(max_tensors) + " tensors");
    const auto [place, is_new] = header_.tensors.try_emplace(name);
    if (!is_new) refuse("the tensor name " + name + " twice");
    entry_ = &place->second;
    tensor_ = name;
  }

  void begin_metadata(const std::string& name) {
    key_.clear();
    if (!is_metadata_name(name)) refuse("the name " + shown(name));
    if (header_.metadata.size() == max_metadata_entries) {
      refuse("more than " + std::to_string(max_metadata_entries) + " entries");
    }
    if (!header_.metadata.try_emplace(name).second) refuse("the name " + shown(name) + " twice");
    key_ = name;
  }

  void begin_field(const std::string& name) {
    const auto found = std::find(field_names.begin(), field_names.end(), name);
    if (found == field_names.end()) refuse("the field " + shown(name));
    field_ = static_cast<Field>(found - field_names.begin());
    if (std::exchange(fields_seen_[field_], true)) refuse("the field " + name + " twice");
  }

  Header header_;
  Place place_ = Place::before;
  bool has_metadata_ = false;
  std::string tensor_;  ///< whose entry is being read; empty outside tensors
  TensorEntry* entry_ = nullptr;
  Field field_ = Field::data_offsets;
  std::array<bool, field_names.size()> fields_seen_{};
  int offsets_ = 0;
  std::string key_;  ///< of the metadata
};

// ------------------------------------------------------------------------------------------ writing

/// What is to be written, without a copy of the values.
struct Content {
  std::map<std::string, const Tensor*> tensors;
  Metadata metadata;
};

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

void check_can_write(const Content& file) {
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

Header header_for(const Content& file) {
  Header header;
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

std::string canonical_for_writing(const Header& header) {
  std::string text;
  try {
    text = canonical(header);
  } catch (const nlohmann::json::type_error&) {
    throw UsageError("a value in its metadata is not UTF-8; give names and texts as UTF-8");
  }
  if (text.size() > max_header_bytes) {
    throw UsageError("its header would have " + std::to_string(text.size()) +
                     " bytes, a file holds at most " + std::to_string(max_header_bytes) +
                     "; use fewer layers or less metadata");
  }
  return text;
}

std::vector<std::uint8_t> bytes_of(const Content& file) {
  check_can_write(file);
  const Header header = header_for(file);
  const std::string text = canonical_for_writing(header);
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

Header parse_header(const std::string& text) {
  HeaderReader reader;
  nlohmann::json::sax_parse(text, &reader);
  return std::move(reader).take();
}

std::string found_in(const Metadata& metadata, const std::string& name) {
  const auto found = metadata.find(name);
  if (found == metadata.end()) throw DataError("its metadata has no entry " + name + ": " + damaged);
  return found->second;
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
void check_layout(const Header& header, std::size_t header_bytes, std::size_t file_bytes) {
  std::uint64_t expected_begin = 0;
  for (const auto& [name, entry] : header.tensors) {
    const std::optional<std::uint64_t> bytes = byte_count(entry.shape);
    const std::optional<std::uint64_t> expected_end = bytes ? sum(expected_begin, *bytes) : std::nullopt;
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
void check_canonical(const Header& header, const std::string& text) {
  if (canonical(header) != text) {
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
  Header header = parse_header(text);
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

// ------------------------------------------------------------------------------------------ models

std::string weight_of(const char* direction, std::size_t layer) {
  return std::string(direction) + "." + std::to_string(layer) + ".weight";
}
std::string bias_of(const char* direction, std::size_t layer) {
  return std::string(direction) + "." + std::to_string(layer) + ".bias";
}

const Tensor& tensor_named(const Tensors& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) throw DataError("tensor " + name + " is missing; give a whole model");
  return found->second;
}

void check_shape(const Tensors& tensors, const std::string& name, const std::vector<std::int64_t>& expected) {
  const Tensor& tensor = tensor_named(tensors, name);
  if (tensor.shape != expected) {
    throw DataError("tensor " + name + " has the shape " + shape_text(tensor.shape) + " where " +
                    shape_text(expected) + " follows from the layers below it; give tensors of one machine");
  }
  if (element_count(expected) != tensor.values.size()) {
    throw DataError("tensor " + name + " has " + std::to_string(tensor.values.size()) +
                    " values, which is not what its shape " + shape_text(expected) +
                    " says; give all of them");
  }
}

/// Row-major position `position` of a shape as "[2,0]".
std::string index_text(const std::vector<std::int64_t>& shape, std::size_t position) {
  std::vector<std::int64_t> index(shape.size());
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    const std::size_t extent = static_cast<std::size_t>(shape[axis]);
    index[axis] = static_cast<std::int64_t>(position % extent);
    position /= extent;
  }
  return shape_text(index);
}

void check_finite(const Tensors& tensors) {
  for (const auto& [name, tensor] : tensors) {
    const auto& values = tensor.values;
    const auto found = std::find_if_not(values.begin(), values.end(), [](float x) { return is_finite(x); });
    if (found != values.end()) {
      const std::string index = index_text(tensor.shape, static_cast<std::size_t>(found - values.begin()));
      throw DataError("tensor " + name + " is not finite at " + index +
                      "; go back to a checkpoint from before training diverged");
    }
  }
}

/// Of an autoregressive prior, weights and what the optimiser keeps of them.
void check_prior_weights(const Model& model, std::int64_t units) {
  for (const Tensors* tensors : {&model.tensors, &model.optimizer}) {
    for (const char* name :
         {"prior.weight", "optimizer.prior.weight.first", "optimizer.prior.weight.second"}) {
      const auto found = tensors->find(name);
      if (found == tensors->end()) continue;
      check_shape(*tensors, name, {units, units});
      check_below_diagonal(name, found->second);
    }
  }
}

/// What must hold of every model, before it is written as after it is read.
void check_model(const Model& model) {
  const std::vector<std::int64_t> sizes = sizes_of(model.tensors);
  if (model.sizes != sizes) {
    throw DataError("its sizes are " + joined(model.sizes) + ", but its tensors form a machine of " +
                    joined(sizes) + "; give tensors and sizes of one machine");
  }
  if (!std::equal(sizes.begin() + 1, sizes.end(), model.settings.layers.begin(),
                  model.settings.layers.end())) {
    throw DataError("its setting layers is " + joined(model.settings.layers) +
                    ", but its tensors form a machine of " + joined(sizes) +
                    "; give the settings of this machine");
  }
  if (model.step < 0) throw DataError("its step is " + std::to_string(model.step) + "; a step is at least 0");
  const bool has_shape = model.height != 0 || model.width != 0;
  if (has_shape && element_count({model.height, model.width}) != static_cast<std::uint64_t>(sizes[0])) {
    throw DataError("its images are " + std::to_string(model.height) + " x " + std::to_string(model.width) +
                    ", but it has " + std::to_string(sizes[0]) +
                    " visible units; give the shape of its own images");
  }
  if (model.settings.prior != prior_of(model.tensors)) {
    throw DataError(std::string("its setting prior is ") + name_of(model.settings.prior) +
                    ", but its tensors are those of a machine with the prior " +
                    name_of(prior_of(model.tensors)) + "; give the settings of this machine");
  }
  check_prior_weights(model, sizes.back());
  check_finite(model.tensors);
  check_finite(model.optimizer);
  check_finite(model.algorithm);
}

Content content_of(const Model& model) {
  check(model.settings);
  check_model(model);
  Content file;
  for (const auto& [name, tensor] : model.tensors) file.tensors[name] = &tensor;
  for (const auto& [name, tensor] : model.optimizer) {
    if (!name.starts_with(optimizer_prefix)) {
      throw UsageError("the optimiser state " + shown(name) +
                       " must have a name that begins with optimizer.");
    }
    file.tensors[name] = &tensor;
  }
  for (const auto& [name, tensor] : model.algorithm) {
    if (!is_algorithm_state(name)) {
      throw UsageError("the algorithm's state " + shown(name) +
                       " must have a name that begins with chain., activation. or fisher.");
    }
    file.tensors[name] = &tensor;
  }
  file.metadata = {{"arithmetic", arithmetic_contract},
                   {"step", std::to_string(model.step)},
                   {"seed", std::to_string(model.settings.seed)},
                   {"sizes", joined(model.sizes)},
                   {"height", std::to_string(model.height)},
                   {"width", std::to_string(model.width)},
                   {"hash", hash_of(model.tensors)}};
  for (const auto& [name, value] : to_pairs(model.settings)) file.metadata[setting_prefix + name] = value;
  for (const auto& [name, value] : model.run) file.metadata[run_prefix + name] = value;
  return file;
}

/// The entry `name`, which is taken out of `metadata`.
std::string taken(Metadata& metadata, const std::string& name) {
  std::string value = found_in(metadata, name);
  metadata.erase(name);
  return value;
}

std::int64_t integer_taken(Metadata& metadata, const std::string& name) {
  const std::string text = taken(metadata, name);
  std::int64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || stop != end) {
    throw DataError("its metadata says " + name + "=" + shown(text) +
                    " where an integer is expected: " + damaged);
  }
  return number;
}

/// The entries that begin with `prefix`, without it, taken out of `metadata`.
Metadata group_taken(Metadata& metadata, const std::string& prefix) {
  Metadata group;
  for (auto entry = metadata.lower_bound(prefix);
       entry != metadata.end() && entry->first.starts_with(prefix);) {
    group[entry->first.substr(prefix.size())] = entry->second;
    entry = metadata.erase(entry);
  }
  return group;
}

void require_equal(const std::string& name, const std::string& stored, const std::string& computed) {
  if (stored != computed) {
    throw DataError("its metadata says " + name + "=" + shown(stored) + ", but its content says " + computed +
                    ": " + damaged);
  }
}

Model model_of(TensorFile file) {
  Metadata& metadata = file.metadata;
  const std::string arithmetic = taken(metadata, "arithmetic");
  if (arithmetic != arithmetic_contract) {
    throw DataError("it was written under the arithmetic contract " + shown(arithmetic) +
                    ", this program computes " + arithmetic_contract +
                    "; use the version of the program that wrote it");
  }
  Model model;
  for (auto entry = file.tensors.begin(); entry != file.tensors.end();) {
    const auto next = std::next(entry);
    if (entry->first.starts_with(optimizer_prefix)) {
      model.optimizer.insert(file.tensors.extract(entry));
    } else if (is_algorithm_state(entry->first)) {
      model.algorithm.insert(file.tensors.extract(entry));
    }
    entry = next;
  }
  model.tensors = std::move(file.tensors);
  model.sizes = sizes_of(model.tensors);
  model.step = integer_taken(metadata, "step");
  model.height = integer_taken(metadata, "height");
  model.width = integer_taken(metadata, "width");
  const Metadata settings = group_taken(metadata, setting_prefix);
  model.settings = settings_from_pairs({settings.begin(), settings.end()});
  model.run = group_taken(metadata, run_prefix);
  model.hash = hash_of(model.tensors);
  require_equal("sizes", taken(metadata, "sizes"), joined(model.sizes));
  require_equal("seed", taken(metadata, "seed"), std::to_string(model.settings.seed));
  require_equal("hash", taken(metadata, "hash"), model.hash);
  if (!metadata.empty()) {
    throw DataError("its metadata has the unknown entry " + shown(metadata.begin()->first) +
                    "; use the version of the program that wrote it");
  }
  check_model(model);
  return model;
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

/// Writes what `make_content` returns.
template <class Make>
void write(const std::string& path, const Make& make_content) {
  const std::vector<std::uint8_t> bytes = about(path, [&] { return bytes_of(make_content()); });
  write_file_atomically(path, bytes.data(), bytes.size());
}

}  // namespace

std::vector<std::int64_t> sizes_of(const Tensors& tensors) {
  std::vector<std::int64_t> sizes;
  std::size_t expected_tensors = 1;  // the prior's biases
  for (std::size_t layer = 1; layer == 1 || tensors.count(weight_of("recognition", layer)) > 0; ++layer) {
    const std::string name = weight_of("recognition", layer);
    const Tensor& weight = tensor_named(tensors, name);
    if (weight.shape.size() != 2 || weight.shape[0] < 1 || weight.shape[1] < 1) {
      throw DataError("tensor " + name + " has the shape " + shape_text(weight.shape) +
                      " where [receiving units, sending units] is expected; give a weight matrix");
    }
    if (sizes.empty()) sizes.push_back(weight.shape[1]);
    const std::int64_t below = sizes.back();
    const std::int64_t above = weight.shape[0];
    check_shape(tensors, name, {above, below});
    check_shape(tensors, bias_of("recognition", layer), {above});
    check_shape(tensors, weight_of("generative", layer), {below, above});
    check_shape(tensors, bias_of("generative", layer), {below});
    sizes.push_back(above);
    expected_tensors += 4;
  }
  check_shape(tensors, "prior.bias", {sizes.back()});
  if (prior_of(tensors) == Prior::autoregressive) {
    check_shape(tensors, "prior.weight", {sizes.back(), sizes.back()});
    ++expected_tensors;
  }
  if (tensors.size() != expected_tensors) {
    throw DataError("it has " + std::to_string(tensors.size()) + " parameter tensors where a machine of " +
                    joined(sizes) + " has " + std::to_string(expected_tensors) +
                    "; remove those that belong to no layer");
  }
  return sizes;
}

std::string hash_of(const Tensors& tensors) {
  Sha256 hash;
  for (const auto& [name, tensor] : tensors) add_tensor(hash, name, tensor);
  return hash.finish();
}

void write_tensor_file(const std::string& path, const TensorFile& file) {
  Content content;
  for (const auto& [name, tensor] : file.tensors) content.tensors[name] = &tensor;
  content.metadata = file.metadata;
  write(path, [&] { return content; });
}

TensorFile read_tensor_file(const std::string& path) {
  const std::vector<std::uint8_t> bytes = read_file(path);
  return about(path, [&] { return parse(bytes); });
}

void save_model(const std::string& path, const Model& model) {
  write(path, [&] { return content_of(model); });
}

Model load_model(const std::string& path) {
  TensorFile file = read_tensor_file(path);
  return about(path, [&] { return model_of(std::move(file)); });
}

}  // namespace wakesleep
