// The persistent kernel: a recording of several steps as one cooperative launch (kernels/cuda/program.cuh).
// What one level writes, the next reads with ordinary loads behind a barrier of the whole grid; nothing that
// the kernel writes is ever read through the read-only cache.
#include "kernels/cuda/ascent.cuh"
#include "kernels/cuda/cooperative.cuh"
#include "kernels/cuda/four_by_four.cuh"
#include "kernels/cuda/gather.cuh"
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/philox.cuh"
#include "kernels/cuda/program.cuh"
#include "kernels/cuda/reduce.cuh"

namespace wakesleep::cuda {
namespace {

/// What the threads of a block share.
struct BlockMemory {
  Level level[2];                                                   ///< the one that runs, and the next
  Several<std::uint32_t, 4> partial[persistent_warps][warp_lanes];  ///< sums of warps that share a tile
  /// Of the units that the block learns. A row is four words longer than a multiple of the 32 banks, so that
  /// the words that a warp reads, four of each unit, lie in different ones.
  alignas(4) std::int8_t deltas[learn_units][most_learn_rows + 16];
  std::uint32_t largest[learn_units];  ///< magnitude_bits of units' new weights
  std::int32_t bias_gradient[learn_units];
};

/// The calling thread's place in its block and in the tiles of mma.cuh.
struct Place {
  int thread, warp, lane, group, member;
};
__device__ Place place_in_block() {
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % warp_lanes;
  return {thread, thread / warp_lanes, lane, lane / 4, lane % 4};
}

template <class T>
__device__ T* element(const Matrix<T>& matrix, std::int64_t row, std::int64_t column) {
  return matrix.data + row * matrix.stride + column;
}

/// Where a stage's step has what `pointer` would point to once `advance` had run.
template <class T>
__device__ const T* at_step(const Clock& clock, const StepScalars* step, const T* pointer) {
  const char* bytes = reinterpret_cast<const char*>(pointer);
  const char* now = reinterpret_cast<const char*>(clock.now);
  if (bytes < now || bytes >= now + sizeof(StepScalars)) return pointer;
  return reinterpret_cast<const T*>(reinterpret_cast<const char*>(step) + (bytes - now));
}
__device__ Draw at_step(const Clock& clock, const StepScalars* step, const Draw& draw) {
  Draw moved = draw;
  moved.step = at_step(clock, step, draw.step);
  return moved;
}

// -------------------------------------------------------------------------------- gather

__device__ void gather(const GatherStage& stage, const Draw& draw, const std::uint32_t* first,
                       std::int64_t item) {
  // What fits the cache has fewer than 2^32 elements, and divisions of 32 bits are the shorter ones.
  const auto groups = static_cast<std::uint32_t>((stage.states.columns + 3) / 4);
  const auto index = static_cast<std::uint32_t>(item * persistent_threads + threadIdx.x);
  if (index >= stage.states.rows * groups) return;
  gather_group(stage.data, stage.order, first, draw, stage.states, index / groups, index % groups);
}

// -------------------------------------------------------------------------------- sampling and deltas

/// Sums of one row for four neighbouring units, which a lane has of a tile of 16 rows and 8 units. Even lanes
/// have them of the rows of the upper half.
struct FourSums {
  std::int64_t row = 0;
  std::int64_t first_unit = 0;
  std::uint32_t sum[4] = {};  ///< as 32-bit patterns
};

/// Zeros, for the tile at (row, unit).
__device__ FourSums no_sums(std::int64_t row, std::int64_t unit, const Place& place) {
  FourSums sums;
  sums.row = row + place.group + 8 * (place.member % 2);
  sums.first_unit = unit + 4 * (place.member / 2);
  return sums;
}

/// The sums over chunks `first_chunk`, first_chunk + splits, ... for the tile at (row, unit). All lanes of a
/// warp call it.
///
/// A lane loads 16 bytes of a row at a time, of which the first half goes into one product of 32 terms and
/// the second into the next. That is another order of the terms than that of the memory, the same for states
/// and weights, which is all that a sum of integers asks for.
template <int limbs>
__device__ FourSums products(const ForwardStage& stage, std::int64_t row, std::int64_t unit, int first_chunk,
                             const Place& place) {
  const std::int64_t last_row = stage.rows - 1;  // stands in for rows beyond, whose sums nobody uses
  const std::int64_t upper_row = row + place.group < last_row ? row + place.group : last_row;
  const std::int64_t lower_row = row + place.group + 8 < last_row ? row + place.group + 8 : last_row;
  const std::uint8_t* upper = element(stage.input, upper_row, 16 * place.member);
  const std::uint8_t* lower = element(stage.input, lower_row, 16 * place.member);
  __syncwarp();  // lanes may come from work that only some of them had
  // Limbs are padded to 16 units.
  const std::int64_t weight_offset = (unit + place.group) * stage.stride + 16 * place.member;
  std::int32_t of_limb[limbs][4] = {};
#pragma unroll 2
  for (int chunk = first_chunk; chunk < stage.chunks; chunk += stage.splits) {
    const std::int64_t offset = chunk_units * chunk;
    const auto above = load<4>(reinterpret_cast<const std::uint32_t*>(upper + offset));
    const auto below = load<4>(reinterpret_cast<const std::uint32_t*>(lower + offset));
#pragma unroll
    for (int limb = 0; limb < limbs; ++limb) {
      const std::int8_t* weights = (limb == 0 ? stage.high : stage.low) + weight_offset + offset;
      const auto weight = load<4>(reinterpret_cast<const std::uint32_t*>(weights));
#pragma unroll
      for (int half = 0; half < 4; half += 2) {
        const std::uint32_t a[4] = {above.element[half], below.element[half], above.element[half + 1],
                                    below.element[half + 1]};
        const std::uint32_t b[2] = {weight.element[half], weight.element[half + 1]};
        multiply_add(of_limb[limb], a, b);
      }
    }
  }
  std::uint32_t own[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    own[i] = static_cast<std::uint32_t>(limbs == 2 ? join_limbs(of_limb[0][i], of_limb[limbs - 1][i])
                                                   : of_limb[0][i]);
  }
  // Lanes have two units of two rows. Neighbours exchange, so that the even one has four units of the upper
  // row and the odd one those of the lower row.
  const bool odd = place.member % 2 == 1;
  const std::uint32_t given[2] = {__shfl_xor_sync(0xFFFFFFFFu, odd ? own[0] : own[2], 1),
                                  __shfl_xor_sync(0xFFFFFFFFu, odd ? own[1] : own[3], 1)};
  FourSums sums = no_sums(row, unit, place);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    sums.sum[i] = odd ? given[i] : own[i];
    sums.sum[2 + i] = odd ? own[2 + i] : given[i];
  }
  return sums;
}

struct Activations {
  float unit[4];
};
__device__ Activations activations_of(const ForwardStage& stage, const FourSums& sums) {
  Activations a;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const std::int64_t unit = sums.first_unit + i;
    const bool exists = unit < stage.units;
    const float scale = exists && stage.high != nullptr ? stage.scales[unit] : 1.0f;
    a.unit[i] =
        exists ? pre_activation(static_cast<std::int32_t>(sums.sum[i]), scale, stage.bias[unit]) : 0.0f;
  }
  return a;
}

