// A recording as one persistent kernel runs it: stages, each of which is an operation or two, ordered into
// levels. Stages of one level touch nothing in common, so the blocks share them out among themselves; between
// two levels all blocks wait for each other. kernels/persistent_cuda.cu is the kernel, program.cu makes
// programs of operations.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/cuda/cooperative.cuh"
#include "kernels/cuda/integers.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/product.cuh"

namespace wakesleep::cuda {

// -------------------------------------------------------------------------------- for the device

inline constexpr int persistent_threads = 512;  ///< of a block; a multiprocessor has one
inline constexpr int persistent_warps = persistent_threads / warp_lanes;

inline constexpr std::int32_t tile_rows = 16;      ///< rows of the batch that a warp takes through a product
inline constexpr std::int32_t tile_units = 8;      ///< and its receiving units
inline constexpr std::int32_t chunk_units = 64;    ///< sending units that it multiplies at a time
inline constexpr std::int32_t learn_units = 8;     ///< most receiving units that a block learns at a time
inline constexpr std::int32_t learn_sending = 32;  ///< sending units that a warp takes through a gradient
/// Rows of a batch, whose deltas a block keeps at hand.
inline constexpr std::int32_t most_learn_rows = 1024;

/// Where a step's scalars stand. While a program runs, pointers into *now lead to the step's place in the
/// table instead, so that nobody waits for `advance`.
struct Clock {
  const StepScalars* table = nullptr;
  std::uint32_t* position = nullptr;
  StepScalars* now = nullptr;
};

/// Ops::gather.
struct GatherStage {
  DataRows data;
  const std::uint32_t* order = nullptr;
  const std::uint32_t* first = nullptr;
  Draw draw;
  States states;
};

/// The pre-activations of a conditional, and Ops::sample or Ops::delta of them. A prior has no chunks.
struct ForwardStage {
  const std::int8_t* high = nullptr;  ///< the integer weights, as in Limbs
  const std::int8_t* low = nullptr;   ///< null: one limb
  std::int32_t stride = 0;
  const float* scales = nullptr;
  const float* bias = nullptr;
  ConstStates input;
  std::int32_t rows = 0;
  std::int32_t units = 0;
  std::int32_t chunks = 0;
  std::int32_t splits = 1;  ///< warps that share a tile's chunks: a power of two up to persistent_warps
  Draw draw;
  States output;       ///< of a sample
  ConstStates target;  ///< of a delta
  Deltas deltas;
  float weight = 1.0f;
};

/// Ops::learn, or Ops::gradient and Ops::update: the gradient stays in the block.
struct LearnStage {
  ConstDeltas deltas;
  ConstStates input;  ///< none for a prior
  ParameterUpdate update;
  Integers<std::int8_t> integers;
  Optimizer optimizer;
  const Rates* rates = nullptr;
  bool fours = false;                        ///< in_fours(update)
  std::int32_t units_at_once = learn_units;  ///< receiving units of an item
};

enum class StageKind : std::int32_t {
  gather,
  sample,
  delta,
  learn,
  learn_prior,  ///< Ops::delta, Ops::gradient and Ops::update of a prior
};

struct Stage {
  StageKind kind = StageKind::gather;
  std::int32_t step = 0;   ///< of the recording, from 0
  std::int32_t items = 0;  ///< pieces that blocks take
  GatherStage gather;
  ForwardStage forward;
  LearnStage learn;
};

/// Stages that the device runs between two barriers.
struct alignas(16) Level {
  static constexpr int most_stages = 6;
  std::int32_t stages = 0;
  std::int32_t items = 0;  ///< of all stages
  Stage stage[most_stages];
};
static_assert(std::is_trivially_copyable_v<Level> && sizeof(Level) <= 16 * persistent_threads,
              "a block fetches a level with one access of each thread");

struct Program {
  Clock clock;
  GridBarrier barrier;
  const Level* levels = nullptr;
  std::int32_t level_count = 0;  ///< at least 1
  std::int32_t steps = 0;
  OptimizerKind optimizer = OptimizerKind::sgd;  ///< of all that it learns
};

/// How many blocks run a program on the current device; 0 where it runs none.
int persistent_blocks(const cudaDeviceProp& properties);

/// Queues the program.
void run_persistent(cudaStream_t stream, const Program& program, int blocks);

// -------------------------------------------------------------------------------- for the host

/// Bytes of the device's memory, from `begin` up to `end`.
struct MemoryRange {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
};

/// A program while its operations are called: those of Ops, in the order of the calls, with shapes that have
/// been checked. Branches need not be known: what may run beside what follows from what each stage reads and
/// writes.
class Draft {
 public:
  /// For so many blocks (persistent_blocks).
  explicit Draft(int blocks) : blocks_(blocks) {}

  void advance(const StepScalars* table, std::uint32_t* position, StepScalars* now);
  void gather(const DataRows& data, const std::uint32_t* order, const std::uint32_t* first, const Draw& draw,
              States states);
  /// `weights` are null for a prior, as they are below.
  void sample(const CudaWeights* weights, const float* bias, ConstStates input, const Draw& draw,
              States output);
  void delta(const CudaWeights* weights, const float* bias, ConstStates input, ConstStates target,
             const Draw& draw, float weight, Deltas deltas);
  /// The update of the same gradient must come next.
  void gradient(ConstDeltas deltas, ConstStates input, const std::int32_t* gradient,
                const std::int32_t* bias_gradient);
  void update(const ParameterUpdate& update, const GradientPair<const std::int32_t>& gradient,
              const Optimizer& optimizer, const Rates* rates);

  /// There is no program of these operations, because there is `what` among them. The first reason stays.
  void refuse(const std::string& what);

  /// How many steps were begun.
  std::int32_t steps() const { return steps_; }

  /// What stands against a program on a device with so large a cache; empty where nothing does. To be asked
  /// when all operations have been given.
  std::string why_not(std::int64_t cache_bytes) const;

  /// The stages, each in the first level behind all those that it must not run beside.
  std::vector<Level> levels() const;
  /// All but the levels.
  Program program() const;

 private:
  struct Touched {
    std::vector<MemoryRange> read;
    std::vector<MemoryRange> written;
  };
  struct Piece {
    Stage stage;
    Touched touched;
  };
  struct Gradient {
    ConstDeltas deltas;
    ConstStates input;
    const std::int32_t* weight = nullptr;
    const std::int32_t* bias = nullptr;
  };

  bool accepts(std::int64_t rows);
  void share_out(Level& level) const;
  void add(StageKind kind, const Stage& stage, std::int64_t items, Touched touched);
  void add_forward(StageKind kind, const CudaWeights* weights, const float* bias, ConstStates input,
                   ForwardStage stage, Touched touched);
  std::int64_t working_set() const;

  int blocks_;
  Clock clock_;
  std::int32_t steps_ = 0;
  std::string refused_;
  std::optional<OptimizerKind> optimizer_;
  std::vector<Piece> pieces_;
  std::unique_ptr<Gradient> gradient_;
};

}  // namespace wakesleep::cuda
