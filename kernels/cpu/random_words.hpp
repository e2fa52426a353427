// Philox4x32-10 for many consecutive unit groups of one row, vectorised by hand: compilers do not find the 32
// x 32 -> 64 bit multiplications. The generic form is philox4x32_10 of wakesleep/philox.hpp;
// tests/philox_test.cpp compares them.
#pragma once

#include <cstdint>

#include "kernels/cpu/rows.hpp"
#include "wakesleep/philox.hpp"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

/// Units whose words are made at a time, and the room that a buffer of words needs (whole vectors are
/// written).
inline constexpr std::int64_t words_at_a_time = 1024;

#if defined(__AVX512F__)

// Eight blocks in the low halves of 64-bit lanes: one multiplication gives both halves of a product, and the
// garbage that stays in the high halves never reaches a low one. Lane order 0 4 1 5 2 6 3 7, so that two
// unpacks at the end put the words of blocks 0..3 and 4..7 in memory order.
inline constexpr std::int64_t blocks_of_a_set = 8;

// `sets` vectors at a time hide the latency of the multiplications: the rounds of one set depend on each
// other.
template <unsigned sets>
static inline void philox_blocks(const RowAddress& address, std::uint32_t first_group, std::uint32_t* words) {
  const __m512i lane = _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0);
  const __m512i multiplier0 = _mm512_set1_epi64(philox::multiplier0);
  const __m512i multiplier1 = _mm512_set1_epi64(philox::multiplier1);
  __m512i counter[sets][4];
  for (unsigned set = 0; set < sets; ++set) {
    counter[set][0] = _mm512_add_epi64(lane, _mm512_set1_epi64(first_group + 8u * set));
    counter[set][1] = _mm512_set1_epi64(address.row);
    counter[set][2] = _mm512_set1_epi64(address.step);
    counter[set][3] = _mm512_set1_epi64(address.domain_and_layer);
  }
  std::uint32_t key0 = static_cast<std::uint32_t>(address.seed);
  std::uint32_t key1 = static_cast<std::uint32_t>(address.seed >> 32);
  for (int round = 0; round < philox::rounds; ++round) {
    const __m512i keys0 = _mm512_set1_epi64(key0);
    const __m512i keys1 = _mm512_set1_epi64(key1);
    for (unsigned set = 0; set < sets; ++set) {
      __m512i* c = counter[set];
      const __m512i product0 = _mm512_mul_epu32(multiplier0, c[0]);
      const __m512i product1 = _mm512_mul_epu32(multiplier1, c[2]);
      c[0] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(product1, 32), c[1], keys0, 0x96);  // three-way xor
      c[1] = product1;
      c[2] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(product0, 32), c[3], keys1, 0x96);
      c[3] = product0;
    }
    key0 += philox::weyl0;
    key1 += philox::weyl1;
  }
  for (unsigned set = 0; set < sets; ++set) {
    const __m512i* c = counter[set];
    const __m512i words01 = _mm512_mask_blend_epi32(0xAAAA, c[0], _mm512_slli_epi64(c[1], 32));
    const __m512i words23 = _mm512_mask_blend_epi32(0xAAAA, c[2], _mm512_slli_epi64(c[3], 32));
    _mm512_storeu_si512(words + 32 * set, _mm512_unpacklo_epi64(words01, words23));
    _mm512_storeu_si512(words + 32 * set + 16, _mm512_unpackhi_epi64(words01, words23));
  }
}

#elif defined(__AVX2__)

// The same with four blocks a vector; lane order 0 2 1 3.
inline constexpr std::int64_t blocks_of_a_set = 4;

template <unsigned sets>
static inline void philox_blocks(const RowAddress& address, std::uint32_t first_group, std::uint32_t* words) {
  const __m256i lane = _mm256_set_epi64x(3, 1, 2, 0);
  const __m256i multiplier0 = _mm256_set1_epi64x(philox::multiplier0);
  const __m256i multiplier1 = _mm256_set1_epi64x(philox::multiplier1);
  __m256i counter[sets][4];
  for (unsigned set = 0; set < sets; ++set) {
    counter[set][0] = _mm256_add_epi64(lane, _mm256_set1_epi64x(first_group + 4u * set));
    counter[set][1] = _mm256_set1_epi64x(address.row);
    counter[set][2] = _mm256_set1_epi64x(address.step);
    counter[set][3] = _mm256_set1_epi64x(address.domain_and_layer);
  }
  std::uint32_t key0 = static_cast<std::uint32_t>(address.seed);
  std::uint32_t key1 = static_cast<std::uint32_t>(address.seed >> 32);
  for (int round = 0; round < philox::rounds; ++round) {
    const __m256i keys0 = _mm256_set1_epi64x(key0);
    const __m256i keys1 = _mm256_set1_epi64x(key1);
    for (unsigned set = 0; set < sets; ++set) {
      __m256i* c = counter[set];
      const __m256i product0 = _mm256_mul_epu32(multiplier0, c[0]);
      const __m256i product1 = _mm256_mul_epu32(multiplier1, c[2]);
      c[0] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(product1, 32), c[1]), keys0);
      c[1] = product1;
      c[2] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(product0, 32), c[3]), keys1);
      c[3] = product0;
    }
    key0 += philox::weyl0;
    key1 += philox::weyl1;
  }
  for (unsigned set = 0; set < sets; ++set) {
    const __m256i* c = counter[set];
    const __m256i words01 = _mm256_blend_epi32(c[0], _mm256_slli_epi64(c[1], 32), 0xAA);
    const __m256i words23 = _mm256_blend_epi32(c[2], _mm256_slli_epi64(c[3], 32), 0xAA);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(words + 16 * set),
                        _mm256_unpacklo_epi64(words01, words23));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(words + 16 * set + 8),
                        _mm256_unpackhi_epi64(words01, words23));
  }
}

#else

inline constexpr std::int64_t blocks_of_a_set = 1;

template <unsigned sets>
static inline void philox_blocks(const RowAddress& address, std::uint32_t first_group, std::uint32_t* words) {
  for (unsigned set = 0; set < sets; ++set) {
    const PhiloxBlock block = philox4x32_10(
        draw_counter(first_group + set, address.row, address.step, address.domain_and_layer), address.seed);
    for (unsigned i = 0; i < 4; ++i) words[4 * set + i] = block.word[i];
  }
}

#endif

/// Room for the words of words_at_a_time units, a whole number of calls.
struct WordBuffer {
  alignas(64) std::uint32_t words[words_at_a_time];
};

/// The words of groups first_group .. first_group + groups - 1, four a group, in order. Whole sets are
/// written.
static inline void random_words(const RowAddress& address, std::int64_t first_group, std::int64_t groups,
                                WordBuffer& buffer) {
  std::int64_t group = 0;
  const auto write = [&]<unsigned sets>() {
    for (; groups - group > (sets - 1) * blocks_of_a_set; group += sets * blocks_of_a_set) {
      philox_blocks<sets>(address, static_cast<std::uint32_t>(first_group + group), buffer.words + 4 * group);
    }
  };
  write.template operator()<4>();
  write.template operator()<2>();
  write.template operator()<1>();
}

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
