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

#if defined(__AVX512F__) || defined(__AVX2__)

// One block to a 64-bit lane, of which the low half counts: one multiplication gives both halves of a
// product, and the garbage that stays in the high halves never reaches a low one.

#if defined(__AVX512F__)

// Lane order 0 4 1 5 2 6 3 7, so that two unpacks at the end put the words of blocks 0..3 and 4..7 in memory
// order.
using Lanes = __m512i;
inline constexpr std::int64_t blocks_of_a_set = 8;
inline constexpr unsigned most_sets = 7;

static inline Lanes lane_numbers() { return _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0); }
static inline Lanes in_every_lane(std::uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
static inline Lanes sum(Lanes x, Lanes y) { return _mm512_add_epi64(x, y); }
static inline Lanes product(Lanes x, Lanes y) { return _mm512_mul_epu32(x, y); }
static inline Lanes high_half(Lanes x) { return _mm512_srli_epi64(x, 32); }
static inline Lanes exclusive_or(Lanes x, Lanes y) { return _mm512_xor_si512(x, y); }
static inline Lanes exclusive_or(Lanes x, Lanes y, Lanes z) {
  return _mm512_ternarylogic_epi64(x, y, z, 0x96);
}
static inline void write_words(const Lanes* c, std::uint32_t* words) {
  const Lanes words01 = _mm512_mask_blend_epi32(0xAAAA, c[0], _mm512_slli_epi64(c[1], 32));
  const Lanes words23 = _mm512_mask_blend_epi32(0xAAAA, c[2], _mm512_slli_epi64(c[3], 32));
  _mm512_storeu_si512(words, _mm512_unpacklo_epi64(words01, words23));
  _mm512_storeu_si512(words + 16, _mm512_unpackhi_epi64(words01, words23));
}

#else

// The same with four blocks a vector; lane order 0 2 1 3.
using Lanes = __m256i;
inline constexpr std::int64_t blocks_of_a_set = 4;
inline constexpr unsigned most_sets = 4;

static inline Lanes lane_numbers() { return _mm256_set_epi64x(3, 1, 2, 0); }
static inline Lanes in_every_lane(std::uint32_t x) { return _mm256_set1_epi32(static_cast<int>(x)); }
static inline Lanes sum(Lanes x, Lanes y) { return _mm256_add_epi64(x, y); }
static inline Lanes product(Lanes x, Lanes y) { return _mm256_mul_epu32(x, y); }
static inline Lanes high_half(Lanes x) { return _mm256_srli_epi64(x, 32); }
static inline Lanes exclusive_or(Lanes x, Lanes y) { return _mm256_xor_si256(x, y); }
static inline Lanes exclusive_or(Lanes x, Lanes y, Lanes z) { return exclusive_or(x, exclusive_or(y, z)); }
static inline void write_words(const Lanes* c, std::uint32_t* words) {
  const Lanes words01 = _mm256_blend_epi32(c[0], _mm256_slli_epi64(c[1], 32), 0xAA);
  const Lanes words23 = _mm256_blend_epi32(c[2], _mm256_slli_epi64(c[3], 32), 0xAA);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(words), _mm256_unpacklo_epi64(words01, words23));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(words + 8), _mm256_unpackhi_epi64(words01, words23));
}

#endif

/// What the blocks of a row share: the keys of the rounds, and of the first two rounds all that the unit
/// group has no part in.
struct RowRounds {
  std::uint32_t keys[philox::rounds][2];
  std::uint32_t key_of_high = 0;         ///< round 0: what the high half of multiplier0 * group is xored with
  std::uint32_t key_of_second_high = 0;  ///< round 1: the same of multiplier1 * (that word)
  std::uint32_t key_of_low = 0;          ///< round 1: the same of the low half of multiplier0 * group
  std::uint32_t last_word = 0;           ///< after round 1

  explicit RowRounds(const RowAddress& address) {
    std::uint32_t key0 = static_cast<std::uint32_t>(address.seed);
    std::uint32_t key1 = static_cast<std::uint32_t>(address.seed >> 32);
    for (auto& key : keys) {
      key[0] = key0;
      key[1] = key1;
      key0 += philox::weyl0;
      key1 += philox::weyl1;
    }
    const std::uint64_t of_step = std::uint64_t{philox::multiplier1} * address.step;
    const std::uint32_t first_word = static_cast<std::uint32_t>(of_step >> 32) ^ address.row ^ keys[0][0];
    const std::uint64_t of_first = std::uint64_t{philox::multiplier0} * first_word;
    key_of_high = address.domain_and_layer ^ keys[0][1];
    key_of_second_high = static_cast<std::uint32_t>(of_step) ^ keys[1][0];
    key_of_low = static_cast<std::uint32_t>(of_first >> 32) ^ keys[1][1];
    last_word = static_cast<std::uint32_t>(of_first);
  }
};

