// Non-owning, typed views of row-major matrices in a backend's memory.
#pragma once

#include <cstdint>
#include <type_traits>

namespace wakesleep {

/// Rows of `columns` elements, `stride` elements apart. The memory belongs to a Buffer somewhere else, and on
/// a GPU backend it is device memory: only operations of the same backend may touch it.
template <class T>
struct Matrix {
  T* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t stride = 0;

  T* row(std::int64_t r) const { return data + r * stride; }
  Matrix first_rows(std::int64_t count) const { return {data, count, columns, stride}; }
  operator Matrix<const T>() const requires(!std::is_const_v<T>) { return {data, rows, columns, stride}; }
};

/// States of a batch: one row per sample, one byte per unit, each 0 or 1, or 0 to 127 where they are fixed
/// point (arithmetic.hpp). The bytes between `columns` and `stride` are padding and hold anything.
using States = Matrix<std::uint8_t>;
using ConstStates = Matrix<const std::uint8_t>;

/// Stochastically rounded deltas of a batch: one row per sample, one signed byte per unit, in [-127, 127].
using Deltas = Matrix<std::int8_t>;
using ConstDeltas = Matrix<const std::int8_t>;

/// The stride of a row of `units` states or deltas: whole 64-byte lines, which is also what int8 tensor cores
/// need.
constexpr std::int64_t padded_units(std::int64_t units) { return (units + 63) / 64 * 64; }

}  // namespace wakesleep
