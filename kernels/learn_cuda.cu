// A gradient and the step along it in one kernel, for conditionals so small that the gradient need not go
// through memory: each block makes a tile of it and moves the weights of the tile, and of the blocks that
// share receiving units the last one turns them into integers. kernels/gradient_cuda.cu with
// kernels/cuda/product.cuh and kernels/update_cuda.cu do the same in three kernels.
#include "kernels/cuda/ascent.cuh"
#include "kernels/cuda/copies.cuh"
#include "kernels/cuda/four_by_four.cuh"
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/integers.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/last_block.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/several.cuh"

namespace wakesleep::cuda {
namespace {

constexpr int chunk = 64;               ///< rows of the batch that are summed over between two barriers
constexpr int segment = 16;             ///< bytes of a row that are copied together, and units of a tile
constexpr int rows_of_product = 32;     ///< summed over by one product of mma.cuh
constexpr int shared_bytes = 48 << 10;  ///< that a block may have without asking for more
constexpr int most_stages = 6;          ///< chunks that are there or on their way
constexpr std::int32_t warp_columns = 4 * warp_lanes;  ///< weights of a unit that a warp moves at a time

/// Operands, and what moves along their product.
struct LearnOperation {
  ConstDeltas deltas;
  ConstStates states;
  ParameterUpdate update;
  Integers<std::int8_t> integers;
  Optimizer optimizer;
  const Rates* rates = nullptr;
  bool fours = false;                 ///< in_fours(update)
  std::uint32_t* largest = nullptr;   ///< magnitude_bits of each unit's new weights; zeros before and after
  std::uint32_t* arrivals = nullptr;  ///< of blocks, for each tile of units; zeros likewise
};

/// How a block's tile of receiving by sending units is shared out: warps down (over receiving units) and
/// across, each with so many pairs of segments in both directions.
template <int warps_down_, int warps_across_, int down_, int across_>
struct Tiling {
  static constexpr int warps_down = warps_down_, warps_across = warps_across_, down = down_, across = across_;
  static constexpr int warps = warps_down * warps_across;
  static constexpr int threads = warp_lanes * warps;
  static constexpr int receiving = segment * warps_down * down;
  static constexpr int sending = segment * warps_across * across;
};
using LargestTiling = Tiling<4, 4, 2, 2>;  ///< 128 receiving by 128 sending units
using LargeTiling = Tiling<2, 4, 2, 2>;    ///< 64 by 128
using SmallTiling = Tiling<1, 8, 1, 1>;    ///< 16 by 128

/// Where a segment of a row of a chunk lies in shared memory, in segments of 16 bytes. Those of a row are
/// stored in an order that depends on the row, so that eight rows' segments of one number, as
/// load_matrices_transposed reads them, lie in different banks.
template <int segments>
__device__ std::int32_t place_of(std::int32_t row, std::int32_t number) {
  constexpr int rows_of_banks = 8 / segments;
  static_assert(segments * rows_of_banks == 8);
  return row * segments + (number ^ (row / rows_of_banks % segments));
}

/// Copies the rows of chunks of a matrix of bytes, so many segments wide. A thread always copies the same
/// segments of the same rows of a chunk.
template <int threads, int segments>
struct Copies {
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
  __device__ Copies(const Matrix<const Byte>& matrix, std::int32_t first_unit)
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
      begin_copy_or_zeros(stage + segment * place_of<segments>(row_of_chunk, number), from + i * apart,
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
  load_matrices_transposed(pairs, rows + segment * place_of<segments>(first_row + lane, number));
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
    for (int first_row = 0; first_row < chunk; first_row += rows_of_product) {
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
  /// Of receiving unit 2 group + odd, with respect to four neighbouring sending units.
  __device__ Several<std::int32_t, 4> four(int i, int j, int odd) const {
    return {{of_even[i][j][2 * odd], of_odd[i][j][2 * odd], of_even[i][j][2 * odd + 1],
             of_odd[i][j][2 * odd + 1]}};
  }
};

/// The integers of `receiving` units from `first_unit` on, whose `largest` stand in shared memory.
template <class Shape>
__device__ void write_integers_of_units(const LearnOperation& operation, std::int32_t first_unit,
                                        const std::uint32_t* largest, std::int32_t warp, std::int32_t lane) {
  constexpr int at_once = 4;  // accesses of a lane that are on their way together
  const auto units = static_cast<std::int32_t>(operation.update.receiving);
  const auto sending = static_cast<std::int32_t>(operation.update.weight.columns);
  for (std::int32_t i = warp; i < Shape::receiving && first_unit + i < units; i += Shape::warps) {
    const std::int32_t unit = first_unit + i;
    const IntegerScale scale = scale_of_unit(operation.integers, unit, largest[i], lane == 0);
    if (!scale.fits) continue;
    for (std::int32_t begin = 4 * lane; begin < sending; begin += at_once * warp_columns) {
      Several<float, 4> weights[at_once];
#pragma unroll
      for (int k = 0; k < at_once; ++k) {
        const std::int32_t own = begin + k * warp_columns;
        if (own < sending)
          weights[k] = load_four(weight_at(operation.update, unit, own), sending - own, operation.fours);
      }
#pragma unroll
      for (int k = 0; k < at_once; ++k) {
        const std::int32_t own = begin + k * warp_columns;
        // Rows of integers are padded, with zeros.
        if (own < sending) store_integers<4>(operation.integers, unit, own, weights[k], scale.two_to_shift);
      }
    }
  }
}

template <class Shape, OptimizerKind kind>
__global__ void __launch_bounds__(Shape::threads, 512 / Shape::threads)
    learn_kernel(LearnOperation operation) {
  constexpr int down = Shape::down;
  constexpr int across = Shape::across;
  using DeltaCopies = Copies<Shape::threads, Shape::receiving / segment>;
  using StateCopies = Copies<Shape::threads, Shape::sending / segment>;
  constexpr int stage_bytes = DeltaCopies::bytes + StateCopies::bytes;
  constexpr int stages = shared_bytes / stage_bytes < most_stages ? shared_bytes / stage_bytes : most_stages;
  static_assert(stages >= 2 && Shape::receiving <= Shape::threads);
  __shared__ uint4 lines[stages * stage_bytes / sizeof(uint4)];
  std::byte* const memory = reinterpret_cast<std::byte*>(lines);

  const ParameterUpdate& update = operation.update;
  const auto units = static_cast<std::int32_t>(update.receiving);
  const auto sending = static_cast<std::int32_t>(update.weight.columns);
  const auto blocks_across = static_cast<std::uint32_t>((sending + Shape::sending - 1) / Shape::sending);
  const std::uint32_t block_down = blockIdx.x / blocks_across;
  const std::uint32_t block_across = blockIdx.x % blocks_across;
  const std::int32_t first_unit = static_cast<std::int32_t>(block_down) * Shape::receiving;
  const std::int32_t first_sending = static_cast<std::int32_t>(block_across) * Shape::sending;
  const auto thread = static_cast<std::int32_t>(threadIdx.x);
  const std::int32_t lane = thread % warp_lanes;
  const std::int32_t warp = thread / warp_lanes;
  const std::int32_t group = lane / 4;
  const std::int32_t member = lane % 4;
  const std::int32_t warp_down = warp / Shape::warps_across * down;  // segments
  const std::int32_t warp_across = warp % Shape::warps_across * across;
  const bool sums_biases = block_across == 0 && warp_across == 0;
  const auto chunks = static_cast<std::int32_t>((operation.deltas.rows + chunk - 1) / chunk);

  DeltaCopies deltas(operation.deltas, first_unit);
  StateCopies states(operation.states, first_sending);
  const auto begin_chunk = [&](std::int32_t stage) {
    deltas.begin(memory + stage * stage_bytes);
    states.begin(memory + stage * stage_bytes + DeltaCopies::bytes);
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
    const std::byte* const stage = memory + now * stage_bytes;
    gradient.add(stage, stage + DeltaCopies::bytes, warp_down, warp_across, lane, sums_biases);
    now = now == stages - 1 ? 0 : now + 1;
  }

  const std::int32_t own_unit = first_unit + segment * warp_down + 2 * group;
  const std::int32_t own_sending = first_sending + segment * warp_across + 4 * member;
  // All weights are on their way before the first is used.
  Several<float, 4> weights[down][2][across];
#pragma unroll
  for (int i = 0; i < down; ++i) {
#pragma unroll
    for (int odd = 0; odd < 2; ++odd) {
#pragma unroll
      for (int j = 0; j < across; ++j) {
        const std::int32_t unit = own_unit + segment * i + odd;
        const std::int32_t first = own_sending + segment * j;
        if (unit < units && first < sending)
          weights[i][odd][j] = load_four(weight_at(update, unit, first), sending - first, operation.fours);
      }
    }
  }
  const Rates in_memory = *operation.rates;
  const Rates rates = rates_in_units(in_memory, update.units.weight);

  std::uint32_t* const largest = reinterpret_cast<std::uint32_t*>(memory);  // of the block's units
  __syncthreads();                                                          // chunks are not read any more
  if (thread < Shape::receiving) largest[thread] = 0;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < down; ++i) {
#pragma unroll
    for (int odd = 0; odd < 2; ++odd) {
      const std::int32_t unit = own_unit + segment * i + odd;
      if (sums_biases) {
        std::int32_t sum = gradient.bias[i][odd];
        sum += __shfl_xor_sync(0xFFFFFFFFu, sum, 1);
        sum += __shfl_xor_sync(0xFFFFFFFFu, sum, 2);
        if (member == 0 && unit < units) {
          ascend_bias(update, update.step, unit, sum, operation.optimizer,
                      rates_in_units(in_memory, update.units.bias));
        }
      }
      std::uint32_t of_lane = 0;
#pragma unroll
      for (int j = 0; j < across; ++j) {
        const std::int32_t first = own_sending + segment * j;
        if (unit < units && first < sending) {
          ascend_four<kind>(update, operation.optimizer, rates, operation.fours, unit, first,
                            weights[i][odd][j], gradient.four(i, j, odd), of_lane);
        }
      }
      __syncwarp();
      of_lane = Larger{}(of_lane, __shfl_xor_sync(0xFFFFFFFFu, of_lane, 1));
      of_lane = Larger{}(of_lane, __shfl_xor_sync(0xFFFFFFFFu, of_lane, 2));
      if (member == 0 && unit < units) atomicMax(&largest[unit - first_unit], of_lane);
    }
  }

  // The largest of all blocks that share these units, and then the integers.
  __syncthreads();
  const bool has_unit = thread < Shape::receiving && first_unit + thread < units;
  if (has_unit) atomicMax(operation.largest + first_unit + thread, largest[thread]);
  if (!is_last_block(operation.arrivals + block_down, blocks_across)) return;
  if (has_unit) largest[thread] = atomicExch(operation.largest + first_unit + thread, 0u);
  __syncthreads();
  write_integers_of_units<Shape>(operation, first_unit, largest, warp, lane);
}

template <class Shape>
std::int64_t blocks_of(const LearnOperation& operation) {
  const auto pieces = [](std::int64_t count, std::int64_t size) { return (count + size - 1) / size; };
  return pieces(operation.update.receiving, Shape::receiving) *
         pieces(operation.update.weight.columns, Shape::sending);
}

template <class Shape>
void queue(cudaStream_t stream, const LearnOperation& operation) {
  const auto kernel = operation.optimizer.kind == OptimizerKind::sgd ? learn_kernel<Shape, OptimizerKind::sgd>
                      : operation.optimizer.kind == OptimizerKind::momentum
                          ? learn_kernel<Shape, OptimizerKind::momentum>
                          : learn_kernel<Shape, OptimizerKind::adam>;
  launch(kernel, {dim3(blocks_for(blocks_of<Shape>(operation), 1, 2147483647)), dim3(Shape::threads)}, stream,
         operation);
}

}  // namespace

std::int64_t learn_zeros_count(std::int64_t receiving) {
  return receiving + (receiving + SmallTiling::receiving - 1) / SmallTiling::receiving;
}

bool learns_in_one_kernel(std::int64_t rows, const Limbs& limbs) {
  // As of fits_one_kernel: a thousand rows and units each way; a block sums all rows from end to end.
  constexpr std::int64_t most = std::int64_t{1} << 31;
  constexpr std::int64_t most_rows = 4096;
  return limbs.route == CudaRoute::int8 && rows <= most_rows && rows * limbs.rows <= most / limbs.stride;
}

void learn(cudaStream_t stream, ConstDeltas deltas, ConstStates states, const ParameterUpdate& update,
           const Optimizer& optimizer, const Rates* rates, std::int32_t* zeros) {
  LearnOperation operation;
  operation.deltas = deltas;
  operation.states = states;
  operation.update = update;
  operation.integers =
      integers_in<std::int8_t>(update.limbs, update.bits, update.scales, update.diverged, update.step);
  operation.optimizer = optimizer;
  operation.rates = rates;
  operation.fours = in_fours(update);
  operation.largest = reinterpret_cast<std::uint32_t*>(zeros);
  operation.arrivals = operation.largest + update.receiving;
  // Large tiles read operands fewer times, and small ones occupy more multiprocessors. Half of a large device is
  // enough for what runs beside a chain.
  constexpr std::int64_t enough_blocks = 64;
  if (blocks_of<LargestTiling>(operation) >= enough_blocks) {
    queue<LargestTiling>(stream, operation);
  } else if (blocks_of<LargeTiling>(operation) >= enough_blocks) {
    queue<LargeTiling>(stream, operation);
  } else {
    queue<SmallTiling>(stream, operation);
  }
}

}  // namespace wakesleep::cuda
