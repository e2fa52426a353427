// The values of an IDX or NPY file behind its header: an array of bytes, truth values or floats.
#pragma once

#include <cstdint>
#include <string>

#include "data_lines.hpp"
#include "data_source.hpp"
#include "wakesleep/data.hpp"

namespace wakesleep {

/// How the values of an IDX or NPY file lie: line after line, a line being a row of the data set in C order,
/// and one unit of all rows in Fortran order.
struct ArrayLayout {
  Element element = Element::idx_byte;
  std::int64_t rows = 0;
  std::int64_t height = 1;  ///< a row is a height x width image, or 1 x units
  std::int64_t width = 0;
  bool fortran_order = false;

  std::int64_t columns() const { return height * width; }
  std::int64_t lines() const { return fortran_order ? columns() : rows; }
  std::int64_t line_length() const { return fortran_order ? rows : columns(); }
  std::int64_t element_bytes() const { return element == Element::npy_float ? 4 : 1; }

  /// In Fortran order the first index runs fastest: line y + height x holds column y width + x.
  std::int64_t column_of_line(std::int64_t line) const { return line % height * width + line / height; }
  std::int64_t line_of_column(std::int64_t column) const { return column % width * height + column / width; }

  std::string place(std::int64_t line, std::int64_t position) const {
    const std::int64_t row = fortran_order ? position : line;
    const std::int64_t column = fortran_order ? column_of_line(line) : position;
    return "row " + std::to_string(row) + ", column " + std::to_string(column) + " (counted from 0)";
  }
};

/// Reads the values, of which the source holds nothing else any more.
DataSet read_array(ByteSource& source, const ArrayLayout& layout);

}  // namespace wakesleep
