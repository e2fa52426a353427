// Tiles of a gradient, deltas^T . states, by the matrix units: both operands come to shared memory as they lie,
// with the units of a row side by side, and are transposed on their way to the registers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/copies.cuh"
#include "kernels/cuda/four_by_four.cuh"
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/several.cuh"

namespace wakesleep::cuda {

inline constexpr int segment = 16;          ///< bytes of a row that are copied together, and units of a tile
inline constexpr int rows_of_product = 32;  ///< summed over by one product of mma.cuh
inline constexpr int shared_bytes = 48 << 10;  ///< that a block may have without asking for more
inline constexpr int most_stages = 6;          ///< chunks that are there or on their way

/// How a block's tile of receiving by sending units is shared out: warps down (over receiving units) and
/// across, each with so many pairs of segments in both directions; and how many rows of the batch are summed
/// over between two barriers.
template <int warps_down_, int warps_across_, int down_, int across_, int chunk_>
struct GradientTiling {
  static constexpr int warps_down = warps_down_, warps_across = warps_across_, down = down_, across = across_;
  static constexpr int chunk = chunk_;
  static constexpr int warps = warps_down * warps_across;
  static constexpr int threads = warp_lanes * warps;
  static constexpr int receiving = segment * warps_down * down;
  static constexpr int sending = segment * warps_across * across;
};
using LargestGradientTiling = GradientTiling<2, 8, 2, 2, 32>;  ///< 64 receiving by 256 sending units
using LargeGradientTiling = GradientTiling<2, 4, 2, 2, 64>;    ///< 64 by 128
using SmallGradientTiling = GradientTiling<1, 8, 1, 1, 64>;    ///< 16 by 128

/// Where a segment of a row of a chunk lies in shared memory, in segments of 16 bytes. Those of a row are
/// stored in an order that depends on the row, so that eight rows' segments of one number, as
/// load_matrices_transposed reads them, lie in different banks.
template <int segments>
__device__ std::int32_t segment_place(std::int32_t row, std::int32_t number) {
  constexpr int at_once = segments < 8 ? segments : 8;  // of a row, in different banks
  constexpr int rows_of_banks = 8 / at_once;
  static_assert(at_once * rows_of_banks == 8 && segments % at_once == 0);
  return row * segments + (number ^ (row / rows_of_banks % at_once));
}

/// Copies the rows of chunks of a matrix of bytes, so many segments wide. A thread always copies the same
/// segments of the same rows of a chunk.
template <int threads, int segments, int chunk>
struct RowCopies {
  static constexpr int all = chunk * segments;
  static constexpr int bytes = all * segment;
  static constexpr int rows_apart = threads / segments;  ///< of what one thread copies
  static constexpr int of_thread = (all + threads - 1) / threads;
  static_assert(rows_apart * segments == threads);

  const std::byte* from;  ///< the first segment of the next chunk
  std::int64_t chunk_bytes;
  std::int64_t apart;  ///< bytes
  std::int32_t row;    ///< of the matrix
  std::int32_t rows;   ///< that there are
  bool has_segment;

  template <class Byte>
  __device__ RowCopies(const Matrix<const Byte>& matrix, std::int32_t first_unit)
      : chunk_bytes(chunk * matrix.stride),
        apart(rows_apart * matrix.stride),
        row(static_cast<std::int32_t>(threadIdx.x) / segments),
        rows(static_cast<std::int32_t>(matrix.rows)) {
    const std::int32_t unit = first_unit + static_cast<std::int32_t>(threadIdx.x) % segments * segment;
    has_segment = unit < matrix.stride;
    from = reinterpret_cast<const std::byte*>(matrix.data) + row * matrix.stride + (has_segment ? unit : 0);
  }
  /// Rows behind the last become zeros.
  __device__ void begin(std::byte* stage) {
    const std::int32_t own_row = static_cast<std::int32_t>(threadIdx.x) / segments;
    const std::int32_t number = static_cast<std::int32_t>(threadIdx.x) % segments;
#pragma unroll
    for (int i = 0; i < of_thread; ++i) {
      const std::int32_t row_of_chunk = own_row + i * rows_apart;
      if (of_thread * threads != all && row_of_chunk >= chunk) break;
      begin_copy(stage + segment * segment_place<segments>(row_of_chunk, number), from + i * apart,
                 has_segment && row + i * rows_apart < rows);
    }
    from += chunk_bytes;
    row += chunk;
  }
};

/// 16 neighbouring units and 32 rows as a lane has them for products that sum over rows, which take the rows
/// in another order than that of the memory, the same on both sides: the lane's are 2 member and
/// 2 member + 1 of each eight.
struct SixteenUnits {
  std::uint32_t even[2];  ///< of unit 2 group, 16 rows in each word's lanes
  std::uint32_t odd[2];   ///< of unit 2 group + 1
};
template <int segments>
__device__ SixteenUnits sixteen_units(const std::byte* rows, std::int32_t first_row, std::int32_t number,
                                      std::int32_t lane) {
  std::uint32_t pairs[4];  // of units, in two rows each
  load_matrices_transposed(pairs, rows + segment * segment_place<segments>(first_row + lane, number));
  return {{__byte_perm(pairs[0], pairs[1], 0x6420), __byte_perm(pairs[2], pairs[3], 0x6420)},
          {__byte_perm(pairs[0], pairs[1], 0x7531), __byte_perm(pairs[2], pairs[3], 0x7531)}};
}

/// What a lane has of its warp's tiles of the gradient, 16 receiving by 16 sending units each: in every tile
/// receiving units 2 group and 2 group + 1, and sending units 4 member .. 4 member + 3.
template <class Shape>
struct Gradient {
  /// In the products, rows 0 .. 7 are receiving units with even numbers and rows 8 .. 15 those with odd ones;
  /// columns are sending units with even numbers, then those with odd ones.
  std::int32_t of_even[Shape::down][Shape::across][4] = {};
  std::int32_t of_odd[Shape::down][Shape::across][4] = {};
  /// This lane's part of the sums of receiving units' deltas.
  std::int32_t bias[Shape::down][2] = {};

