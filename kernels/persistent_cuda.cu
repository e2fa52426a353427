// The persistent kernel: a recording of several steps as one cooperative launch (kernels/cuda/program.cuh).
// What one level writes, the next reads with ordinary loads behind a barrier of the whole grid; nothing that
// the kernel writes is ever read through the read-only cache.
#include <algorithm>

#include "kernels/cuda/approximate.cuh"
#include "kernels/cuda/ascent.cuh"
#include "kernels/cuda/cooperative.cuh"
#include "kernels/cuda/copies.cuh"
#include "kernels/cuda/four_by_four.cuh"
#include "kernels/cuda/four_sums.cuh"
#include "kernels/cuda/gather.cuh"
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/philox.cuh"
#include "kernels/cuda/program.cuh"
#include "kernels/cuda/reduce.cuh"

namespace wakesleep::cuda {
namespace {

/// Weights whose gradient a block has at hand: as many as its threads keep, a few to each, and a little
/// between those of different units.
constexpr int kept_fours = 2;  ///< of weights, by a thread
constexpr int unit_gap = 4;
constexpr int most_gradients = 4 * kept_fours * persistent_threads + unit_gap * learn_units;

/// What the threads of a block share.
struct BlockMemory {
  Level level[2];  ///< the one that runs, and the next
  union {
    Several<std::uint32_t, 4> partial[persistent_warps][warp_lanes];  ///< sums of warps that share a tile
    alignas(16) std::int32_t gradient[most_gradients];  ///< of the weights that the block learns
  };
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

/// All that a program touches fits a cache, so that 32 bits are enough for places in it, and arithmetic in
/// them is shorter.
template <class T>
__device__ T* element(const Matrix<T>& matrix, std::int32_t row, std::int32_t column) {
  return matrix.data + (row * static_cast<std::int32_t>(matrix.stride) + column);
}

/// The words of a group of units in a row of which there is one sample.
__device__ PhiloxBlock random_words(const Draw& draw, std::int32_t row, std::int32_t group) {
  return random_block(
      draw_counter(static_cast<std::uint32_t>(group), draw.first_row + static_cast<std::uint32_t>(row),
                   step_of(draw), domain_word(draw.domain, draw.layer)),
      draw.seed);
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
                       std::int32_t item) {
  // What fits the cache has fewer than 2^32 elements, and divisions of 32 bits are the shorter ones.
  const auto groups = static_cast<std::uint32_t>((stage.states.columns + 3) / 4);
  const auto index = static_cast<std::uint32_t>(item * persistent_threads + threadIdx.x);
  if (index >= stage.states.rows * groups) return;
  gather_group(stage.data, stage.order, first, draw, stage.states, index / groups, index % groups);
}

// -------------------------------------------------------------------------------- sampling and deltas

/// The FourSums that a lane has of a tile of 16 rows and 8 units, and where they belong.
struct PlacedSums {
  std::int32_t row = 0;
  std::int32_t first_unit = 0;
  std::uint32_t sum[4] = {};  ///< as 32-bit patterns
};

/// Zeros, for the tile at (row, unit).
__device__ PlacedSums no_sums(std::int32_t row, std::int32_t unit, const Place& place) {
  PlacedSums sums;
  sums.row = row + place.group + 8 * (place.member % 2);
  sums.first_unit = unit + 4 * (place.member / 2);
  return sums;
}

/// What a lane has of a chunk: 16 bytes of two rows and of a receiving unit's limbs.
template <int limbs>
struct Chunk {
  Several<std::uint32_t, 4> above, below;
  Several<std::uint32_t, 4> weight[limbs];
};

/// The operands of a tile as one lane reads them.
///
/// A lane loads 16 bytes of a row at a time, of which the first half goes into one product of 32 terms and
/// the second into the next. That is another order of the terms than that of the memory, the same for states
/// and weights, which is all that a sum of integers asks for.
template <int limbs>
struct TileOperands {
  const std::uint8_t *upper, *lower;
  const std::int8_t* weight[limbs];

