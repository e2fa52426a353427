// States of an autoregressive prior, unit after unit: s_i ~ Bernoulli(sigma(sum_{j < i} q_ij s_j 2^-s_i +
// b_i)).
//
// A warp takes a row through its units, 32 at a time, one to a lane. Each lane first adds up what its unit
// receives from the units of earlier chunks; then the lanes' units are drawn one after the other, and each
// state goes to all lanes in a shuffle. The sums are integers, so that they are those of the dense product.
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/philox.cuh"
#include "kernels/cuda/several.cuh"

namespace wakesleep::cuda {
namespace {

/// What one unit receives: its row of the operand, as limbs.
template <class Element>
struct Received {
  const Element* high;
  const Element* low;  ///< null: one limb

  __device__ Received(const Limbs& limbs, std::int64_t unit)
      : high(static_cast<const Element*>(limbs.data) + unit * limbs.stride),
        low(limbs.count == 2 ? high + limbs.rows * limbs.stride : nullptr) {}

  /// q from four units, `first` a multiple of 4.
  __device__ Several<std::int32_t, 4> four(std::int64_t first) const {
    const Several<Element, 4> upper = load<4>(high + first);
    Several<std::int32_t, 4> q;
#pragma unroll
    for (int i = 0; i < 4; ++i) q.element[i] = as_integer(upper.element[i]);
    if (low != nullptr) {
      const Several<Element, 4> lower = load<4>(low + first);
#pragma unroll
      for (int i = 0; i < 4; ++i) q.element[i] = join_limbs(q.element[i], as_integer(lower.element[i]));
    }
    return q;
  }
};

/// One block of one warp per row.
template <class Element>
__global__ void sample_in_order_kernel(Limbs limbs, const float* scales, const float* bias, Draw draw,
                                       States output) {
  const std::int64_t row = blockIdx.x;
  const int lane = static_cast<int>(threadIdx.x);
  std::uint8_t* states = output.data + row * output.stride;
  for (std::int64_t first = 0; first < output.columns; first += warp_lanes) {
    const bool exists = first + lane < output.columns;
    const std::int64_t unit = exists ? first + lane : output.columns - 1;  // whose state is not used then
    const Received<Element> received(limbs, unit);
    std::int32_t sum = 0;
    for (std::int64_t j = 0; j < first; j += 4) {
      const Several<std::uint8_t, 4> on = load<4>(static_cast<const std::uint8_t*>(states + j));
      const Several<std::int32_t, 4> q = received.four(j);
#pragma unroll
      for (int i = 0; i < 4; ++i) sum += on.element[i] != 0 ? q.element[i] : 0;
    }
    const std::uint32_t random_word = random_block(draw, row, 1, unit / 4).word[unit % 4];
    const float scale = scales[unit];
    const float own_bias = bias[unit];
    for (int four = 0; four < warp_lanes; four += 4) {
      const Several<std::int32_t, 4> q =
          received.four(first + four);  // 0 from the unit itself and later ones
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int turn = four + i;
        const std::uint32_t state = sample_state(pre_activation(sum, scale, own_bias), random_word);
        if (lane == turn && exists) states[unit] = static_cast<std::uint8_t>(state);
        const std::uint32_t on = __shfl_sync(0xFFFFFFFFu, state, turn);
        sum += on != 0 ? q.element[i] : 0;
      }
    }
    __syncwarp();  // the next chunk reads the states that other lanes have written
  }
}

}  // namespace

void sample_in_order(cudaStream_t stream, const Limbs& limbs, const float* scales, const float* bias,
                     const Draw& draw, States output) {
  launch(
      limbs.route == CudaRoute::int8 ? sample_in_order_kernel<std::int8_t> : sample_in_order_kernel<__half>,
      {dim3(blocks_for(output.rows, 1, 2147483647)), dim3(warp_lanes)}, stream, limbs, scales, bias, draw,
      output);
}

}  // namespace wakesleep::cuda
