// Random rows to measure with: data that needs no file.
#pragma once

#include <cstdint>

#include "wakesleep/data.hpp"

namespace wakesleep::command {

/// Fair coin flips by addressed draws.
DataSet random_data(std::int64_t rows, std::int64_t units, std::uint64_t seed);

/// Grey values by addressed draws, every one as likely.
DataSet random_grey_data(std::int64_t rows, std::int64_t units, std::uint64_t seed);

}  // namespace wakesleep::command