  /// Adds the products of a chunk. `receiving` and `sending` are numbers of the warp's first segments.
  __device__ void add(const std::byte* deltas, const std::byte* states, std::int32_t receiving,
                      std::int32_t sending, std::int32_t lane, bool sums_biases) {
#pragma unroll
    for (int first_row = 0; first_row < Shape::chunk; first_row += rows_of_product) {
      std::uint32_t left[Shape::down][4];
#pragma unroll
      for (int i = 0; i < Shape::down; ++i) {
        const SixteenUnits of =
            sixteen_units<Shape::receiving / segment>(deltas, first_row, receiving + i, lane);
        left[i][0] = of.even[0];
        left[i][1] = of.odd[0];
        left[i][2] = of.even[1];
        left[i][3] = of.odd[1];
        if (!sums_biases) continue;
#pragma unroll
        for (int k = 0; k < 4; ++k) bias[i][k % 2] = plus_bytes(bias[i][k % 2], left[i][k]);
      }
#pragma unroll
      for (int j = 0; j < Shape::across; ++j) {
        const SixteenUnits of = sixteen_units<Shape::sending / segment>(states, first_row, sending + j, lane);
#pragma unroll
        for (int i = 0; i < Shape::down; ++i) {
          multiply_add(of_even[i][j], left[i], of.even);
          multiply_add(of_odd[i][j], left[i], of.odd);
        }
      }
    }
  }
  /// The sum of a receiving unit's deltas, in each of the four lanes that have the unit. Of warps that sum
  /// biases; all lanes must call it.
  __device__ std::int32_t bias_sum(int i, int odd) const {
    std::int32_t sum = bias[i][odd];
    sum += __shfl_xor_sync(0xFFFFFFFFu, sum, 1);
    return sum + __shfl_xor_sync(0xFFFFFFFFu, sum, 2);
  }
  /// Adds to what four() gives.
  __device__ void add_four(int i, int j, int odd, const Several<std::int32_t, 4>& more) {
    of_even[i][j][2 * odd] += more.element[0];
    of_odd[i][j][2 * odd] += more.element[1];
    of_even[i][j][2 * odd + 1] += more.element[2];
    of_odd[i][j][2 * odd + 1] += more.element[3];
  }
  /// Of receiving unit 2 group + odd, with respect to four neighbouring sending units.
  __device__ Several<std::int32_t, 4> four(int i, int j, int odd) const {
    return {{of_even[i][j][2 * odd], of_odd[i][j][2 * odd], of_even[i][j][2 * odd + 1],
             of_odd[i][j][2 * odd + 1]}};
  }
};

/// The shared memory that a block makes its tile in.
template <class Shape>
struct GradientMemory {
  using DeltaCopies = RowCopies<Shape::threads, Shape::receiving / segment, Shape::chunk>;
  using StateCopies = RowCopies<Shape::threads, Shape::sending / segment, Shape::chunk>;
  static constexpr int stage_bytes = DeltaCopies::bytes + StateCopies::bytes;
  static constexpr int stages =
      shared_bytes / stage_bytes < most_stages ? shared_bytes / stage_bytes : most_stages;
  static_assert(stages >= 2);
  uint4 lines[stages * stage_bytes / sizeof(uint4)];
};

/// The calling thread's place in a block's tile, and where its lane's part of the gradient begins.
template <class Shape>
struct GradientPlace {
  std::int32_t thread, lane, warp, member;
  std::int32_t warp_down, warp_across;     ///< segments
  std::uint32_t blocks_across;             ///< tiles
  std::uint32_t block_down, block_across;  ///< likewise
  std::int32_t first_unit, first_sending;  ///< of the tile
  std::int32_t own_unit, own_sending;
  bool sums_biases;  ///< the same for all lanes of a warp

