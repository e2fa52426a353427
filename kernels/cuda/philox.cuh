// Random words and their addresses (docs/rng.md) as the kernels draw them.
#pragma once

#include <cuda_runtime.h>
#include <curand_philox4x32_x.h>

#include <cstdint>

#include "wakesleep/philox.hpp"

namespace wakesleep::cuda {

static_assert(PHILOX_M4x32_0 == philox::multiplier0 && PHILOX_M4x32_1 == philox::multiplier1 &&
                  PHILOX_W32_0 == philox::weyl0 && PHILOX_W32_1 == philox::weyl1,
              "cuRAND's Philox must be the engine's");

/// philox4x32_10 of philox.hpp, with cuRAND's rounds.
__device__ inline PhiloxBlock random_block(const PhiloxBlock& counter, std::uint64_t key) {
  const uint4 words =
      curand_Philox4x32_10(make_uint4(counter.word[0], counter.word[1], counter.word[2], counter.word[3]),
                           make_uint2(static_cast<unsigned int>(key), static_cast<unsigned int>(key >> 32)));
  return {{words.x, words.y, words.z, words.w}};
}

/// The step that a draw belongs to, read when the kernel runs.
__device__ inline std::uint32_t step_of(const Draw& draw) {
  return draw.first_step + (draw.step != nullptr ? *draw.step : 0u);
}

/// The words of one group of units in an output row, of which there are `samples` for each row of the batch.
__device__ inline PhiloxBlock random_block(const Draw& draw, std::int64_t output_row, std::int64_t samples,
                                           std::int64_t group) {
  std::int64_t row = output_row;
  std::uint32_t step = step_of(draw);
  if (draw.samples == SampleAddress::step) {
    row = output_row / samples;
    step += static_cast<std::uint32_t>(output_row % samples);
  }
  return random_block(
      draw_counter(static_cast<std::uint32_t>(group), draw.first_row + static_cast<std::uint32_t>(row), step,
                   domain_word(draw.domain, draw.layer)),
      draw.seed);
}

/// The words of a group of units in several output rows: what rows have in common is made once.
struct RowDraws {
  std::uint64_t seed;
  std::uint32_t group, first_row, step, domain, samples;  ///< samples: 0 where all rows have one step
  __device__ PhiloxBlock of_row(std::uint32_t output_row) const {
    const bool by_step = samples != 0u;
    const std::uint32_t row = by_step ? output_row / samples : output_row;
    const std::uint32_t sample = by_step ? output_row % samples : 0u;
    return random_block(draw_counter(group, first_row + row, step + sample, domain), seed);
  }
};
__device__ inline RowDraws row_draws(const Draw& draw, std::int64_t samples, std::uint32_t group) {
  return {draw.seed,
          group,
          draw.first_row,
          step_of(draw),
          domain_word(draw.domain, draw.layer),
          draw.samples == SampleAddress::step ? static_cast<std::uint32_t>(samples) : 0u};
}

/// The 16 random bits of unit `index` of a group of eight: the low half of each word first.
__device__ inline std::uint32_t half_word(const PhiloxBlock& block, int index) {
  return (block.word[index >> 1] >> (16 * (index & 1))) & 0xFFFFu;
}

}  // namespace wakesleep::cuda
