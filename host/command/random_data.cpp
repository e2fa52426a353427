#include "command/random_data.hpp"

#include <algorithm>

#include "wakesleep/philox.hpp"

namespace wakesleep::command {

DataSet random_data(std::int64_t rows, std::int64_t units, std::uint64_t seed) {
  DataSet data;
  data.rows = rows;
  data.units = units;
  data.row_bytes = (units + 7) / 8;
  data.source = "random data";
  data.bytes.resize(static_cast<std::size_t>(rows * data.row_bytes));
  const std::uint32_t domain = domain_word(Domain::binarize_fixed, 0);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t byte = 0; byte < data.row_bytes; ++byte) {
      const auto group = static_cast<std::uint32_t>(byte);
      const PhiloxBlock block =
          philox4x32_10(draw_counter(group, static_cast<std::uint32_t>(r), 0, domain), seed);
      const std::int64_t used = std::min<std::int64_t>(8, units - 8 * byte);
      const std::uint32_t mask = 0xFFu << (8 - used) & 0xFFu;
      data.bytes[static_cast<std::size_t>(r * data.row_bytes + byte)] =
          static_cast<std::uint8_t>(block.word[0] & mask);
    }
  }
  return data;
}

DataSet random_grey_data(std::int64_t rows, std::int64_t units, std::uint64_t seed) {
  DataSet data;
  data.rows = rows;
  data.units = units;
  data.row_bytes = units;
  data.grey = true;
  data.source = "random data";
  data.bytes.resize(static_cast<std::size_t>(rows * units));
  const std::uint32_t domain = domain_word(Domain::binarize_fixed, 0);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t unit = 0; unit < units; unit += 4) {
      const PhiloxBlock block = philox4x32_10(
          draw_counter(static_cast<std::uint32_t>(unit / 4), static_cast<std::uint32_t>(r), 0, domain), seed);
      for (std::int64_t i = 0; i < 4 && unit + i < units; ++i) {
        data.bytes[static_cast<std::size_t>(r * units + unit + i)] =
            static_cast<std::uint8_t>(block.word[i] >> 24);
      }
    }
  }
  return data;
}

}  // namespace wakesleep::command