  __device__ TileOperands(const ForwardStage& stage, std::int32_t row, std::int32_t unit,
                          const Place& place) {
    const std::int32_t last_row = stage.rows - 1;  // stands in for rows beyond, whose sums nobody uses
    const std::int32_t upper_row = row + place.group < last_row ? row + place.group : last_row;
    const std::int32_t lower_row = row + place.group + 8 < last_row ? row + place.group + 8 : last_row;
    upper = element(stage.input, upper_row, 16 * place.member);
    lower = element(stage.input, lower_row, 16 * place.member);
    // Limbs are padded to 16 units.
    const std::int32_t offset = (unit + place.group) * stage.stride + 16 * place.member;
    weight[0] = stage.high + offset;
    if constexpr (limbs == 2) weight[1] = stage.low + offset;
  }
  __device__ Chunk<limbs> chunk(int number) const {
    const std::int32_t offset = chunk_units * number;
    const auto sixteen = [&](const auto* bytes) {
      return load<4>(reinterpret_cast<const std::uint32_t*>(bytes + offset));
    };
    Chunk<limbs> chunk = {sixteen(upper), sixteen(lower), {}};
#pragma unroll
    for (int limb = 0; limb < limbs; ++limb) chunk.weight[limb] = sixteen(weight[limb]);
    return chunk;
  }
};

template <int limbs>
__device__ void multiply_chunk(const Chunk<limbs>& chunk, std::int32_t (&of_limb)[limbs][4]) {
#pragma unroll
  for (int limb = 0; limb < limbs; ++limb) {
#pragma unroll
    for (int half = 0; half < 4; half += 2) {
      const std::uint32_t a[4] = {chunk.above.element[half], chunk.below.element[half],
                                  chunk.above.element[half + 1], chunk.below.element[half + 1]};
      const std::uint32_t b[2] = {chunk.weight[limb].element[half], chunk.weight[limb].element[half + 1]};
      multiply_add(of_limb[limb], a, b);
    }
  }
}

/// What follows a tile's sums reads other memory than they do, and is asked for while they are on their way.
struct Ending {
  Several<float, 4> scale = {};
  Several<float, 4> bias = {};
  std::uint32_t target = 0;  ///< four states
  PhiloxBlock random;
};
__device__ Ending ending_of(StageKind kind, const ForwardStage& stage, const Draw& draw,
                            const PlacedSums& at) {
  Ending ending;
  const std::int32_t left = stage.units - at.first_unit;
  if (kind == StageKind::delta) {
    ending.target = *reinterpret_cast<const std::uint32_t*>(element(stage.target, at.row, at.first_unit));
  }
  ending.bias = four_values(stage.bias + at.first_unit, left);
  if (stage.high != nullptr) ending.scale = four_values(stage.scales + at.first_unit, left);
  ending.random = random_words(draw, at.row, at.first_unit / (kind == StageKind::sample ? 4 : 8));
  return ending;
}

/// The sums over chunks `first_chunk`, first_chunk + splits, ... for the tile at (row, unit), and what
/// follows them where `ends`. All lanes of a warp call it.
template <int limbs>
__device__ PlacedSums products(StageKind kind, const ForwardStage& stage, const Draw& draw, std::int32_t row,
                               std::int32_t unit, int first_chunk, bool ends, const Place& place,
                               Ending& ending) {
  __syncwarp();  // lanes may come from work that only some of them had
  const TileOperands<limbs> operands(stage, row, unit, place);
  PlacedSums sums = no_sums(row, unit, place);
  // Splits never have less than one chunk each.
  const int second_chunk = first_chunk + stage.splits;
  const Chunk<limbs> first = operands.chunk(first_chunk);
  Chunk<limbs> second = {};
  if (second_chunk < stage.chunks) second = operands.chunk(second_chunk);
  if (ends && sums.row < stage.rows && sums.first_unit < stage.units)
    ending = ending_of(kind, stage, draw, sums);
  __syncwarp();
  std::int32_t of_limb[limbs][4] = {};
  multiply_chunk(first, of_limb);
  multiply_chunk(second, of_limb);  // of zeros, where there is none
#pragma unroll 2
  for (int chunk = second_chunk + stage.splits; chunk < stage.chunks; chunk += stage.splits) {
    multiply_chunk(operands.chunk(chunk), of_limb);
  }
  std::uint32_t own[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    own[i] = static_cast<std::uint32_t>(limbs == 2 ? join_limbs(of_limb[0][i], of_limb[limbs - 1][i])
                                                   : of_limb[0][i]);
  }
  const FourSums of_row(own, place.member % 2 == 1);
#pragma unroll
  for (int i = 0; i < 4; ++i) sums.sum[i] = of_row.unit[i];
  return sums;
}

__device__ void end_tile(StageKind kind, const ForwardStage& stage, const PlacedSums& at,
                         const Ending& ending) {
  float a[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    a[i] =
        pre_activation(static_cast<std::int32_t>(at.sum[i]), ending.scale.element[i], ending.bias.element[i]);
  }
  const std::int32_t left = stage.units - at.first_unit;
  if (kind == StageKind::sample) {
    const std::uint32_t states = existing(states_of(a, ending.random), left);
    *reinterpret_cast<std::uint32_t*>(element(stage.output, at.row, at.first_unit)) = states;
    return;
  }
  // Units 4 .. 7 of a block of random words take the halves of its last two.
  const bool first_half = static_cast<std::uint32_t>(at.first_unit) % 8 == 0;
  const std::uint32_t words[2] = {first_half ? ending.random.word[0] : ending.random.word[2],
                                  first_half ? ending.random.word[1] : ending.random.word[3]};
  const std::uint32_t rounded = existing(deltas_of(a, ending.target, stage.weight, words[0], words[1]), left);
  *reinterpret_cast<std::uint32_t*>(element(stage.deltas, at.row, at.first_unit)) = rounded;
}

/// One block: as many tiles as it has groups of `splits` warps.
__device__ void forward(StageKind kind, const ForwardStage& stage, const Draw& draw, std::int32_t item,
                        BlockMemory& memory) {
  const Place place = place_in_block();
  const int split = place.warp % stage.splits;
  const auto tile =
      static_cast<std::uint32_t>(item * (persistent_warps / stage.splits) + place.warp / stage.splits);
  const auto across = static_cast<std::uint32_t>((stage.units + tile_units - 1) / tile_units);
  const std::int32_t row = tile / across * tile_rows;
  const std::int32_t unit = tile % across * tile_units;
  const bool exists = row < stage.rows;  // the same for all lanes of a warp
  PlacedSums sums = no_sums(row, unit, place);
  Ending ending;
  if (exists && stage.high == nullptr) {
    if (sums.row < stage.rows && sums.first_unit < stage.units) ending = ending_of(kind, stage, draw, sums);
  } else if (exists) {
    sums = stage.low != nullptr ? products<2>(kind, stage, draw, row, unit, split, split == 0, place, ending)
                                : products<1>(kind, stage, draw, row, unit, split, split == 0, place, ending);
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
  end_tile(kind, stage, sums, ending);
}

// -------------------------------------------------------------------------------- learning

constexpr int rows_of_product = 32;  ///< summed over by one product
constexpr int products_ahead = 4;    ///< whose states are on their way together
constexpr int rows_ahead = rows_of_product * products_ahead;

/// How the threads of a block share a few receiving units: some warps have one of them, with all its weights.
struct UnitShare {
  std::int32_t unit;     ///< of the item's
  std::int32_t thread;   ///< among those of the unit
  std::int32_t threads;  ///< of the unit
};
__device__ UnitShare unit_share(std::int32_t units, const Place& place) {
  const std::int32_t warps = persistent_warps / units;
  return {place.warp / warps, place.warp % warps * warp_lanes + place.lane, warps * warp_lanes};
}

/// Brings the deltas of the item's units into the block's memory, with the rows of a unit side by side and
/// zeros behind the last row. All threads of the block must call it, and wait before they read.
__device__ void fetch_deltas(const ConstDeltas& deltas, std::int32_t first_unit, std::int32_t units,
                             const UnitShare& share, BlockMemory& memory) {
  if (share.unit >= units) return;
  const auto rows = static_cast<std::int32_t>(deltas.rows);
  for (std::int32_t row = share.thread; row < (rows + rows_ahead - 1) / rows_ahead * rows_ahead;
       row += share.threads) {
    memory.deltas[share.unit][row] =
        row < rows ? *element(deltas, row, first_unit + share.unit) : std::int8_t{0};
  }
}

static_assert(learn_units == tile_units && learn_sending == 2 * tile_rows,
              "a warp has two tiles of mma.cuh, whose columns are receiving units");

/// States of 4 sending units, as a lane reads them for some products: four rows of each half of 16. Rows
/// behind the last, whose deltas are zeros, are those of the last.
struct StatesAhead {
  FourBytesOfRows half[products_ahead][2];
};
__device__ StatesAhead states_ahead(const ConstStates& states, std::int32_t first_row, std::int32_t sending,
                                    const Place& place) {
  StatesAhead ahead;
  const auto last_row = static_cast<std::int32_t>(states.rows) - 1;
  const auto stride = static_cast<std::int32_t>(states.stride);
  const std::uint8_t* const column = states.data + sending;
#pragma unroll
  for (int product = 0; product < products_ahead; ++product) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const std::int32_t row = first_row + rows_of_product * product + 16 * half + 4 * place.member + i;
        const std::int32_t read = row < last_row ? row : last_row;
        ahead.half[product][half].row[i] = *reinterpret_cast<const std::uint32_t*>(column + read * stride);
      }
    }
  }
  return ahead;
}

/// What a lane has of the gradient of 8 receiving units with respect to 32 sending ones: those of receiving
/// units 2 member and 2 member + 1 and of sending units 4 group .. 4 group + 3.
struct GradientTile {
  /// Rows of the product are sending units, taken as 4 group + {0, 1} into the first and 4 group + {2, 3}
  /// into the second; its columns are receiving units, and what is summed over are the rows of the batch.
  std::int32_t of_pair[2][4] = {};
  std::int32_t bias = 0;  ///< this lane's part of the sum of receiving unit `group`'s deltas

