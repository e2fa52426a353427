// Reading data sets: which format a file has, and what shape its images have. Nothing is held beyond the data
// set itself and buffers of a fixed size.
#include <algorithm>
#include <cstdint>
#include <new>
#include <span>
#include <string>
#include <string_view>

#include "data_formats.hpp"
#include "data_source.hpp"
#include "wakesleep/data.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {
namespace {

enum class Format { idx, npy, amat };

Format recognise(ByteSource& source) {
  constexpr std::size_t enough = 64;
  const std::span<const std::uint8_t> at_hand = source.peek(enough);
  const std::span<const std::uint8_t> start = at_hand.first(std::min(enough, at_hand.size()));
  if (start.empty()) source.fail("is empty once decompressed; give a file with data");
  const std::string_view bytes(reinterpret_cast<const char*>(start.data()), start.size());
  if (bytes.starts_with(std::string_view("\0\0", 2))) return Format::idx;
  if (bytes.starts_with("\x93NUMPY")) return Format::npy;
  if (looks_like_text(start)) return Format::amat;

  std::string shown;
  constexpr std::string_view digits = "0123456789abcdef";
  for (const std::uint8_t byte : start.first(std::min<std::size_t>(start.size(), 4))) {
    shown += {' ', digits[byte / 16], digits[byte % 16]};
  }
  source.fail("is in no known format (it begins with the bytes" + shown +
              "); expected IDX, NPY or AMAT text, or one of them compressed by gzip");
}

void check(const ReadOptions& options) {
  if (options.row_length < 0) {
    throw UsageError("row length " + std::to_string(options.row_length) +
                     " is negative; give the units of a row");
  }
  if (options.height < 0 || options.width < 0 || (options.height == 0) != (options.width == 0)) {
    throw UsageError("image shape " + std::to_string(options.height) + " x " + std::to_string(options.width) +
                     " cannot be used; give both height and width, each at least 1, or neither");
  }
}

DataSet read_format(ByteSource& source, Format format, const ReadOptions& options) {
  if (options.row_length > 0 && format != Format::npy) {
    source.fail("is no NPY file, the only kind that holds bit-packed rows; leave the row length out");
  }
  switch (format) {
    case Format::idx:
      return read_idx(source);
    case Format::npy:
      return read_npy(source, options.row_length);
    case Format::amat:
      break;
  }
  return read_amat(source);
}

/// The file's own word first, then the caller's, then a square.
void set_image_shape(const ReadOptions& options, DataSet& data) {
  const std::string asked = std::to_string(options.height) + " x " + std::to_string(options.width);
  if (options.height > 0) {
    std::int64_t product = 0;
    if (__builtin_mul_overflow(options.height, options.width, &product) || product != data.units) {
      throw UsageError("image shape " + asked + " does not fit '" + data.source + "', whose rows have " +
                       std::to_string(data.units) + " units; give a height and width of that product");
    }
    if (data.height > 0 && (data.height != options.height || data.width != options.width)) {
      throw UsageError("image shape " + asked + " contradicts '" + data.source + "', whose images are " +
                       std::to_string(data.height) + " x " + std::to_string(data.width) +
                       "; leave the shape out");
    }
    data.height = options.height;
    data.width = options.width;
  }
  if (data.height > 0) return;
  std::int64_t side = 1;
  while (side < data.units / side) ++side;
  if (side * side == data.units) data.height = data.width = side;
}

}  // namespace

DataSet read_data(const std::string& path, const ReadOptions& options) {
  check(options);
  ByteSource source(path);
  try {
    DataSet data = read_format(source, recognise(source), options);
    data.source = path.substr(path.rfind('/') + 1);
    set_image_shape(options, data);
    return data;
  } catch (const std::bad_alloc&) {
    source.fail("does not fit into this machine's memory; give fewer rows, or bit-packed ones");
  }
}

}  // namespace wakesleep
