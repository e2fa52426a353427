// A gradient and the step along it in one kernel, for conditionals so small that the gradient need not go
// through memory: each block makes a tile of it and moves the weights of the tile, and of the blocks that
// share receiving units the last one turns them into integers. kernels/gradient_cuda.cu with
// kernels/cuda/product.cuh and kernels/update_cuda.cu do the same in several kernels.
#include "kernels/cuda/ascent.cuh"
#include "kernels/cuda/gradient_tile.cuh"
#include "kernels/cuda/integers.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/last_block.cuh"

namespace wakesleep::cuda {
namespace {

constexpr std::int32_t warp_columns = 4 * warp_lanes;  ///< weights of a unit that a warp moves at a time

/// Operands, and what moves along their product.
struct LearnOperation {
  ConstDeltas deltas;
  ConstStates states;
  AddedGradient added;
  ParameterUpdate update;
  Integers<std::int8_t> integers;
  Optimizer optimizer;
  const Rates* rates = nullptr;
  bool fours = false;                 ///< in_fours(update), and the same of what is added
  std::uint32_t* largest = nullptr;   ///< magnitude_bits of each unit's new weights; zeros before and after
  std::uint32_t* arrivals = nullptr;  ///< of blocks, for each tile of units; zeros likewise
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
  static_assert(Shape::receiving <= Shape::threads);
  __shared__ GradientMemory<Shape> memory;
  const ParameterUpdate& update = operation.update;
  const auto units = static_cast<std::int32_t>(update.receiving);
  const auto sending = static_cast<std::int32_t>(update.weight.columns);
  const GradientPlace<Shape> place(sending);
  Gradient<Shape> gradient = gradient_of_tile(operation.deltas, operation.states, place, memory);

  // Calls use(i, odd, j, unit, first) for the lane's weights that exist, four from sending unit `first` on.
  const auto each_four = [&](const auto& use) {
#pragma unroll
    for (int i = 0; i < down; ++i) {
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {
#pragma unroll
        for (int j = 0; j < across; ++j) {
          const std::int32_t unit = place.unit(i, odd);
          const std::int32_t first = place.sending(j);
          if (unit < units && first < sending) use(i, odd, j, unit, first);
        }
      }
    }
  };
  // What is read is on its way before the first of it is used.
  Several<float, 4> weights[down][2][across];
  each_four([&](int i, int odd, int j, std::int32_t unit, std::int32_t first) {
    weights[i][odd][j] = load_four(weight_at(update, unit, first), sending - first, operation.fours);
  });
  if (operation.added.weight != nullptr) {
    each_four([&](int i, int odd, int j, std::int32_t unit, std::int32_t first) {
      gradient.add_four(
          i, j, odd,
          load_four(operation.added.weight + (unit * sending + first), sending - first, operation.fours));
    });
  }
  const Rates in_memory = *operation.rates;
  const Rates rates = rates_in_units(in_memory, update.units.weight);

  std::uint32_t* const largest = reinterpret_cast<std::uint32_t*>(memory.lines);  // of the block's units
  __syncthreads();  // chunks are not read any more
  if (place.thread < Shape::receiving) largest[place.thread] = 0;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < down; ++i) {
#pragma unroll
    for (int odd = 0; odd < 2; ++odd) {
      const std::int32_t unit = place.unit(i, odd);
      if (place.sums_biases) {
        std::int32_t sum = gradient.bias_sum(i, odd);
        if (place.member == 0 && unit < units) {
          if (operation.added.bias != nullptr) sum += operation.added.bias[unit];
          ascend_bias(update, update.step, unit, sum, operation.optimizer,
                      rates_in_units(in_memory, update.units.bias));
        }
      }
      std::uint32_t of_lane = 0;
#pragma unroll
      for (int j = 0; j < across; ++j) {
        const std::int32_t first = place.sending(j);
        if (unit < units && first < sending) {
          ascend_four<kind>(update, operation.optimizer, rates, operation.fours, unit, first,
                            weights[i][odd][j], gradient.four(i, j, odd), of_lane);
        }
      }
      __syncwarp();
      of_lane = Larger{}(of_lane, __shfl_xor_sync(0xFFFFFFFFu, of_lane, 1));
      of_lane = Larger{}(of_lane, __shfl_xor_sync(0xFFFFFFFFu, of_lane, 2));
      if (place.member == 0 && unit < units) atomicMax(&largest[unit - place.first_unit], of_lane);
    }
  }

  // The largest of all blocks that share these units, and then the integers.
  __syncthreads();
  const std::int32_t own = place.first_unit + place.thread;
  const bool has_unit = place.thread < Shape::receiving && own < units;
  if (has_unit) atomicMax(operation.largest + own, largest[place.thread]);
  if (!is_last_block(operation.arrivals + place.block_down, place.blocks_across)) return;
  if (has_unit) largest[place.thread] = atomicExch(operation.largest + own, 0u);
  __syncthreads();
  write_integers_of_units<Shape>(operation, place.first_unit, largest, place.warp, place.lane);
}

}  // namespace

std::int64_t learn_zeros_count(std::int64_t receiving) {
  return receiving + (receiving + SmallGradientTiling::receiving - 1) / SmallGradientTiling::receiving;
}

void learn(cudaStream_t stream, ConstDeltas deltas, ConstStates states, const AddedGradient& added,
           const ParameterUpdate& update, const Optimizer& optimizer, const Rates* rates,
           std::int32_t* zeros) {
  LearnOperation operation;
  operation.deltas = deltas;
  operation.states = states;
  operation.added = added;
  operation.update = update;
  operation.integers =
      integers_in<std::int8_t>(update.limbs, update.bits, update.scales, update.diverged, update.step);
  operation.optimizer = optimizer;
  operation.rates = rates;
  operation.fours = in_fours(update) && fours_aligned(added.weight);
  operation.largest = reinterpret_cast<std::uint32_t*>(zeros);
  operation.arrivals = operation.largest + update.receiving;
  with_gradient_tiling(update.receiving, update.weight.columns, [&](auto tiling, const Shape& shape) {
    using Tiling = decltype(tiling);
    const auto kernel = optimizer.kind == OptimizerKind::sgd ? learn_kernel<Tiling, OptimizerKind::sgd>
                        : optimizer.kind == OptimizerKind::momentum
                            ? learn_kernel<Tiling, OptimizerKind::momentum>
                            : learn_kernel<Tiling, OptimizerKind::adam>;
    launch(kernel, shape, stream, operation);
  });
}

}  // namespace wakesleep::cuda