__device__ void sample_four(const ForwardStage& stage, const Draw& draw, const FourSums& at) {
  const PhiloxBlock random = random_block(draw, at.row, 1, at.first_unit / 4);
  const Activations a = activations_of(stage, at);
  std::uint32_t states = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (at.first_unit + i >= stage.units) break;
    states |= std::uint32_t{sample_state(a.unit[i], random.word[i])} << (8 * i);
  }
  *reinterpret_cast<std::uint32_t*>(element(stage.output, at.row, at.first_unit)) = states;
}

__device__ void delta_four(const ForwardStage& stage, const Draw& draw, const FourSums& at) {
  const PhiloxBlock random = random_block(draw, at.row, 1, at.first_unit / 8);
  const std::uint32_t first_half = static_cast<std::uint32_t>(at.first_unit) % 8;
  const Activations a = activations_of(stage, at);
  const std::uint32_t states =
      *reinterpret_cast<const std::uint32_t*>(element(stage.target, at.row, at.first_unit));
  std::uint32_t rounded = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (at.first_unit + i >= stage.units) break;
    const std::uint32_t state = (states >> (8 * i)) & 0xFFu;
    // The halves of the block's words that units 4 .. 7 take are those of its last two words.
    const std::uint32_t word = first_half == 0 ? random.word[i / 2] : random.word[2 + i / 2];
    const std::uint32_t bits = (word >> (16 * (i % 2))) & 0xFFFFu;
    const std::int32_t value = round_delta(stage.weight * state_minus_probability(state, a.unit[i]), bits);
    rounded |= std::uint32_t{static_cast<std::uint8_t>(value)} << (8 * i);
  }
  *reinterpret_cast<std::uint32_t*>(element(stage.deltas, at.row, at.first_unit)) = rounded;
}

