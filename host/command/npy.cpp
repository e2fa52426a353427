#include "command/npy.hpp"

#include <bit>
#include <cstring>

#include "wakesleep/error.hpp"

namespace wakesleep::command {
namespace {

static_assert(std::endian::native == std::endian::little, "values are written as they lie in memory");

template <class T>
std::vector<std::uint8_t> bytes_of(const std::vector<T>& values, const std::string& type, std::int64_t rows,
                                   std::int64_t columns) {
  if (static_cast<std::int64_t>(values.size()) != rows * columns) {
    throw InternalError("an NPY array of " + std::to_string(rows) + " x " + std::to_string(columns) +
                        " was to be made of " + std::to_string(values.size()) + " values");
  }
  std::string header = "{'descr': '" + type + "', 'fortran_order': False, 'shape': (" + std::to_string(rows) +
                       ", " + std::to_string(columns) + "), }";
  // Magic, version and length take 10 bytes; the format wants the values to begin at a multiple of 64.
  header.append(63 - (10 + header.size()) % 64, ' ');
  header.push_back('\n');

  std::vector<std::uint8_t> bytes = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};
  bytes.push_back(static_cast<std::uint8_t>(header.size() & 255));
  bytes.push_back(static_cast<std::uint8_t>(header.size() >> 8));
  bytes.insert(bytes.end(), header.begin(), header.end());
  const std::size_t begin = bytes.size();
  bytes.resize(begin + values.size() * sizeof(T));
  if (!values.empty()) std::memcpy(bytes.data() + begin, values.data(), values.size() * sizeof(T));
  return bytes;
}

}  // namespace

std::vector<std::uint8_t> npy_bytes(const std::vector<float>& values, std::int64_t rows,
                                    std::int64_t columns) {
  return bytes_of(values, "<f4", rows, columns);
}

std::vector<std::uint8_t> npy_bytes(const std::vector<std::uint8_t>& values, std::int64_t rows,
                                    std::int64_t columns) {
  return bytes_of(values, "|u1", rows, columns);
}

}  // namespace wakesleep::command
