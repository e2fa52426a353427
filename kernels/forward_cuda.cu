// A product and what follows it, samples, scores or deltas, in one kernel: for products that are too small to
// keep the device busy for long, whose sums need not go through memory then. kernels/cuda/product.cuh makes
// the others.
#include "kernels/cuda/approximate.cuh"
#include "kernels/cuda/copies.cuh"
#include "kernels/cuda/four_sums.cuh"
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/philox.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/score_sink.cuh"
#include "kernels/cuda/several.cuh"

namespace wakesleep::cuda {
namespace {

constexpr int chunk = 64;                  ///< sending units that are multiplied between two barriers
constexpr int segment = 16;                ///< bytes that are copied together
constexpr int segments = chunk / segment;  ///< of a row of a chunk
constexpr int shared_bytes = 48 << 10;     ///< that a block may have without asking for more
constexpr int most_stages = 6;             ///< chunks that are there or on their way

/// How a block's tile of rows and receiving units is shared out: warps down (over rows) and across (over
/// units), each with so many tiles of mma.cuh, 16 rows by 8 units, in both directions.
template <int warps_down_, int warps_across_, int down_, int across_>
struct Tiling {
  static constexpr int warps_down = warps_down_, warps_across = warps_across_, down = down_, across = across_;
  static constexpr int threads = warp_lanes * warps_down * warps_across;
  static constexpr int rows = 16 * warps_down * down;
  static constexpr int units = 8 * warps_across * across;
  static_assert(across % 2 == 0, "right operands are loaded for two tiles at a time");
};
using LargeTiling = Tiling<4, 2, 2, 4>;  ///< 128 rows by 64 units
using SmallTiling = Tiling<2, 2, 1, 2>;  ///< 32 by 32

/// Where 16 bytes of a row of a chunk lie in shared memory. The segments of a row are stored in an order that
/// depends on the row, so that eight rows' segments of one number, as load_matrices reads them, lie in
/// different banks.
__device__ inline std::int32_t place_of(std::int32_t row, std::int32_t number) {
  return row * chunk + (number ^ ((row >> 1) & 3)) * segment;
}

/// Rows of chunks as a thread copies them: always the same rows and segments, a chunk further on each time.
template <class Shape, int limbs>
struct Copies {
  static constexpr int rows = Shape::rows + limbs * Shape::units;  ///< of the input, then of the limbs
  static constexpr int stage_bytes = rows * chunk;
  static constexpr int stages =
      shared_bytes / stage_bytes < most_stages ? shared_bytes / stage_bytes : most_stages;
  static constexpr int of_thread = rows * segments / Shape::threads;
  static_assert(of_thread * Shape::threads == rows * segments && stages >= 2);

  const std::int8_t* from[of_thread];
  std::int32_t to[of_thread];

  __device__ Copies(const ForwardOperation& operation, std::int32_t first_row, std::int32_t first_unit) {
#pragma unroll
    for (int i = 0; i < of_thread; ++i) {
      const std::int32_t place = i * Shape::threads + static_cast<std::int32_t>(threadIdx.x);
      const std::int32_t row = place / segments;
      const std::int32_t number = place % segments;
      to[i] = place_of(row, number);
      // Rows behind the last are those of the last: nobody uses their sums.
      if (row < Shape::rows) {
        const std::int32_t last = operation.rows - 1;
        const std::int32_t read = first_row + row < last ? first_row + row : last;
        from[i] = reinterpret_cast<const std::int8_t*>(operation.input.data) + read * operation.input.stride;
      } else {
        const std::int32_t limb = (row - Shape::rows) / Shape::units;
        const std::int32_t unit = first_unit + (row - Shape::rows) % Shape::units;
        const std::int32_t last = operation.limb_rows - 1;
        from[i] = operation.limbs + (std::int64_t{limb} * operation.limb_rows + (unit < last ? unit : last)) *
                                        operation.limb_stride;
      }
      from[i] += number * segment;
    }
  }
  __device__ void begin(std::byte* stage) {
#pragma unroll
    for (int i = 0; i < of_thread; ++i) {
      begin_copy(stage + to[i], from[i]);
      from[i] += chunk;
    }
  }
};

/// A lane's sums of its warp's tiles.
template <class Shape, int limbs>
struct Sums {
  std::int32_t of[limbs][Shape::down][Shape::across][4] = {};