/// One block: as many tiles as it has groups of `splits` warps.
__device__ void forward(StageKind kind, const ForwardStage& stage, const Draw& draw, std::int64_t item,
                        BlockMemory& memory) {
  const Place place = place_in_block();
  const int split = place.warp % stage.splits;
  const auto tile =
      static_cast<std::uint32_t>(item * (persistent_warps / stage.splits) + place.warp / stage.splits);
  const auto across = static_cast<std::uint32_t>((stage.units + tile_units - 1) / tile_units);
  const std::int64_t row = tile / across * tile_rows;
  const std::int64_t unit = tile % across * tile_units;
  const bool exists = row < stage.rows;  // the same for all lanes of a warp
  FourSums sums = no_sums(row, unit, place);
  if (exists && stage.high != nullptr) {
    sums = stage.low != nullptr ? products<2>(stage, row, unit, split, place)
                                : products<1>(stage, row, unit, split, place);
  }
  if (stage.splits > 1) {
    __syncthreads();  // what an item before this one has left may still be read
    memory.partial[place.warp][place.lane] = {{sums.sum[0], sums.sum[1], sums.sum[2], sums.sum[3]}};
    __syncthreads();
    if (split != 0) return;
    for (int other = 1; other < stage.splits; ++other) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        sums.sum[i] += memory.partial[place.warp + other][place.lane].element[i];
      }
    }
  }
  if (!exists || sums.row >= stage.rows || sums.first_unit >= stage.units) return;
  if (kind == StageKind::sample) {
    sample_four(stage, draw, sums);
  } else {
    delta_four(stage, draw, sums);
  }
}

// -------------------------------------------------------------------------------- learning

/// Brings the deltas of learn_units units into the block's memory, with the rows of a unit side by side and
/// zeros behind the last row. All threads of the block must call it, and wait before they read.
__device__ void fetch_deltas(const ConstDeltas& deltas, std::int64_t first_unit, BlockMemory& memory) {
  for (std::int64_t row = threadIdx.x; row < (deltas.rows + 31) / 32 * 32; row += persistent_threads) {
    // Rows are whole 64-byte lines, so eight bytes are always there to be read.
    const std::uint64_t eight =
        row < deltas.rows ? *reinterpret_cast<const std::uint64_t*>(element(deltas, row, first_unit)) : 0u;
#pragma unroll
    for (int i = 0; i < learn_units; ++i) {
      memory.deltas[i][row] = static_cast<std::int8_t>(static_cast<std::uint8_t>(eight >> (8 * i)));
    }
  }
}

static_assert(learn_units == tile_units && learn_sending == 2 * tile_rows,
              "a warp has two tiles of mma.cuh, whose columns are receiving units");

