// Writing NPY files (version 1.0, C order), as numpy.load reads them.
#pragma once

#include <cstdint>
#include <vector>

namespace wakesleep::command {

std::vector<std::uint8_t> npy_bytes(const std::vector<float>& values, std::int64_t rows,
                                    std::int64_t columns);
std::vector<std::uint8_t> npy_bytes(const std::vector<std::uint8_t>& values, std::int64_t rows,
                                    std::int64_t columns);

}  // namespace wakesleep::command
