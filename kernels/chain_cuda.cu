// Chains of joint stochastic approximation: remembered states, and who accepts what.
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/philox.cuh"
#include "kernels/cuda/reduce.cuh"

namespace wakesleep::cuda {
namespace {

__device__ std::int64_t data_row(const std::uint32_t* order, const std::uint32_t* first, std::int64_t image) {
  const std::uint32_t place = *first + static_cast<std::uint32_t>(image);
  return order != nullptr ? order[place] : place;
}

/// One thread unpacks eight units. The bytes behind the last unit are padding.
__global__ void recall_kernel(DataRows remembered, const std::uint32_t* order, const std::uint32_t* first,
                              const std::uint32_t* epoch, std::uint32_t from_epoch, States states) {
  const auto [row, byte] = position();
  if (row >= states.rows || 8 * byte >= states.columns || *epoch < from_epoch) return;
  const std::uint32_t bits = remembered.bytes[data_row(order, first, row) * remembered.row_bytes + byte];
  std::uint64_t eight = 0;
  for (int i = 0; i < 8; ++i) eight |= static_cast<std::uint64_t>((bits >> (7 - i)) & 1u) << (8 * i);
  *reinterpret_cast<std::uint64_t*>(states.data + row * states.stride + 8 * byte) = eight;
}

/// One thread packs eight units; bits of no unit are 0.
__global__ void remember_kernel(ConstStates states, std::int64_t samples, const std::uint32_t* chosen,
                                const std::uint32_t* order, const std::uint32_t* first, std::uint8_t* bits,
                                std::int64_t row_bytes) {
  const auto [image, byte] = position();
  if (image >= states.rows / samples || byte >= row_bytes) return;
  const std::uint8_t* row = states.data + (image * samples + chosen[image]) * states.stride;
  std::uint32_t packed = 0;
  for (std::int64_t unit = 8 * byte; unit < 8 * byte + 8; ++unit) {
    packed = 2 * packed + (unit < states.columns ? row[unit] : 0u);
  }
  bits[data_row(order, first, image) * row_bytes + byte] = static_cast<std::uint8_t>(packed);
}

/// One thread an image: a chain is sequential.
__global__ void metropolis_kernel(Matrix<const std::int64_t> log_weights, Draw draw, std::int32_t* visits,
                                  std::int64_t* totals, std::uint32_t* last, std::int64_t* counts) {
  const std::int64_t image = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  std::int64_t accepted = 0;
  if (image < log_weights.rows) {
    const std::int64_t samples = log_weights.columns;
    const std::int64_t* weights = log_weights.data + image * log_weights.stride;
    std::int32_t* visited = visits + image * samples;
    std::int64_t current = 0;
    PhiloxBlock random = random_block(draw, image, 1, 0);
    for (std::int64_t k = 0; k < samples; ++k) visited[k] = 0;
    visited[0] = 1;
    for (std::int64_t k = 1; k < samples; ++k) {
      if (k % 4 == 0) random = random_block(draw, image, 1, k / 4);
      if (accepts(weights[k], weights[current], random.word[k % 4])) {
        current = k;
        ++accepted;
      }
      ++visited[current];
    }
    totals[image] = samples;
    last[image] = static_cast<std::uint32_t>(current);
  }
  const std::int64_t of_block = block_reduce(accepted, Plus{});
  if (threadIdx.x != 0) return;
  atomic_add(counts + 1, of_block);
  if (blockIdx.x == 0) atomic_add(counts, log_weights.rows * (log_weights.columns - 1));
}

}  // namespace

void recall(cudaStream_t stream, const DataRows& remembered, const std::uint32_t* order,
            const std::uint32_t* first, const std::uint32_t* epoch, std::uint32_t from_epoch, States states) {
  launch(recall_kernel, over_rows(states.rows, (states.columns + 7) / 8), stream, remembered, order, first,
         epoch, from_epoch, states);
}

void remember(cudaStream_t stream, ConstStates states, std::int64_t samples, const std::uint32_t* chosen,
              const std::uint32_t* order, const std::uint32_t* first, std::uint8_t* bits,
              std::int64_t row_bytes) {
  launch(remember_kernel, over_rows(states.rows / samples, row_bytes), stream, states, samples, chosen, order,
         first, bits, row_bytes);
}

void metropolis(cudaStream_t stream, Matrix<const std::int64_t> log_weights, const Draw& draw,
                std::int32_t* visits, std::int64_t* totals, std::uint32_t* last, std::int64_t* counts) {
  launch(metropolis_kernel, over_elements(log_weights.rows), stream, log_weights, draw, visits, totals, last,
         counts);
}

}  // namespace wakesleep::cuda