/// What a lane has of the gradient of 8 receiving units with respect to 32 sending ones: those of receiving
/// units 2 member and 2 member + 1 and of sending units 4 group .. 4 group + 3.
struct GradientTile {
  std::int32_t sum[2][4];  ///< [receiving][sending]
  std::int32_t bias = 0;   ///< this lane's part of the sum of receiving unit `group`'s deltas
};
__device__ GradientTile gradient_tile(const LearnStage& stage, std::int64_t first_sending, const Place& place,
                                      const BlockMemory& memory) {
  // Rows of the product are sending units, taken as 4 group + {0, 1} into the first and 4 group + {2, 3} into
  // the second; its columns are receiving units, and what is summed over are the rows of the batch.
  std::int32_t sums[2][4] = {};
  GradientTile tile;
  __syncwarp();  // lanes may come from work that only some of them had
#pragma unroll 2
  for (std::int64_t row = 4 * place.member; row - 4 * place.member < stage.deltas.rows; row += 32) {
    const std::int8_t* deltas = memory.deltas[place.group] + row;
    const std::uint32_t b[2] = {*reinterpret_cast<const std::uint32_t*>(deltas),
                                *reinterpret_cast<const std::uint32_t*>(deltas + 16)};
    const FourByFour above = transposed(stage.input, row, first_sending + 4 * place.group);
    const FourByFour below = transposed(stage.input, row + 16, first_sending + 4 * place.group);
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      const std::uint32_t a[4] = {above.column[2 * pair], above.column[2 * pair + 1], below.column[2 * pair],
                                  below.column[2 * pair + 1]};
      multiply_add(sums[pair], a, b);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) tile.bias = plus_bytes(tile.bias, b[i]);
  }
#pragma unroll
  for (int receiving = 0; receiving < 2; ++receiving) {
#pragma unroll
    for (int sending = 0; sending < 4; ++sending) {
      tile.sum[receiving][sending] = sums[sending / 2][2 * (sending % 2) + receiving];
    }
  }
  return tile;
}

/// Moves up to four weights of a unit, `width` at a time. Returns the largest of their magnitude_bits.
template <int width>
__device__ std::uint32_t ascend_four(const LearnStage& stage, const Rates& rates, std::int64_t unit,
                                     std::int64_t first, const std::int32_t (&gradient)[4]) {
  const Ascent ascent = weights_of(stage.update, unit);
  std::uint32_t largest = 0;
#pragma unroll
  for (int i = 0; i < 4; i += width) {
    if (first + i >= stage.update.weight.columns) break;
    Several<std::int32_t, width> part;
#pragma unroll
    for (int j = 0; j < width; ++j) part.element[j] = gradient[i + j];
    largest = Larger{}(largest, ascend<width>(from(ascent, first + i), part, true, stage.optimizer, rates));
  }
  return largest;
}

template <int width>
__device__ void quantize_four(const LearnStage& stage, const Integers<std::int8_t>& integers,
                              std::int64_t unit, std::int64_t first, float two_to_shift) {
#pragma unroll
  for (int i = 0; i < 4; i += width) {
    if (first + i >= stage.update.weight.columns) break;
    store_integers<width>(integers, unit, first + i,
                          load<width>(element(stage.update.weight, unit, first + i)), two_to_shift);
  }
}