// `sets` vectors at a time hide the latency of the multiplications: the rounds of one set depend on each
// other. `most_sets` is what the registers hold.
template <unsigned sets>
static inline void philox_blocks(const RowRounds& row, std::uint32_t first_group, std::uint32_t* words) {
  const Lanes multiplier0 = in_every_lane(philox::multiplier0);
  const Lanes multiplier1 = in_every_lane(philox::multiplier1);
  Lanes counter[sets][4];
  for (unsigned set = 0; set < sets; ++set) {
    Lanes* c = counter[set];
    const std::uint32_t group = first_group + static_cast<std::uint32_t>(blocks_of_a_set) * set;
    const Lanes product0 = product(multiplier0, sum(lane_numbers(), in_every_lane(group)));
    const Lanes product1 =
        product(multiplier1, exclusive_or(high_half(product0), in_every_lane(row.key_of_high)));
    c[0] = exclusive_or(high_half(product1), in_every_lane(row.key_of_second_high));
    c[1] = product1;
    c[2] = exclusive_or(product0, in_every_lane(row.key_of_low));
    c[3] = in_every_lane(row.last_word);
  }
#pragma GCC unroll 8
  for (int round = 2; round < philox::rounds; ++round) {
    const Lanes key0 = in_every_lane(row.keys[round][0]);
    const Lanes key1 = in_every_lane(row.keys[round][1]);
    for (unsigned set = 0; set < sets; ++set) {
      Lanes* c = counter[set];
      const Lanes product0 = product(multiplier0, c[0]);
      const Lanes product1 = product(multiplier1, c[2]);
      c[0] = exclusive_or(high_half(product1), c[1], key0);
      c[1] = product1;
      c[2] = exclusive_or(high_half(product0), c[3], key1);
      c[3] = product0;
    }
  }
  for (unsigned set = 0; set < sets; ++set) write_words(counter[set], words + 4 * blocks_of_a_set * set);
}

#else

inline constexpr std::int64_t blocks_of_a_set = 1;
inline constexpr unsigned most_sets = 1;
using RowRounds = RowAddress;

template <unsigned sets>
static inline void philox_blocks(const RowRounds& address, std::uint32_t group, std::uint32_t* words) {
  static_assert(sets == 1);
  const PhiloxBlock block =
      philox4x32_10(draw_counter(group, address.row, address.step, address.domain_and_layer), address.seed);
  for (unsigned i = 0; i < 4; ++i) words[i] = block.word[i];
}

#endif

template <unsigned most = most_sets>
static inline void philox_sets(const RowRounds& row, std::uint32_t first_group, std::int64_t sets,
                               std::uint32_t* words) {
  if (sets == most) {
    philox_blocks<most>(row, first_group, words);
  } else if constexpr (most > 1) {
    philox_sets<most - 1>(row, first_group, sets, words);
  }
}

/// Room for the words of words_at_a_time units, a whole number of sets.
struct WordBuffer {
  alignas(64) std::uint32_t words[words_at_a_time];
};

/// The words of groups first_group .. first_group + groups - 1, four a group, in order. Whole sets are
/// written.
static inline void random_words(const RowAddress& address, std::int64_t first_group, std::int64_t groups,
                                WordBuffer& buffer) {
  const RowRounds row(address);
  std::int64_t group = 0;
  std::int64_t sets_left = (groups + blocks_of_a_set - 1) / blocks_of_a_set;
  // As evenly as can be, because a few sets are hardly faster than many.
  for (std::int64_t calls = (sets_left + most_sets - 1) / most_sets; calls > 0; --calls) {
    const std::int64_t sets = (sets_left + calls - 1) / calls;
    philox_sets(row, static_cast<std::uint32_t>(first_group + group), sets, buffer.words + 4 * group);
    group += sets * blocks_of_a_set;
    sets_left -= sets;
  }
}

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
