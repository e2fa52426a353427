// The only file compiled with AVX2 besides the row kernels. Nothing in it may be an inline function that
// others share: the linker could choose its AVX2 form for a processor without AVX2.
#include "kernels/cpu/avx2_product.hpp"

#include <immintrin.h>

#include <cstring>

namespace wakesleep::cpu {
namespace {

// -------------------------------------------------------------------------------- multiplication
// A tile of the result stays in registers while all steps go by.

std::int64_t at_most(std::int64_t limit, std::int64_t count) { return count < limit ? count : limit; }

constexpr int tile_rows = 4;
constexpr int tile_vectors = 2;
constexpr std::int64_t vector_columns = 8;  // of 4 bytes
static_assert(tile_vectors * vector_columns == panel_columns);

using Tile = __m256i[tile_rows][tile_vectors];

/// 0/1 states as 16-bit terms on the left, 16-bit weights on the right.
struct StateWords {
  /// Sums are of 32 bits, and they fit.
  static constexpr std::int64_t exact_steps = INT64_MAX;
  static __m256i multiply(__m256i states, __m256i weights) { return _mm256_madd_epi16(states, weights); }
  static __m256i add(__m256i sums, __m256i terms) { return _mm256_add_epi32(sums, terms); }
  static __m256i widen(__m256i sums) { return sums; }
};

/// 0/1 states on the left, 8-bit weights on the right: a step adds two terms to each of a column's two 16-bit
/// sums.
struct StateBytes {
  /// Two terms are at most 2 * 127 in magnitude, and 128 * 254 = 32512 <= 32767. (Terms of -128 would do,
  /// too: 128 * -256 = -32768.)
  static constexpr std::int64_t exact_steps = 128;
  static __m256i multiply(__m256i states, __m256i weights) { return _mm256_maddubs_epi16(states, weights); }
  static __m256i add(__m256i sums, __m256i terms) { return _mm256_add_epi16(sums, terms); }
  static __m256i widen(__m256i sums) { return _mm256_madd_epi16(sums, _mm256_set1_epi16(1)); }
};

/// 8-bit deltas on the left, 0/1 states on the right. The instruction wants the unsigned operand first.
struct DeltaBytes : StateBytes {
  static __m256i multiply(__m256i deltas, __m256i states) { return _mm256_maddubs_epi16(states, deltas); }
};

/// The steps of one tile: its rows of the left operand, and a panel.
struct Steps {
  const std::uint8_t* left;
  std::int64_t row_stride;
  std::int64_t step_stride;
  std::int64_t rows;  ///< where fewer than the tile's, the first is read instead of those that are not there
  const std::uint8_t* right;
  std::int64_t count;
  std::int32_t zero =
      0;  ///< what sums begin from; where g++ 12 knows it, it copies all registers in every step
};

/// Where a tile goes: as many of its rows and columns as the result has.
struct Result {
  std::int32_t* first;
  std::int64_t stride;
  std::int64_t rows;
  std::int64_t columns;
};

/// result = (or +=) left . right for a whole tile, over so few steps that no sum overflows.
template <class Operands>
[[gnu::noinline]] void multiply_steps(const Steps& steps, bool add, std::int32_t* result,
                                      std::int64_t stride) {
  const std::uint8_t* left[tile_rows];
  Tile sums;
#pragma GCC unroll 4
  for (int r = 0; r < tile_rows; ++r) {
    left[r] = steps.left + (r < steps.rows ? r * steps.row_stride : 0);
#pragma GCC unroll 4
    for (int v = 0; v < tile_vectors; ++v) sums[r][v] = _mm256_set1_epi32(steps.zero);
  }
  for (std::int64_t step = 0; step < steps.count; ++step) {
    __m256i columns[tile_vectors];
#pragma GCC unroll 4
    for (int v = 0; v < tile_vectors; ++v) {
      columns[v] =
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(steps.right) + step * tile_vectors + v);
    }
#pragma GCC unroll 4
    for (int r = 0; r < tile_rows; ++r) {
      std::int32_t bytes;
      std::memcpy(&bytes, left[r] + step * steps.step_stride, sizeof bytes);
      const __m256i row = _mm256_set1_epi32(bytes);
#pragma GCC unroll 4
      for (int v = 0; v < tile_vectors; ++v) {
        sums[r][v] = Operands::add(sums[r][v], Operands::multiply(row, columns[v]));
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < tile_rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < tile_vectors; ++v) {
      __m256i* const to = reinterpret_cast<__m256i*>(result + r * stride) + v;
      const __m256i wide = Operands::widen(sums[r][v]);
      _mm256_storeu_si256(to, add ? _mm256_add_epi32(_mm256_loadu_si256(to), wide) : wide);
    }
  }
}

/// result = (or +=) left . right over any number of steps, which are used up.
template <class Operands>
void multiply_tile(Steps& steps, bool add, const Result& result) {
  const bool whole = result.rows == tile_rows && result.columns == panel_columns;
  std::int32_t part[tile_rows * panel_columns];
  std::int32_t* const tile = whole ? result.first : part;
  const std::int64_t stride = whole ? result.stride : panel_columns;
  bool begun = whole && add;
  std::int64_t remaining = steps.count;
  while (remaining > 0) {
    steps.count = at_most(Operands::exact_steps, remaining);
    multiply_steps<Operands>(steps, begun, tile, stride);
    steps.left += steps.count * steps.step_stride;
    steps.right += steps.count * panel_columns * step_bytes;
    remaining -= steps.count;
    begun = true;
  }
  if (whole) return;
  for (std::int64_t r = 0; r < result.rows; ++r) {
    for (std::int64_t c = 0; c < result.columns; ++c) {
      std::int32_t& sum = result.first[r * result.stride + c];
      sum = (add ? sum : 0) + part[r * panel_columns + c];
    }
  }
}

// -------------------------------------------------------------------------------- forward
// Tiles of 4 rows x 16 receiving units.

/// `left`: rows of steps, `row_stride` bytes apart. A panel stays in the cache while all rows go by.
template <class Operands>
void forward(const std::uint8_t* left, std::int64_t row_stride, std::int64_t rows, const std::uint8_t* panels,
             std::int64_t steps, std::int64_t receiving, std::int32_t* sums) {
  for (std::int64_t unit = 0; unit < receiving; unit += panel_columns) {
    const std::uint8_t* panel = panels + unit * steps * step_bytes;
    for (std::int64_t r = 0; r < rows; r += tile_rows) {
      const Result result = {sums + r * receiving + unit, receiving, at_most(tile_rows, rows - r),
                             at_most(panel_columns, receiving - unit)};
      Steps tile = {left + r * row_stride, row_stride, step_bytes, result.rows, panel, steps};
      multiply_tile<Operands>(tile, false, result);
    }
  }
}

void forward_bytes(ConstStates states, const std::uint8_t* weights, std::int64_t receiving,
                   std::int32_t* sums) {
  forward<StateBytes>(states.data, states.stride, states.rows, weights, steps_for(states.columns, 1),
                      receiving, sums);
}

void forward_words(ConstStates states, const std::uint8_t* weights, std::int64_t receiving,
                   std::uint8_t* scratch, std::int32_t* sums) {
  const std::int64_t steps = steps_for(states.columns, 2);
  const std::int64_t row_bytes = steps * step_bytes;
  for (std::int64_t r = 0; r < states.rows; ++r) {
    std::int16_t* words = reinterpret_cast<std::int16_t*>(scratch + r * row_bytes);
    for (std::int64_t j = 0; j < states.columns; ++j) words[j] = states.row(r)[j];
    for (std::int64_t j = states.columns; j < 2 * steps; ++j) words[j] = 0;
  }
  forward<StateWords>(scratch, row_bytes, states.rows, weights, steps, receiving, sums);
}

// -------------------------------------------------------------------------------- gradient
// Tiles of 4 receiving x 16 sending units, whose steps are 4 rows of the batch.

constexpr std::int64_t step_rows = 4;
constexpr std::int64_t step_tile_bytes = tile_rows * step_bytes;

/// 16 bytes from `column` on of row `row`; zeros beyond the last of either.
template <class T>
__m128i load_row(const Matrix<const T>& matrix, std::int64_t row, std::int64_t column) {
  if (row >= matrix.rows) return _mm_setzero_si128();
  const T* from = matrix.row(row) + column;
  const std::int64_t count = at_most(panel_columns, matrix.columns - column);
  if (count == panel_columns) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  __m128i bytes = _mm_setzero_si128();
  std::memcpy(&bytes, from, static_cast<std::size_t>(count));
  return bytes;
}

/// The step from row `row` on: 16 columns with their 4 rows together, in groups of 4 columns `group_stride`
/// bytes apart.
///
///     row     a0 a1 a2 ...
///     row + 1 b0 b1 b2 ...    ->   a0 b0 c0 d0  a1 b1 c1 d1  a2 b2 c2 d2  a3 b3 c3 d3 | a4 ...
///     row + 2 c0 c1 c2 ...
///     row + 3 d0 d1 d2 ...
template <class T>
void pack_step(const Matrix<const T>& matrix, std::int64_t row, std::int64_t column, std::uint8_t* packed,
               std::int64_t group_stride) {
  const __m128i a = load_row(matrix, row, column);
  const __m128i b = load_row(matrix, row + 1, column);
  const __m128i c = load_row(matrix, row + 2, column);
  const __m128i d = load_row(matrix, row + 3, column);
  const __m128i ab_low = _mm_unpacklo_epi8(a, b), ab_high = _mm_unpackhi_epi8(a, b);
  const __m128i cd_low = _mm_unpacklo_epi8(c, d), cd_high = _mm_unpackhi_epi8(c, d);
  const __m128i groups[4] = {_mm_unpacklo_epi16(ab_low, cd_low), _mm_unpackhi_epi16(ab_low, cd_low),
                             _mm_unpacklo_epi16(ab_high, cd_high), _mm_unpackhi_epi16(ab_high, cd_high)};
  for (int g = 0; g < 4; ++g) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(packed + g * group_stride), groups[g]);
  }
}