/// One block: learn_units receiving units, with all their weights, since a unit's largest weight decides on
/// the shift of its integers.
__device__ void learn(const LearnStage& stage, Rates rates, const std::uint32_t* step, std::int64_t item,
                      BlockMemory& memory) {
  const Place place = place_in_block();
  const std::int64_t first_unit = item * learn_units;
  const std::int64_t units = stage.update.receiving;
  const std::int64_t sending = stage.update.weight.columns;
  ParameterUpdate update = stage.update;
  update.step = step;
  Integers<std::int8_t> integers = stage.integers;
  integers.step = step;

  __syncthreads();  // an item before this one may still be reading
  if (place.thread < learn_units) memory.largest[place.thread] = 0;
  fetch_deltas(stage.deltas, first_unit, memory);
  __syncthreads();

  std::uint32_t largest[2] = {0, 0};
  for (std::int64_t first = learn_sending * place.warp; first < sending;
       first += learn_sending * persistent_warps) {
    const GradientTile tile = gradient_tile(stage, first, place, memory);
    if (first == 0) {
      std::int32_t bias_gradient = tile.bias;
      bias_gradient += __shfl_xor_sync(0xFFFFFFFFu, bias_gradient, 1);
      bias_gradient += __shfl_xor_sync(0xFFFFFFFFu, bias_gradient, 2);
      const std::int64_t unit = first_unit + place.group;
      if (place.member == 0 && unit < units) ascend_bias(update, unit, bias_gradient, stage.optimizer, rates);
    }
    const std::int64_t own = first + 4 * place.group;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const std::int64_t unit = first_unit + 2 * place.member + i;
      if (unit >= units || own >= sending) continue;
      const std::uint32_t moved = stage.fours ? ascend_four<4>(stage, rates, unit, own, tile.sum[i])
                                              : ascend_four<1>(stage, rates, unit, own, tile.sum[i]);
      largest[i] = Larger{}(largest[i], moved);
    }
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    // Over the lanes that have the same receiving units.
    for (int distance = 4; distance < warp_lanes; distance *= 2) {
      largest[i] = Larger{}(largest[i], __shfl_xor_sync(0xFFFFFFFFu, largest[i], distance));
    }
    if (place.group == 0) atomicMax(&memory.largest[2 * place.member + i], largest[i]);
  }
  __syncthreads();

  // Each thread reads the weights that it has written.
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int own_unit = 2 * place.member + i;
    const std::int64_t unit = first_unit + own_unit;
    if (unit >= units) continue;
    const bool speaks = place.warp == 0 && place.group == 0;
    const std::int32_t shift = weight_shift(float_from_bits(memory.largest[own_unit]), integers.bits);
    if (shift == shift_overflow) {  // keeps its last integers, as in write_integers
      if (speaks) mark_diverged(integers.diverged, integers.step);
      continue;
    }
    if (speaks) integers.scales[unit] = scale_of_sum(shift, integers.largest_input);
    for (std::int64_t first = learn_sending * place.warp + 4 * place.group; first < sending;
         first += learn_sending * persistent_warps) {
      if (stage.fours) {
        quantize_four<4>(stage, integers, unit, first, power_of_two(shift));
      } else {
        quantize_four<1>(stage, integers, unit, first, power_of_two(shift));
      }
    }
  }
}

/// One block: learn_units units of a prior, which share a block of random words.
__device__ void learn_prior(const ForwardStage& forward, const LearnStage& stage, const Draw& draw,
                            Rates rates, const std::uint32_t* step, std::int64_t item, BlockMemory& memory) {
  const Place place = place_in_block();
  const std::int64_t first_unit = item * learn_units;
  ParameterUpdate update = stage.update;
  update.step = step;
  __syncthreads();  // an item before this one may still be reading
  if (place.thread < learn_units) memory.bias_gradient[place.thread] = 0;
  __syncthreads();
  std::int32_t sums[learn_units] = {};
  for (std::int64_t row = place.thread; row < forward.rows; row += persistent_threads) {
    const PhiloxBlock random = random_block(draw, row, 1, item);
#pragma unroll
    for (int i = 0; i < learn_units; ++i) {
      const std::int64_t unit = first_unit + i;
      if (unit >= forward.units) break;
      const float a = pre_activation(0, 1.0f, forward.bias[unit]);
      const std::uint32_t state = *element(forward.target, row, unit);
      sums[i] += round_delta(forward.weight * state_minus_probability(state, a), half_word(random, i));
    }
  }
#pragma unroll
  for (int i = 0; i < learn_units; ++i) {
    const std::int32_t of_warp = warp_reduce(sums[i], Plus{});
    if (place.lane == 0) atomicAdd(&memory.bias_gradient[i], of_warp);
  }
  __syncthreads();  // before that, everybody has read the biases
  if (place.thread >= learn_units || first_unit + place.thread >= forward.units) return;
  ascend_bias(update, first_unit + place.thread, memory.bias_gradient[place.thread], stage.optimizer, rates);
}

