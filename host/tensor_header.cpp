// The header of a tensor file: its names, its one text, and the reader that takes nothing else.
#include "tensor_header.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "file_messages.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {

// ------------------------------------------------------------------------------------------ names

namespace {

constexpr const char* metadata_key = "__metadata__";
constexpr std::size_t max_name_bytes = 256;

/// Names are printable ASCII without spaces, so that the lines that are hashed cannot be mistaken for others.
bool is_name(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c <= '~'; });
}

}  // namespace

bool is_tensor_name(const std::string& name) {
  return is_name(name) && name.size() <= max_name_bytes && name != metadata_key;
}

bool is_metadata_name(const std::string& name) {
  return is_name(name) && name.find('=') == std::string::npos;
}

bool is_metadata_value(const std::string& value) {
  return std::none_of(value.begin(), value.end(), [](char c) { return (c >= 0 && c < ' ') || c == '\x7f'; });
}

// ------------------------------------------------------------------------------------------ writing

std::string canonical_text(const TensorHeader& header) {
  nlohmann::json json;
  json[metadata_key] = header.metadata;
  for (const auto& [name, entry] : header.tensors) {
    json[name] = {{"dtype", "F32"}, {"shape", entry.shape}, {"data_offsets", {entry.begin, entry.end}}};
  }
  std::string text;
  try {
    text = json.dump();
  } catch (const nlohmann::json::type_error&) {
    throw UsageError("a value in its metadata is not UTF-8; give names and texts as UTF-8");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

// ------------------------------------------------------------------------------------------ reading

namespace {

/// Takes the header apart as the JSON parser meets its pieces, and throws at the first that has no place in
/// it: so nothing nests deeper than an entry's shape, no name stands twice, and nothing grows beyond the
/// limits.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  TensorHeader take() && { return std::move(header_); }

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

  TensorHeader header_;
  Place place_ = Place::before;
  bool has_metadata_ = false;
  std::string tensor_;  ///< whose entry is being read; empty outside tensors
  TensorEntry* entry_ = nullptr;
  Field field_ = Field::data_offsets;
  std::array<bool, field_names.size()> fields_seen_{};
  int offsets_ = 0;
  std::string key_;  ///< of the metadata
};

}  // namespace

TensorHeader parse_tensor_header(const std::string& text) {
  HeaderReader reader;
  nlohmann::json::sax_parse(text, &reader);
  return std::move(reader).take();
}

}  // namespace wakesleep
