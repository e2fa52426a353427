// Rows in whole vectors. Loops over a stretch of units work on local arrays that end with a whole vector, so
// that they need no remainder loop, which costs as much as several vectors; what is here gets the units of a
// row, however many they are, into such arrays and back. (Compilers do neither well: for bytes that become
// 32-bit numbers they shuffle four vectors at a time, with a remainder loop of each length.)
#pragma once

#include <bit>
#include <cstdint>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

inline constexpr std::int64_t vector_units = 16;

/// A stretch's length in whole vectors, and the units of its vectors that are full.
static inline std::int64_t whole_vectors(std::int64_t count) {
  return (count + vector_units - 1) / vector_units * vector_units;
}
static inline std::int64_t full_vectors(std::int64_t count) { return count / vector_units * vector_units; }

#if defined(__AVX512F__)

static inline __mmask16 first_lanes(std::int64_t count) { return static_cast<__mmask16>((1u << count) - 1u); }

/// One vector: to[i] = from[i] for i < count <= 16, and `fill` behind.
template <class T>
static inline void read_vector(const T* from, std::int64_t count, T fill, T* to) {
  static_assert(sizeof(T) == 4);
  const __m512i filled = _mm512_set1_epi32(std::bit_cast<int>(fill));
  _mm512_storeu_si512(to, _mm512_mask_loadu_epi32(filled, first_lanes(count), from));
}

/// to[i] = from[i] for i < count <= 16, of one vector.
static inline void write_vector(const float* from, std::int64_t count, float* to) {
  _mm512_mask_storeu_ps(to, first_lanes(count), _mm512_loadu_ps(from));
}

/// Bytes as 32-bit numbers; 0 where a vector has no unit.
static inline void widen(const std::uint8_t* bytes, std::int64_t count, std::uint32_t* wide) {
  const std::int64_t full = full_vectors(count);
  for (std::int64_t i = 0; i < full; i += vector_units) {
    const __m128i of_vector = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + i));
    _mm512_storeu_si512(wide + i, _mm512_cvtepu8_epi32(of_vector));
  }
  if (full == count) return;
  const __m128i rest = _mm_maskz_loadu_epi8(first_lanes(count - full), bytes + full);
  _mm512_storeu_si512(wide + full, _mm512_cvtepu8_epi32(rest));
}

/// The low bytes of 32-bit numbers.
template <class Wide, class Byte>
static inline void narrow(const Wide* wide, std::int64_t count, Byte* bytes) {
  static_assert(sizeof(Wide) == 4 && sizeof(Byte) == 1);
  const std::int64_t full = full_vectors(count);
  for (std::int64_t i = 0; i < full; i += vector_units) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes + i),
                     _mm512_cvtepi32_epi8(_mm512_loadu_si512(wide + i)));
  }
  if (full == count) return;
  _mm_mask_storeu_epi8(bytes + full, first_lanes(count - full),
                       _mm512_cvtepi32_epi8(_mm512_loadu_si512(wide + full)));
}

#else

template <class T>
static inline void read_vector(const T* from, std::int64_t count, T fill, T* to) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = from[i];
  for (std::int64_t i = count; i < vector_units; ++i) to[i] = fill;
}

static inline void write_vector(const float* from, std::int64_t count, float* to) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = from[i];
}

static inline void widen(const std::uint8_t* bytes, std::int64_t count, std::uint32_t* wide) {
  for (std::int64_t i = 0; i < count; ++i) wide[i] = bytes[i];
  for (std::int64_t i = count; i < whole_vectors(count); ++i) wide[i] = 0;
}

template <class Wide, class Byte>
static inline void narrow(const Wide* wide, std::int64_t count, Byte* bytes) {
  for (std::int64_t i = 0; i < count; ++i) bytes[i] = static_cast<Byte>(wide[i]);
}

#endif

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
