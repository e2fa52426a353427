// IDX: a magic number, three lengths in big-endian order, and bytes.
#include <array>
#include <string>

#include "data_array.hpp"
#include "data_formats.hpp"

namespace wakesleep {
namespace {

std::string idx_type_name(unsigned type) {
  switch (type) {
    case 0x09:
      return "signed bytes";
    case 0x0B:
      return "16-bit integers";
    case 0x0C:
      return "32-bit integers";
    case 0x0D:
      return "32-bit floats";
    case 0x0E:
      return "64-bit floats";
    default:
      return "values of the unknown type " + std::to_string(type);
  }
}

}  // namespace

DataSet read_idx(ByteSource& source) {
  std::array<std::uint8_t, 4> magic{};
  source.read(magic.data(), magic.size());
  const unsigned type = magic[2];
  const unsigned dimensions = magic[3];
  if (type != 0x08) {
    source.fail("is an IDX file of " + idx_type_name(type) + "; expected unsigned bytes");
  }
  if (dimensions == 1) source.fail("holds labels, not images: give the images file");
  if (dimensions != 3) {
    source.fail("is an IDX file of " + std::to_string(dimensions) +
                " dimensions; expected 3 (images, rows, columns)");
  }
  std::array<std::int64_t, 3> shape{};
  for (std::int64_t& length : shape) {
    std::array<std::uint8_t, 4> bytes{};
    source.read(bytes.data(), bytes.size());
    for (const std::uint8_t byte : bytes) length = length << 8 | byte;
  }
  ArrayLayout layout;
  layout.element = Element::idx_byte;
  layout.rows = shape[0];
  layout.height = shape[1];
  layout.width = shape[2];
  DataSet data = read_array(source, layout);
  data.height = layout.height;
  data.width = layout.width;
  return data;
}

}  // namespace wakesleep