  __device__ explicit GradientPlace(std::int32_t sending)
      : thread(static_cast<std::int32_t>(threadIdx.x)),
        lane(thread % warp_lanes),
        warp(thread / warp_lanes),
        member(lane % 4),
        warp_down(warp / Shape::warps_across * Shape::down),
        warp_across(warp % Shape::warps_across * Shape::across),
        blocks_across(static_cast<std::uint32_t>((sending + Shape::sending - 1) / Shape::sending)),
        block_down(blockIdx.x / blocks_across),
        block_across(blockIdx.x % blocks_across),
        first_unit(static_cast<std::int32_t>(block_down) * Shape::receiving),
        first_sending(static_cast<std::int32_t>(block_across) * Shape::sending),
        own_unit(first_unit + segment * warp_down + 2 * (lane / 4)),
        own_sending(first_sending + segment * warp_across + 4 * member),
        sums_biases(block_across == 0 && warp_across == 0) {}
  /// The receiving unit, and the first of the sending units, of Gradient::four(i, j, odd).
  __device__ std::int32_t unit(int i, int odd) const { return own_unit + segment * i + odd; }
  __device__ std::int32_t sending(int j) const { return own_sending + segment * j; }
};

/// The block's tile, summed over all rows. All threads of the block must call it.
template <class Shape>
__device__ Gradient<Shape> gradient_of_tile(const ConstDeltas& deltas, const ConstStates& states,
                                            const GradientPlace<Shape>& place,
                                            GradientMemory<Shape>& shared) {
  using Memory = GradientMemory<Shape>;
  constexpr int stages = Memory::stages;
  std::byte* const memory = reinterpret_cast<std::byte*>(shared.lines);
  const auto chunks = static_cast<std::int32_t>((deltas.rows + Shape::chunk - 1) / Shape::chunk);
  typename Memory::DeltaCopies delta_copies(deltas, place.first_unit);
  typename Memory::StateCopies state_copies(states, place.first_sending);
  const auto begin_chunk = [&](std::int32_t stage) {
    delta_copies.begin(memory + stage * Memory::stage_bytes);
    state_copies.begin(memory + stage * Memory::stage_bytes + Memory::DeltaCopies::bytes);
  };
#pragma unroll
  for (int stage = 0; stage < stages - 1; ++stage) {
    if (stage < chunks) begin_chunk(stage);
    close_group();
  }
  Gradient<Shape> gradient;
  std::int32_t now = 0;
  for (std::int32_t number = 0; number < chunks; ++number) {
    await_groups<stages - 2>();
    // What everybody has waited for is there for all, and what was multiplied before it may be written over.
    __syncthreads();
    if (number + stages - 1 < chunks) begin_chunk(now == 0 ? stages - 1 : now - 1);
    close_group();
    const std::byte* const stage = memory + now * Memory::stage_bytes;
    gradient.add(stage, stage + Memory::DeltaCopies::bytes, place.warp_down, place.warp_across, place.lane,
                 place.sums_biases);
    now = now == stages - 1 ? 0 : now + 1;
  }
  return gradient;
}

template <class Shape>
std::int64_t gradient_blocks(std::int64_t receiving, std::int64_t sending) {
  const auto pieces = [](std::int64_t count, std::int64_t size) { return (count + size - 1) / size; };
  return pieces(receiving, Shape::receiving) * pieces(sending, Shape::sending);
}

/// Calls queue(tiling, launch) with tiles that fit a gradient: large tiles read operands fewer times, and small
/// ones occupy more multiprocessors; half of a large device is enough for what runs beside a chain.
template <class Queue>
void with_gradient_tiling(std::int64_t receiving, std::int64_t sending, const Queue& queue) {
  constexpr std::int64_t enough_blocks = 64;
  const auto queue_as = [&](auto tiling) {
    using Tiling = decltype(tiling);
    const std::int64_t blocks = gradient_blocks<Tiling>(receiving, sending);
    queue(tiling, Shape{dim3(blocks_for(blocks, 1, 2147483647)), dim3(Tiling::threads)});
  };
  if (gradient_blocks<LargestGradientTiling>(receiving, sending) >= enough_blocks) {
    queue_as(LargestGradientTiling{});
  } else if (gradient_blocks<LargeGradientTiling>(receiving, sending) >= enough_blocks) {
    queue_as(LargeGradientTiling{});
  } else {
    queue_as(SmallGradientTiling{});
  }
}

}  // namespace wakesleep::cuda