void gradient(ConstDeltas deltas, ConstStates states, Range units, std::uint8_t* scratch,
              std::int32_t* gradient) {
  const std::int64_t receiving = units.end - units.begin;
  for (std::int64_t first = 0; first < deltas.rows; first += gradient_rows) {
    const std::int64_t steps = steps_for(at_most(gradient_rows, deltas.rows - first), 1);
    const std::int64_t tile_bytes = steps * step_tile_bytes;
    // The deltas tile by tile, each step by step.
    std::uint8_t* const left = scratch;
    for (std::int64_t i = 0; i < receiving; i += panel_columns) {
      for (std::int64_t step = 0; step < steps; ++step) {
        pack_step(deltas, first + step * step_rows, units.begin + i,
                  left + i / tile_rows * tile_bytes + step * step_tile_bytes, tile_bytes);
      }
    }
    std::uint8_t* const panel = scratch + panel_bytes(steps * step_rows, receiving, 1);
    for (std::int64_t j = 0; j < states.columns; j += panel_columns) {
      for (std::int64_t step = 0; step < steps; ++step) {
        pack_step(states, first + step * step_rows, j, panel + step * panel_columns * step_bytes,
                  4 * step_bytes);
      }
      for (std::int64_t i = 0; i < receiving; i += tile_rows) {
        const Result result = {gradient + i * states.columns + j, states.columns,
                               at_most(tile_rows, receiving - i), at_most(panel_columns, states.columns - j)};
        Steps tile = {
            left + i / tile_rows * tile_bytes, step_bytes, step_tile_bytes, tile_rows, panel, steps};
        multiply_tile<DeltaBytes>(tile, first > 0, result);
      }
    }
  }
}

}  // namespace

namespace avx2 {
extern const Avx2Products products;
const Avx2Products products = {
    .forward_bytes = forward_bytes, .forward_words = forward_words, .gradient = gradient};
}  // namespace avx2

}  // namespace wakesleep::cpu