  /// Adds the products of a chunk. `row` and `unit` are the first of the warp's within the block's.
  __device__ void add(const std::byte* stage, std::int32_t row, std::int32_t unit, std::int32_t lane) {
#pragma unroll
    for (int half = 0; half < chunk / 32; ++half) {  // 32 sending units make a product
      std::uint32_t left[Shape::down][4];
#pragma unroll
      for (int i = 0; i < Shape::down; ++i) {
        // Matrices: upper and lower 8 rows of the first 16 bytes, then of the second.
        load_matrices(left[i], stage + place_of(row + 16 * i + lane % 16, 2 * half + lane / 16));
      }
#pragma unroll
      for (int limb = 0; limb < limbs; ++limb) {
#pragma unroll
        for (int pair = 0; pair < Shape::across / 2; ++pair) {
          // Matrices: both 16 bytes of 8 units, then of the next 8.
          std::uint32_t right[4];
          load_matrices(right, stage + place_of(Shape::rows + limb * Shape::units + unit + 16 * pair +
                                                    lane % 8 + lane / 16 * 8,
                                                2 * half + lane / 8 % 2));
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            const std::uint32_t b[2] = {right[2 * j], right[2 * j + 1]};
#pragma unroll
            for (int i = 0; i < Shape::down; ++i) multiply_add(of[limb][i][2 * pair + j], left[i], b);
          }
        }
      }
    }
  }
  /// The joined sums of tile (i, j), as 32-bit patterns.
  __device__ void joined(int i, int j, std::uint32_t (&sum)[4]) const {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      sum[k] = static_cast<std::uint32_t>(limbs == 2 ? join_limbs(of[0][i][j][k], of[limbs - 1][i][j][k])
                                                     : of[0][i][j][k]);
    }
  }
};

/// Words of four units each that two lanes two apart have of a row: the lower one the first half of every
/// tile across and the upper one the second half, or, spread out, neighbouring words: the lower one those of
/// the first tiles. From one to the other and back.
template <int across>
__device__ void to_neighbours(std::uint32_t (&word)[across], bool upper) {
  std::uint32_t neighbours[across];
#pragma unroll
  for (int t = 0; t < across / 2; ++t) {
    const std::uint32_t given = __shfl_xor_sync(0xFFFFFFFFu, upper ? word[t] : word[across / 2 + t], 2);
    neighbours[2 * t] = upper ? given : word[t];
    neighbours[2 * t + 1] = upper ? word[across / 2 + t] : given;
  }
#pragma unroll
  for (int t = 0; t < across; ++t) word[t] = neighbours[t];
}
template <int across>
__device__ void from_neighbours(std::uint32_t (&word)[across], bool upper) {
  std::uint32_t halves[across];
#pragma unroll
  for (int t = 0; t < across / 2; ++t) {
    const std::uint32_t given = __shfl_xor_sync(0xFFFFFFFFu, upper ? word[2 * t] : word[2 * t + 1], 2);
    halves[t] = upper ? given : word[2 * t];
    halves[across / 2 + t] = upper ? word[2 * t + 1] : given;
  }
#pragma unroll
  for (int t = 0; t < across; ++t) word[t] = halves[t];
}