  __device__ void add(const StatesAhead& ahead, std::int32_t first_row, const Place& place,
                      const BlockMemory& memory) {
#pragma unroll
    for (int product = 0; product < products_ahead; ++product) {
      const std::int8_t* deltas =
          memory.deltas[place.group] + first_row + rows_of_product * product + 4 * place.member;
      const std::uint32_t b[2] = {*reinterpret_cast<const std::uint32_t*>(deltas),
                                  *reinterpret_cast<const std::uint32_t*>(deltas + 16)};
      const FourByFour above = transposed(ahead.half[product][0]);
      const FourByFour below = transposed(ahead.half[product][1]);
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
        const std::uint32_t a[4] = {above.column[2 * pair], above.column[2 * pair + 1],
                                    below.column[2 * pair], below.column[2 * pair + 1]};
        multiply_add(of_pair[pair], a, b);
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) bias = plus_bytes(bias, b[i]);
    }
  }
  /// Of receiving unit 2 member + i, with respect to the lane's sending units.
  __device__ Several<std::int32_t, 4> four(int i) const {
    return {{of_pair[0][i], of_pair[0][2 + i], of_pair[1][i], of_pair[1][2 + i]}};
  }
};

/// One block: a few receiving units with all their weights, since a unit's largest weight decides on the shift
/// of its integers. Warps make the gradient in tiles, of so many sending units as there is memory for; then
/// each thread moves weights of one unit, which it has asked for before, and keeps them until the largest is
/// known. Where rows are longer, it reads them again.
template <OptimizerKind kind>
__device__ void learn(const LearnStage& stage, const Rates& rates_in_memory, const std::uint32_t* step,
                      std::int32_t item, BlockMemory& memory) {
  constexpr std::int32_t next_tile = learn_sending * persistent_warps;
  const Place place = place_in_block();
  const UnitShare share = unit_share(stage.units_at_once, place);
  const std::int32_t first_unit = item * stage.units_at_once;
  const std::int32_t units_left = static_cast<std::int32_t>(stage.update.receiving) - first_unit;
  const std::int32_t units = stage.units_at_once < units_left ? stage.units_at_once : units_left;
  const auto sending = static_cast<std::int32_t>(stage.update.weight.columns);
  const auto rows = static_cast<std::int32_t>(stage.deltas.rows);
  const std::int32_t at_once = 4 * kept_fours * share.threads;  // sending units
  const std::int32_t unit_stride = at_once + unit_gap;
  const Rates rates = rates_in_memory;
  const auto own_place = [&](std::int32_t begin, int k) {
    return begin + 4 * (share.thread + k * share.threads);
  };
  const auto load_own = [&](std::int32_t own) {
    return load_four(weight_at(stage.update, first_unit + share.unit, own), sending - own, stage.fours);
  };

  std::uint32_t largest = 0;
  Several<float, 4> weights[kept_fours] = {};
  for (std::int32_t begin = 0; begin < sending; begin += at_once) {
    const std::int32_t end = begin + at_once < sending ? begin + at_once : sending;
    std::int32_t first = begin + learn_sending * place.warp;  // of the warp's tile: the same for all lanes
    std::int32_t first_row = 0;
    StatesAhead ahead;
    if (first < end) ahead = states_ahead(stage.input, first_row, first + 4 * place.group, place);
#pragma unroll
    for (int k = 0; k < kept_fours; ++k) {
      const std::int32_t own = own_place(begin, k);
      if (share.unit < units && own < end) weights[k] = load_own(own);
    }
    __syncthreads();  // what was there before, of an item or of a turn, may still be read
    if (begin == 0) {
      if (place.thread < learn_units) memory.largest[place.thread] = 0;
      fetch_deltas(stage.deltas, first_unit, units, share, memory);
      __syncthreads();
    }
    GradientTile tile;
    while (first < end) {
      const StatesAhead now = ahead;
      const std::int32_t row_now = first_row;
      const std::int32_t first_now = first;
      first_row += rows_ahead;
      if (first_row >= rows) {
        first_row = 0;
        first += next_tile;
      }
      if (first < end) ahead = states_ahead(stage.input, first_row, first + 4 * place.group, place);
      __syncwarp();  // lanes may come from work that only some of them had
      tile.add(now, row_now, place, memory);
      if (first_row != 0) continue;
      if (first_now == 0) {
        std::int32_t bias_gradient = tile.bias;
        bias_gradient += __shfl_xor_sync(0xFFFFFFFFu, bias_gradient, 1);
        bias_gradient += __shfl_xor_sync(0xFFFFFFFFu, bias_gradient, 2);
        if (place.member == 0 && place.group < units) {
          ascend_bias(stage.update, step, first_unit + place.group, bias_gradient, stage.optimizer, rates);
        }
      }
      const std::int32_t own = first_now - begin + 4 * place.group;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const std::int32_t unit = 2 * place.member + i;
        if (unit < units && own < at_once) {
          store(memory.gradient + (unit * unit_stride + own), tile.four(i));
        }
      }
      tile = {};
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kept_fours; ++k) {
      const std::int32_t own = own_place(begin, k);
      if (share.unit >= units || own >= end) continue;
      const Several<std::int32_t, 4> gradient =
          load<4>(memory.gradient + (share.unit * unit_stride + own - begin));
      weights[k] = ascend_four<kind>(stage.update, stage.optimizer, rates, stage.fours,
                                     first_unit + share.unit, own, weights[k], gradient, largest);
    }
  }
  largest = warp_reduce(largest, Larger{});
  if (place.lane == 0 && share.unit < units) atomicMax(&memory.largest[share.unit], largest);
  __syncthreads();

  if (share.unit >= units) return;
  const std::int32_t unit = first_unit + share.unit;
  Integers<std::int8_t> integers = stage.integers;
  integers.step = step;
  const IntegerScale scale = scale_of_unit(integers, unit, memory.largest[share.unit], share.thread == 0);
  if (!scale.fits) return;
  for (std::int32_t begin = 0; begin < sending; begin += at_once) {
#pragma unroll
    for (int k = 0; k < kept_fours; ++k) {
      const std::int32_t own = own_place(begin, k);
      if (own >= sending) continue;
      if (sending > at_once) weights[k] = load_own(own);  // which this thread has written
      // Rows of integers are padded, with zeros.
      store_integers<4>(integers, unit, own, weights[k], scale.two_to_shift);
    }
  }
}

