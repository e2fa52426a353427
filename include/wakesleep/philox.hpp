// Random numbers addressed by meaning: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers:
// as easy as 1, 2, 3", SC 2011). There is no generator state: a draw is a pure function of where it is used,
// so splitting a batch over pieces, threads or devices changes nothing. docs/rng.md has the map of addresses.
#pragma once

#include <cstdint>

#include "wakesleep/portable.hpp"

namespace wakesleep {

/// What a draw is for. Values are spaced so that a new purpose never renumbers an old one.
enum class Domain : std::uint32_t {
  wake_sample = 0x10,                ///< h_l ~ q(. | h_{l-1}) in the wake phase
  wake_generative_rounding = 0x18,   ///< rounding of the deltas that train the generative weights
  wake_recognition_rounding = 0x20,  ///< rounding of the wake deltas of the recognition weights
  sleep_sample = 0x28,               ///< h_{l-1} ~ p(. | h_l) in the sleep phase
  sleep_rounding = 0x30,             ///< rounding of the deltas that train the recognition weights
  initial_recognition = 0x40,        ///< initial recognition weights
  initial_generative = 0x48,         ///< initial generative weights
  shuffle = 0x50,                    ///< the order of the training rows in an epoch
  held_out = 0x58,                   ///< which rows a held-out fraction takes
  binarize_fixed = 0x60,             ///< grey values sampled once
  binarize_dynamic = 0x68,           ///< grey values sampled anew each epoch
  evaluation_sample = 0x70,          ///< posterior samples of the likelihood estimate
  evaluation_binarize = 0x78,        ///< grey values sampled for evaluation
  generate_sample = 0x80,            ///< `wakesleep sample`
  encode_sample = 0x88,              ///< `wakesleep encode`, `wakesleep reconstruct`
  chain_acceptance = 0x90,           ///< whether a chain accepts a proposal (joint stochastic approximation)
  partition_dream = 0x98,            ///< dreams of the estimate of a partition function
  partition_sample = 0xA0,           ///< posterior samples given those dreams
};

/// Four 32-bit random words: the value of one address, or one address itself.
struct PhiloxBlock {
  std::uint32_t word[4];
};

namespace philox {
inline constexpr std::uint32_t multiplier0 = 0xD2511F53u;
inline constexpr std::uint32_t multiplier1 = 0xCD9E8D57u;
inline constexpr std::uint32_t weyl0 = 0x9E3779B9u;
inline constexpr std::uint32_t weyl1 = 0xBB67AE85u;
inline constexpr int rounds = 10;
}  // namespace philox

/// The ten rounds. `key` is the run's 64-bit seed, low half first.
WAKESLEEP_HOST_DEVICE PhiloxBlock philox4x32_10(PhiloxBlock counter, std::uint64_t key) {
  std::uint32_t key0 = static_cast<std::uint32_t>(key);
  std::uint32_t key1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < philox::rounds; ++round) {
    const std::uint64_t product0 = static_cast<std::uint64_t>(philox::multiplier0) * counter.word[0];
    const std::uint64_t product1 = static_cast<std::uint64_t>(philox::multiplier1) * counter.word[2];
    counter = {{static_cast<std::uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0,
                static_cast<std::uint32_t>(product1),
                static_cast<std::uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1,
                static_cast<std::uint32_t>(product0)}};
    key0 += philox::weyl0;
    key1 += philox::weyl1;
  }
  return counter;
}

/// The last word of a counter: purpose and layer. Layers stay below 2^24.
WAKESLEEP_HOST_DEVICE std::uint32_t domain_word(Domain domain, std::uint32_t layer) {
  return (static_cast<std::uint32_t>(domain) << 24) | layer;
}

/// Counter of the block that holds the words of units 4g .. 4g+3 (or the 16-bit halves of units 8g .. 8g+7,
/// the low half of each word first).
WAKESLEEP_HOST_DEVICE PhiloxBlock draw_counter(std::uint32_t group, std::uint32_t row, std::uint32_t step,
                                               std::uint32_t domain_and_layer) {
  return {{group, row, step, domain_and_layer}};
}

/// The 64-bit key that a row is sorted by.
WAKESLEEP_HOST_DEVICE std::uint64_t sorting_key(const PhiloxBlock& random) {
  return random.word[0] | static_cast<std::uint64_t>(random.word[1]) << 32;
}

/// How the K samples of one input row are told apart by their addresses.
enum class SampleAddress : std::uint32_t {
  row,   ///< training: row = first_row + output row, one step for all
  step,  ///< evaluation: row = first_row + output row / K, step = first_step + output row mod K
};

/// The addresses of the draws of one operation over a batch.
struct Draw {
  std::uint64_t seed = 0;
  Domain domain = Domain::wake_sample;
  std::uint32_t layer = 0;
  std::uint32_t first_row = 0;   ///< global row of the first row (before any split of the batch)
  std::uint32_t first_step = 0;  ///< added to *step
  const std::uint32_t* step =
      nullptr;  ///< in the backend's memory, read when the operation runs; may be null
  SampleAddress samples = SampleAddress::row;
};

}  // namespace wakesleep