/// Neighbouring words of a row of bytes, of which those exist that begin below `units`.
template <int across, class Byte>
__device__ void load_words(const Byte* bytes, std::int32_t units, std::uint32_t (&word)[across]) {
  const auto* words = reinterpret_cast<const std::uint32_t*>(bytes);
  if (units >= 4 * across) {
    const Several<std::uint32_t, across> all = load<across>(words);
#pragma unroll
    for (int t = 0; t < across; ++t) word[t] = all.element[t];
    return;
  }
#pragma unroll
  for (int t = 0; t < across; ++t) word[t] = 4 * t < units ? words[t] : 0u;
}
template <int across, class Byte>
__device__ void store_words(Byte* bytes, std::int32_t units, const std::uint32_t (&word)[across]) {
  auto* words = reinterpret_cast<std::uint32_t*>(bytes);
  if (units >= 4 * across) {
    Several<std::uint32_t, across> all;
#pragma unroll
    for (int t = 0; t < across; ++t) all.element[t] = word[t];
    store(words, all);
    return;
  }
#pragma unroll
  for (int t = 0; t < across; ++t) {
    if (4 * t < units) words[t] = existing(word[t], units - 4 * t);
  }
}

/// What is made of the logits.
enum class Following { samples, scored_samples, scores, deltas, nothing };

/// The log-probability of four units' states, and their errors where they are wanted. `left` units exist from
/// `unit` on.
__device__ std::int64_t score_four(const ForwardOperation& operation, std::int32_t row, std::int32_t unit,
                                   std::int32_t left, std::uint32_t states, const float (&a)[4]) {
  std::int64_t log_probability = 0;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if (k >= left) break;
    const std::uint32_t state = states >> (8 * k) & 0xFFu;
    log_probability += log_bernoulli(state, a[k]);
    if (operation.errors.data != nullptr) {
      operation.errors.data[row * operation.errors.stride + unit + k] = state_minus_probability(state, a[k]);
    }
  }
  return log_probability;
}

