// The delta rule's error, stochastically rounded to signed bytes.
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/philox.cuh"

namespace wakesleep::cuda {
namespace {

/// One thread rounds the eight units that share one Philox block, two to a word.
__global__ void delta_kernel(Logits logits, ConstStates target, Draw draw, Deltas deltas) {
  const auto [row, group] = position();
  const std::int64_t first_unit = 8 * group;
  if (row >= deltas.rows || first_unit >= deltas.columns) return;
  const PhiloxBlock random = random_block(draw, row, 1, group);
  const std::uint64_t states =
      *reinterpret_cast<const std::uint64_t*>(target.data + row * target.stride + first_unit);
  const LogitGroup<8> a = logit_group<8>(logits, row, first_unit, deltas.columns);
  std::uint64_t rounded = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (first_unit + i >= deltas.columns) break;
    const std::uint32_t state = static_cast<std::uint32_t>(states >> (8 * i)) & 0xFFu;
    const std::int32_t value = round_delta(state_minus_probability(state, a.unit[i]), half_word(random, i));
    rounded |= static_cast<std::uint64_t>(static_cast<std::uint8_t>(value)) << (8 * i);
  }
  *reinterpret_cast<std::uint64_t*>(deltas.data + row * deltas.stride + first_unit) = rounded;
}

}  // namespace

void delta(cudaStream_t stream, const Logits& logits, ConstStates target, const Draw& draw, Deltas deltas) {
  launch(delta_kernel, over_rows(deltas.rows, (deltas.columns + 7) / 8), stream, logits, target, draw,
         deltas);
}

}  // namespace wakesleep::cuda
