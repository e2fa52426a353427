// Data sets: reading, binarizing, splitting. All of it in host memory, one bit per pixel where the
// data is binary, one byte where it is grey.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "wakesleep/ops.hpp"
#include "wakesleep/settings.hpp"

namespace wakesleep {

/// A row's number must fit the 32 bits that a random draw's address has for it.
inline constexpr std::int64_t max_data_rows = 4294967294;

/// Rows of binary or grey values. Binary: row_bytes = ceil(units / 8), first unit = most significant bit of
/// the first byte (numpy.packbits), unused bits zero. Grey: row_bytes = units, 0..255.
struct DataSet {
  std::int64_t rows = 0;
  std::int64_t units = 0;
  std::int64_t row_bytes = 0;
  bool grey = false;
  std::int64_t height = 0;  ///< of an image, 0 when the file does not say and units is no square
  std::int64_t width = 0;
  std::vector<std::uint8_t> bytes;  ///< [rows x row_bytes]
  std::string source;               ///< file name without folders, for messages and summaries

  const std::uint8_t* row(std::int64_t r) const { return bytes.data() + r * row_bytes; }
};

struct ReadOptions {
  std::int64_t row_length = 0;  ///< units of a bit-packed NPY row; 0: the file holds one value per unit
  std::int64_t height = 0;  ///< shape of the images where the file does not say; 0: a square if units is one
  std::int64_t width = 0;
};

/// Reads IDX and IDX.gz (unsigned bytes, 3 dimensions), NPY (uint8, bool, float32 in [0, 1]; 2 or 3
/// dimensions, C or Fortran order; bit-packed rows when row_length is given) and AMAT text (rows of 0/1 or
/// values in [0, 1]). The format is recognised by content, not by name. Values 0 and 1 only (or 0 and 255
/// only in IDX) give a binary set; everything else a grey one, float values as rint(255 x). Throws DataError
/// with file, place (row and column where it applies), what was found and what was expected for: missing,
/// empty, truncated, over-long or gz-broken files; wrong magic, dtype, shape or row length; labels given as
/// images; values that are NaN or out of range; zero rows. Throws UsageError for a negative row length and
/// for an image shape that is half given, does not fit the rows or contradicts the file. Nothing is allocated
/// from a length that the file's size does not bear out.
DataSet read_data(const std::string& path, const ReadOptions& options = {});

/// threshold: value >= threshold; fixed: sampled once at (unit group, row, 0, domain binarize_fixed). dynamic
/// keeps the grey values (they are sampled as batches are gathered). Binary data is returned as it is. Throws
/// UsageError for grey data and a threshold, where there is one, outside 1 .. 255.
DataSet binarize(DataSet data, Binarization how, int threshold, std::uint64_t seed);

/// Takes `count` rows, chosen by draws (domain held_out), out of `data` and returns them; the others keep
/// their order. Throws UsageError when `count` is negative or leaves no row.
DataSet hold_out(DataSet& data, std::int64_t count, std::uint64_t seed);

/// Mean of every unit over the rows, in [0, 1]. Throws DataError where there are no rows.
std::vector<double> unit_means(const DataSet& data);

/// Throws UsageError when the bytes are not those of `rows` rows of `units` units, or an image shape is given
/// that has not that many. What reads a data set begins with it.
void check_layout(const DataSet& data);

/// The data set in a backend's memory.
class DeviceData {
 public:
  /// Copies the rows, so that `data` need not stay. Blocks. Throws UsageError as check_layout() does, and
  /// DeviceError where the memory is not there.
  DeviceData(Ops& ops, const DataSet& data);
  const DataRows& rows() const { return view_; }

 private:
  Buffer<std::uint8_t> bytes_;
  DataRows view_;
};

}  // namespace wakesleep
