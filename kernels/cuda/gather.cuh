// The states of four neighbouring units, from the data set.
#pragma once

#include <cstdint>

#include "kernels/cuda/interface.hpp"
#include "kernels/cuda/philox.cuh"
#include "wakesleep/arithmetic.hpp"

namespace wakesleep::cuda {

/// The states of units 4 * group .. 4 * group + 3, one byte each.
__device__ inline std::uint32_t unpacked_bits(const DataRows& data, const std::uint8_t* bytes,
                                              std::int64_t group) {
  const std::uint32_t byte = bytes[group >> 1];
  const std::uint32_t four = (group & 1) == 0 ? byte >> 4 : byte;  // the first unit is the highest bit
  std::uint32_t states = 0;
  for (int i = 0; i < 4; ++i) {
    if (4 * group + i < data.units) states |= ((four >> (3 - i)) & 1u) << (8 * i);
  }
  return states;
}

__device__ inline std::uint32_t binarized_grey(const DataRows& data, const std::uint8_t* bytes,
                                               std::int64_t group, std::uint32_t row, const Draw& draw) {
  const PhiloxBlock random = random_block(draw_counter(static_cast<std::uint32_t>(group), row, step_of(draw),
                                                       domain_word(draw.domain, draw.layer)),
                                          draw.seed);
  std::uint32_t states = 0;
  for (int i = 0; i < 4; ++i) {
    const std::int64_t unit = 4 * group + i;
    if (unit < data.units) states |= std::uint32_t{sample_grey(bytes[unit], random.word[i])} << (8 * i);
  }
  return states;
}

__device__ inline std::uint32_t fixed_point_grey(const DataRows& data, const std::uint8_t* bytes,
                                                 std::int64_t group) {
  std::uint32_t states = 0;
  for (int i = 0; i < 4; ++i) {
    const std::int64_t unit = 4 * group + i;
    if (unit < data.units) states |= std::uint32_t{fixed_point_of_grey(bytes[unit])} << (8 * i);
  }
  return states;
}

/// states[row], units 4 * group .. 4 * group + 3, as Ops::gather describes.
__device__ inline void gather_group(const DataRows& data, const std::uint32_t* order,
                                    const std::uint32_t* first, const Draw& draw, const States& states,
                                    std::int64_t row, std::int64_t group) {
  const std::uint32_t place = (first != nullptr ? *first : 0u) + static_cast<std::uint32_t>(row);
  const std::uint32_t data_row = order != nullptr ? order[place] : place;
  const std::uint8_t* bytes =
      data.bytes + static_cast<std::int64_t>(data.ordered ? place : data_row) * data.row_bytes;
  const std::uint32_t on = data.fixed_point ? largest_fixed_point_state : 1;
  *reinterpret_cast<std::uint32_t*>(states.data + row * states.stride + 4 * group) =
      !data.grey         ? on * unpacked_bits(data, bytes, group)
      : data.fixed_point ? fixed_point_grey(data, bytes, group)
                         : binarized_grey(data, bytes, group, data_row, draw);
}

}  // namespace wakesleep::cuda
