// The formats that read_data knows. Each reads a source from its beginning (data_idx.cpp, data_npy.cpp,
// data_amat.cpp), leaves the image shape open where the file says none, and throws DataError, which names the
// file, for whatever is not as the format has it.
#pragma once

#include <cstdint>
#include <span>

#include "data_source.hpp"
#include "wakesleep/data.hpp"

namespace wakesleep {

/// IDX: images of unsigned bytes.
DataSet read_idx(ByteSource& source);

/// NPY: uint8, bool or float32; with a row length above 0, rows of that many bits packed into uint8.
DataSet read_npy(ByteSource& source, std::int64_t row_length);

/// AMAT: numbers separated by white space, a line for every row.
DataSet read_amat(ByteSource& source);
bool looks_like_text(std::span<const std::uint8_t> bytes);

}  // namespace wakesleep