// -------------------------------------------------------------------------------- the kernel

__device__ void run(const Stage& stage, const Clock& clock, const StepScalars* steps, std::int64_t item,
                    BlockMemory& memory) {
  const StepScalars* step = steps + stage.step;
  switch (stage.kind) {
    case StageKind::gather:
      gather(stage.gather, at_step(clock, step, stage.gather.draw), at_step(clock, step, stage.gather.first),
             item);
      break;
    case StageKind::sample:
    case StageKind::delta:
      forward(stage.kind, stage.forward, at_step(clock, step, stage.forward.draw), item, memory);
      break;
    case StageKind::learn:
      learn(stage.learn, *at_step(clock, step, stage.learn.rates),
            at_step(clock, step, stage.learn.update.step), item, memory);
      break;
    case StageKind::learn_prior:
      learn_prior(stage.forward, stage.learn, at_step(clock, step, stage.forward.draw),
                  *at_step(clock, step, stage.learn.rates), at_step(clock, step, stage.learn.update.step),
                  item, memory);
      break;
  }
}

/// Item number `item` of a level. All threads of the block have the same.
__device__ void run(const Level& level, const Clock& clock, const StepScalars* steps, std::int64_t item,
                    BlockMemory& memory) {
  for (int i = 0; i < level.stages; ++i) {
    const Stage& stage = level.stage[i];
    if (item < stage.items) {
      run(stage, clock, steps, item, memory);
      return;
    }
    item -= stage.items;
  }
}

constexpr int level_parts = sizeof(Level) / sizeof(Several<std::uint32_t, 4>);

__device__ Several<std::uint32_t, 4> fetched(const Level* level) {
  const int part = static_cast<int>(threadIdx.x);
  if (part >= level_parts) return {};
  return load<4>(reinterpret_cast<const std::uint32_t*>(level) + 4 * part);
}
__device__ void keep(const Several<std::uint32_t, 4>& fetched, Level& level) {
  const int part = static_cast<int>(threadIdx.x);
  if (part < level_parts) store(reinterpret_cast<std::uint32_t*>(&level) + 4 * part, fetched);
}

__global__ void __launch_bounds__(persistent_threads, 1) persistent_kernel(Program program) {
  BlockMemory& memory = block_memory<BlockMemory>();
  const std::uint32_t first_step = *program.clock.position;
  const StepScalars* steps = program.clock.table + first_step;
  keep(fetched(program.levels), memory.level[0]);
  __syncthreads();
  for (int number = 0; number < program.level_count; ++number) {
    const bool another = number + 1 < program.level_count;
    // On its way while this level runs.
    Several<std::uint32_t, 4> next = {};
    if (another) next = fetched(program.levels + number + 1);
    const Level& level = memory.level[number % 2];
    for (std::int64_t item = blockIdx.x; item < level.items; item += gridDim.x) {
      run(level, program.clock, steps, item, memory);
    }
    if (another) keep(next, memory.level[(number + 1) % 2]);
    grid_barrier();
  }
  // As `advance` would have left them. Behind the barrier everybody has read the position.
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    *program.clock.now = steps[program.steps - 1];
    *program.clock.position = first_step + static_cast<std::uint32_t>(program.steps);
  }
}

}  // namespace

int persistent_blocks(const cudaDeviceProp& properties) {
  const int resident =
      resident_blocks(persistent_kernel, persistent_threads, sizeof(BlockMemory), properties);
  return resident < properties.multiProcessorCount ? resident : properties.multiProcessorCount;
}

void run_persistent(cudaStream_t stream, const Program& program, int blocks) {
  launch_cooperatively(persistent_kernel, {dim3(static_cast<unsigned int>(blocks)), dim3(persistent_threads)},
                       sizeof(BlockMemory), stream, program);
}

}  // namespace wakesleep::cuda