/// One block: learn_units units of a prior, which share a block of random words.
__device__ void learn_prior(const ForwardStage& forward, const LearnStage& stage, const Draw& draw,
                            Rates rates, const std::uint32_t* step, std::int32_t item, BlockMemory& memory) {
  const Place place = place_in_block();
  const std::int32_t first_unit = item * learn_units;
  __syncthreads();  // an item before this one may still be reading
  if (place.thread < learn_units) memory.bias_gradient[place.thread] = 0;
  __syncthreads();
  std::int32_t sums[learn_units] = {};
  for (std::int32_t row = place.thread; row < forward.rows; row += persistent_threads) {
    const PhiloxBlock random = random_words(draw, row, item);
#pragma unroll
    for (int i = 0; i < learn_units; ++i) {
      const std::int32_t unit = first_unit + i;
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
  ascend_bias(stage.update, step, first_unit + place.thread, memory.bias_gradient[place.thread],
              stage.optimizer, rates);
}

// -------------------------------------------------------------------------------- the kernel

template <OptimizerKind kind>
__device__ void run(const Stage& stage, const Clock& clock, const StepScalars* steps, std::int32_t item,
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
      learn<kind>(stage.learn, *at_step(clock, step, stage.learn.rates),
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
template <OptimizerKind kind>
__device__ void run(const Level& level, const Clock& clock, const StepScalars* steps, std::int32_t item,
                    BlockMemory& memory) {
  for (int i = 0; i < level.stages; ++i) {
    const Stage& stage = level.stage[i];
    if (item < stage.items) {
      run<kind>(stage, clock, steps, item, memory);
      return;
    }
    item -= stage.items;
  }
}

constexpr int level_parts = sizeof(Level) / sizeof(Several<std::uint32_t, 4>);

/// Begins to bring a level into the block's memory.
__device__ void begin_fetch(const Level& from, Level& to) {
  constexpr int bytes = sizeof(Several<std::uint32_t, 4>);
  const int part = static_cast<int>(threadIdx.x);
  if (part < level_parts) {
    begin_copy(reinterpret_cast<std::byte*>(&to) + bytes * part,
               reinterpret_cast<const std::byte*>(&from) + bytes * part);
  }
  close_group();
}

/// One for each optimiser, so that none carries the code of the others along.
template <OptimizerKind kind>
__global__ void __launch_bounds__(persistent_threads, 1) persistent_kernel(Program program) {
  BlockMemory& memory = block_memory<BlockMemory>();
  const std::uint32_t first_step = *program.clock.position;
  const StepScalars* steps = program.clock.table + first_step;
  begin_fetch(program.levels[0], memory.level[0]);
  await_groups<0>();
  __syncthreads();
  for (int number = 0; number < program.level_count; ++number) {
    const int next = number + 1;
    if (next < program.level_count) begin_fetch(program.levels[next], memory.level[next % 2]);
    const Level& level = memory.level[number % 2];
    for (std::int32_t item = blockIdx.x; item < level.items; item += gridDim.x) {
      run<kind>(level, program.clock, steps, item, memory);
    }
    await_groups<0>();
    grid_barrier(program.barrier, static_cast<std::uint32_t>(number));
  }
  // As `advance` would have left them. Behind the barrier everybody has read the position.
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    *program.clock.now = steps[program.steps - 1];
    *program.clock.position = first_step + static_cast<std::uint32_t>(program.steps);
  }
}

using PersistentKernelOf = void (*)(Program);
PersistentKernelOf kernel_of(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::sgd:
      return persistent_kernel<OptimizerKind::sgd>;
    case OptimizerKind::momentum:
      return persistent_kernel<OptimizerKind::momentum>;
    case OptimizerKind::adam:
      break;
  }
  return persistent_kernel<OptimizerKind::adam>;
}

}  // namespace

int persistent_blocks(const cudaDeviceProp& properties) {
  int blocks = properties.multiProcessorCount;
  for (const OptimizerKind kind : {OptimizerKind::sgd, OptimizerKind::momentum, OptimizerKind::adam}) {
    blocks = std::min(blocks,
                      resident_blocks(kernel_of(kind), persistent_threads, sizeof(BlockMemory), properties));
  }
  return blocks;
}

void run_persistent(cudaStream_t stream, const Program& program, int blocks) {
  launch_cooperatively(kernel_of(program.optimizer),
                       {dim3(static_cast<unsigned int>(blocks)), dim3(persistent_threads)},
                       sizeof(BlockMemory), stream, program);
}

}  // namespace wakesleep::cuda
