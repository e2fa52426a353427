// Small data: grey sets in memory, and files made from the definitions of their formats.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "wakesleep/data.hpp"

namespace wakesleep::testing {

using Bytes = std::vector<std::uint8_t>;

inline Bytes bytes_of(const std::string& text) { return Bytes(text.begin(), text.end()); }

/// Rows of `units` grey values each.
inline DataSet grey_data(std::int64_t units, Bytes values) {
  DataSet data;
  data.rows = static_cast<std::int64_t>(values.size()) / units;
  data.units = data.row_bytes = units;
  data.grey = true;
  data.bytes = std::move(values);
  data.source = "generated";
  return data;
}

inline void write_bytes(const std::filesystem::path& path, const Bytes& bytes) {
  std::filesystem::remove(path);  // some file systems are slow to truncate
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) std::abort();
}

// ------------------------------------------------------------------------------------ formats

/// `type` is IDX's code of the values: 8 for bytes.
inline Bytes idx_header(std::uint8_t type, const std::vector<std::int64_t>& shape) {
  Bytes bytes = {0, 0, type, static_cast<std::uint8_t>(shape.size())};
  for (const std::int64_t length : shape) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<std::uint8_t>(length >> shift));
  }
  return bytes;
}

inline Bytes npy_with_dictionary(const std::string& dictionary, const Bytes& payload, int version = 1) {
  const std::size_t length_bytes = version == 1 ? 2 : 4;
  std::string padded = dictionary;
  while ((8 + length_bytes + padded.size() + 1) % 64 != 0) padded += ' ';
  padded += '\n';
  Bytes bytes = {0x93, 'N', 'U', 'M', 'P', 'Y', static_cast<std::uint8_t>(version), 0};
  for (std::size_t i = 0; i < length_bytes; ++i) {
    bytes.push_back(static_cast<std::uint8_t>(padded.size() >> (8 * i)));
  }
  bytes.insert(bytes.end(), padded.begin(), padded.end());
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  return bytes;
}

/// `shape` as Python writes it: "(2, 3)".
inline std::string npy_dictionary(const std::string& dtype, const std::string& shape,
                                  bool fortran_order = false) {
  return "{'descr': '" + dtype + "', 'fortran_order': " + (fortran_order ? "True" : "False") +
         ", 'shape': " + shape + ", }";
}

inline Bytes gz(const Bytes& content) {
  z_stream stream{};
  if (deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK) std::abort();
  Bytes compressed(deflateBound(&stream, content.size()));
  Bytes input = content;
  stream.next_in = input.data();
  stream.avail_in = static_cast<uInt>(input.size());
  stream.next_out = compressed.data();
  stream.avail_out = static_cast<uInt>(compressed.size());
  if (deflate(&stream, Z_FINISH) != Z_STREAM_END) std::abort();
  compressed.resize(stream.total_out);
  deflateEnd(&stream);
  return compressed;
}

}  // namespace wakesleep::testing
