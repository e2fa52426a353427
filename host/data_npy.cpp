// NPY: a header (data_npy_header.hpp) and an array, whose bytes may be packed bits.
#include <string>
#include <string_view>

#include "data_array.hpp"
#include "data_bits.hpp"
#include "data_formats.hpp"
#include "data_npy_header.hpp"

namespace wakesleep {
namespace {

Element npy_element(const ByteSource& source, const std::string& dtype) {
  const bool has_order = !dtype.empty() && std::string_view("<>|=").find(dtype[0]) != std::string_view::npos;
  const std::string kind = has_order ? dtype.substr(1) : dtype;
  if (kind == "u1") return Element::npy_byte;
  if (kind == "b1") return Element::npy_bool;
  if (dtype == "<f4") return Element::npy_float;
  if (dtype == ">f4") {
    source.fail(
        "holds big-endian float32 values (dtype '>f4'); expected little-endian ones, save the array again "
        "after astype('<f4')");
  }
  std::string printable = dtype.substr(0, 32);
  for (char& c : printable) c = c >= ' ' && c <= '~' ? c : '?';
  source.fail("holds values of dtype '" + printable +
              "'; expected uint8, bool or float32, so convert the array with astype");
}

/// Turns an array of packed bytes into what it stands for, rows of `row_length` units.
void unpack_shape(const ByteSource& source, std::int64_t row_length, DataSet& data) {
  data.grey = false;
  data.units = row_length;
  const unsigned unused = 0xFFu >> ((row_length - 1) % 8 + 1);
  for (std::int64_t r = 0; r < data.rows; ++r) {
    if ((data.row(r)[data.row_bytes - 1] & unused) != 0) {
      source.fail(
          "has bits beyond row length " + std::to_string(row_length) + " set in row " + std::to_string(r) +
          " (counted from 0); expected zeros there, so give the row length that the rows were packed from");
    }
  }
}

}  // namespace

DataSet read_npy(ByteSource& source, std::int64_t row_length) {
  const NpyHeader header = read_npy_header(source);
  const std::size_t dimensions = header.shape.size();
  if (dimensions != 2 && dimensions != 3) {
    source.fail("holds an array of " + std::to_string(dimensions) +
                " dimensions; expected 2 (rows, units) or 3 (rows, height, width)");
  }
  ArrayLayout layout;
  layout.element = npy_element(source, header.dtype);
  layout.fortran_order = header.fortran_order;
  layout.rows = header.shape[0];
  layout.height = dimensions == 3 ? header.shape[1] : 1;
  layout.width = header.shape.back();
  if (row_length > 0) {
    if (layout.element != Element::npy_byte || dimensions != 2) {
      source.fail("does not hold bit-packed rows, which are uint8 in 2 dimensions; leave the row length out");
    }
    if (layout.width != packed_bytes(row_length)) {
      source.fail("has rows of " + std::to_string(layout.width) + " bytes; expected " +
                  std::to_string(packed_bytes(row_length)) + " for bit-packed rows of row length " +
                  std::to_string(row_length) + ", so give the row length that the rows were packed from");
    }
    layout.element = Element::packed_byte;
  }
  DataSet data = read_array(source, layout);
  if (row_length > 0) unpack_shape(source, row_length, data);
  if (dimensions == 3) {
    data.height = layout.height;
    data.width = layout.width;
  }
  return data;
}

}  // namespace wakesleep