/// `output` are the states of samples, the bytes of deltas, or the logits themselves.
template <class Shape, int limbs, Following following, class Element>
__global__ void __launch_bounds__(Shape::threads, 1)
    forward_kernel(ForwardOperation operation, Matrix<Element> output) {
  constexpr bool keeps_logits = following == Following::nothing;
  constexpr bool draws = following != Following::scores && !keeps_logits;
  constexpr bool of_deltas = following == Following::deltas;
  constexpr bool has_target = of_deltas || following == Following::scores;
  constexpr bool scored = following == Following::scores || following == Following::scored_samples;
  using Copying = Copies<Shape, limbs>;
  constexpr int across = Shape::across;
  __shared__ uint4 lines[Copying::stages * Copying::stage_bytes / sizeof(uint4)];
  std::byte* const memory = reinterpret_cast<std::byte*>(lines);
  const auto blocks_across = static_cast<std::uint32_t>((operation.units + Shape::units - 1) / Shape::units);
  const std::int32_t first_row = static_cast<std::int32_t>(blockIdx.x / blocks_across) * Shape::rows;
  const std::int32_t first_unit = static_cast<std::int32_t>(blockIdx.x % blocks_across) * Shape::units;
  const std::int32_t lane = static_cast<std::int32_t>(threadIdx.x) % warp_lanes;
  const std::int32_t warp = static_cast<std::int32_t>(threadIdx.x) / warp_lanes;
  const std::int32_t warp_row = warp / Shape::warps_across * (16 * Shape::down);
  const std::int32_t warp_unit = warp % Shape::warps_across * (8 * across);
  const auto chunks = static_cast<std::int32_t>(operation.limb_stride / chunk);

  Copying copies(operation, first_row, first_unit);
#pragma unroll
  for (int stage = 0; stage < Copying::stages - 1; ++stage) {
    if (stage < chunks) copies.begin(memory + stage * Copying::stage_bytes);
    close_group();
  }
  Sums<Shape, limbs> sums;
  std::int32_t now = 0;
  for (std::int32_t number = 0; number < chunks; ++number) {
    await_groups<Copying::stages - 2>();
    // What everybody has waited for is there for all, and what was multiplied before it may be written over.
    __syncthreads();
    const std::int32_t before = now == 0 ? Copying::stages - 1 : now - 1;
    if (number + Copying::stages - 1 < chunks) copies.begin(memory + before * Copying::stage_bytes);
    close_group();
    sums.add(memory + now * Copying::stage_bytes, warp_row, warp_unit, lane);
    now = now == Copying::stages - 1 ? 0 : now + 1;
  }

  // Even lanes have four units of a tile's upper row and odd ones four of the lower row (FourSums); of a row,
  // every tile across has four units in each of two lanes.
  const std::int32_t member = lane % 4;
  const bool odd = member % 2 == 1;
  const bool upper = member / 2 == 1;
  const std::int32_t tile_unit = first_unit + warp_unit;
  Several<float, 4> scale[across];
  Several<float, 4> bias[across];
#pragma unroll
  for (int j = 0; j < across; ++j) {
    const std::int32_t unit = tile_unit + 8 * j + 4 * (member / 2);
    scale[j] = four_values(operation.scales + unit, operation.units - unit);
    bias[j] = four_values(operation.bias + unit, operation.units - unit);
  }
  // Where the lane's words lie once they are neighbours, and how many units there are from there on.
  const std::int32_t own_unit = tile_unit + 4 * across * (member / 2);
  const std::int32_t left = operation.units - own_unit;
  [[maybe_unused]] const RowDraws draws_of_group = row_draws(operation.draw, operation.samples, 0);
  std::int64_t log_probability_of_all = 0;
#pragma unroll
  for (int i = 0; i < Shape::down; ++i) {
    const std::int32_t row = first_row + warp_row + 16 * i + lane / 4 + 8 * (member % 2);
    const bool exists = row < operation.rows;
    const auto random_of = [&](std::int32_t group) {
      RowDraws of_group = draws_of_group;
      of_group.group = static_cast<std::uint32_t>(group);
      return of_group.of_row(static_cast<std::uint32_t>(row));
    };
    [[maybe_unused]] std::uint32_t target[across] = {};
    // Of deltas: the two words of a block that have the bits of a lane's four units.
    [[maybe_unused]] std::uint32_t low_words[across];
    [[maybe_unused]] std::uint32_t high_words[across];
    if constexpr (has_target) {
      const std::int32_t target_row = operation.rows_per_target == 1 ? row : row / operation.rows_per_target;
      if (exists)
        load_words(operation.target.data + target_row * operation.target.stride + own_unit, left, target);
      from_neighbours(target, upper);
    }
    if constexpr (of_deltas) {
      // Eight units share a block of random words: each lane makes those of half of the tiles for both.
#pragma unroll
      for (int t = 0; t < across / 2; ++t) {
        const int tile = upper ? across / 2 + t : t;
        const PhiloxBlock random = random_of(tile_unit / 8 + tile);
        const std::uint32_t low = __shfl_xor_sync(0xFFFFFFFFu, upper ? random.word[0] : random.word[2], 2);
        const std::uint32_t high = __shfl_xor_sync(0xFFFFFFFFu, upper ? random.word[1] : random.word[3], 2);
        low_words[t] = upper ? low : random.word[0];
        high_words[t] = upper ? high : random.word[1];
        low_words[across / 2 + t] = upper ? random.word[2] : low;
        high_words[across / 2 + t] = upper ? random.word[3] : high;
      }
    }
    [[maybe_unused]] std::uint32_t result[across];
    std::int64_t log_probability = 0;
#pragma unroll
    for (int j = 0; j < across; ++j) {
      std::uint32_t own[4];
      sums.joined(i, j, own);
      const FourSums sums_of_row(own, odd);
      float a[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        a[k] = pre_activation(static_cast<std::int32_t>(sums_of_row.unit[k]), scale[j].element[k],
                              bias[j].element[k]);
      }
      const std::int32_t unit = tile_unit + 8 * j + 4 * (member / 2);
      if constexpr (keeps_logits) {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          if (exists && unit + k < operation.units) output.data[row * output.stride + unit + k] = a[k];
        }
      } else if constexpr (of_deltas) {
        result[j] = deltas_of(a, target[j], operation.weight, low_words[j], high_words[j]);
      } else if constexpr (draws) {
        result[j] = states_of(a, random_of(unit / 4));
      } else {
        result[j] = target[j];
      }
      if constexpr (scored) {
        if (exists) log_probability += score_four(operation, row, unit, operation.units - unit, result[j], a);
      }
    }
    if constexpr (scored) {
      log_probability_of_all += log_probability;
      const std::int64_t of_row = log_probability + __shfl_xor_sync(0xFFFFFFFFu, log_probability, 2);
      if (operation.sink.rows != nullptr && exists && !upper) {
        atomic_add(operation.sink.rows + row, operation.sink.sign * of_row);
      }
    }
    if constexpr (draws) {
      to_neighbours(result, upper);
      if (exists) store_words(output.data + row * output.stride + own_unit, left, result);
    }
  }
  if constexpr (scored) {
    if (operation.sink.total == nullptr) return;
    const std::int64_t of_warp = warp_reduce(log_probability_of_all, Plus{});
    if (lane == 0) atomic_add(operation.sink.total, of_warp);
  }
}

template <class Shape>
std::int64_t blocks_of(const ForwardOperation& operation) {
  const auto pieces = [](std::int64_t count, std::int64_t size) { return (count + size - 1) / size; };
  return pieces(operation.rows, Shape::rows) * pieces(operation.units, Shape::units);
}

template <class Shape, Following following, class Element>
void queue(cudaStream_t stream, const ForwardOperation& operation, const Matrix<Element>& output) {
  launch(operation.limb_count == 2 ? forward_kernel<Shape, 2, following, Element>
                                   : forward_kernel<Shape, 1, following, Element>,
         {dim3(blocks_for(blocks_of<Shape>(operation), 1, 2147483647)), dim3(Shape::threads)}, stream,
         operation, output);
}

/// Large tiles read operands fewer times, and small ones occupy more multiprocessors.
template <Following following, class Element>
void queue_fitting(cudaStream_t stream, const ForwardOperation& operation, const Matrix<Element>& output) {
  constexpr std::int64_t enough_blocks = 64;
  if (blocks_of<LargeTiling>(operation) >= enough_blocks) {
    queue<LargeTiling, following>(stream, operation, output);
  } else {
    queue<SmallTiling, following>(stream, operation, output);
  }
}

}  // namespace

bool fits_one_kernel(std::int64_t rows, const Limbs& limbs) {
  // A thousand rows and units each way are over in some microseconds; larger products keep the device busy by
  // themselves. Nor is the sum over many sending units, which one block makes from end to end, shared out.
  constexpr std::int64_t most = std::int64_t{1} << 31;
  constexpr std::int64_t most_sending = 4096;
  return limbs.route == CudaRoute::int8 && limbs.stride <= most_sending &&
         rows * limbs.count * limbs.rows <= most / limbs.stride;
}

void forward_sample(cudaStream_t stream, const ForwardOperation& operation, States output) {
  if (has_sink(operation.sink) || operation.errors.data != nullptr) {
    queue_fitting<Following::scored_samples>(stream, operation, output);
  } else {
    queue_fitting<Following::samples>(stream, operation, output);
  }
}

void forward_logits(cudaStream_t stream, const ForwardOperation& operation, Matrix<float> kept) {
  queue_fitting<Following::nothing>(stream, operation, kept);
}

void forward_delta(cudaStream_t stream, const ForwardOperation& operation, Deltas deltas) {
  queue_fitting<Following::deltas>(stream, operation, deltas);
}

void forward_score(cudaStream_t stream, const ForwardOperation& operation) {
  if (!has_sink(operation.sink) && operation.errors.data == nullptr) return;
  queue_fitting<Following::scores>(stream, operation, States{});
}

}  // namespace wakesleep::cuda
