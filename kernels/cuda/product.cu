#include "kernels/cuda/product.cuh"

#include <cuda_fp16.h>

#include <algorithm>
#include <mutex>
#include <set>
#include <tuple>
#include <vector>

#include "kernels/cuda/element.cuh"
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/kernels.cuh"

namespace wakesleep::cuda {
namespace {

/// fp16 operands are summed in float32, which holds every integer up to here; a sum whose terms' magnitudes
/// add up to no more has no partial sum, in whatever order, that would be rounded.
constexpr std::int64_t exact_in_float32 = 1 << 24;
constexpr std::int32_t largest_limb = 128;
constexpr std::int32_t largest_delta = 127;

/// States as fp16 numbers, eight to a thread (rows are whole 64-byte lines). Padding becomes zero.
__global__ void states_to_half_kernel(ConstStates states, __half* converted, std::int64_t stride) {
  const auto [row, group] = position();
  if (row >= states.rows || 8 * group >= stride) return;
  const std::uint64_t eight =
      *reinterpret_cast<const std::uint64_t*>(states.data + row * states.stride + 8 * group);
  for (int i = 0; i < 8; ++i) {
    const std::int64_t unit = 8 * group + i;
    const std::int32_t state =
        unit < states.columns ? static_cast<std::int32_t>((eight >> (8 * i)) & 0xFFu) : 0;
    converted[row * stride + unit] = as_element<__half>(state);
  }
}

/// sums (+)= the sums of one piece, which are integers whatever their type.
template <class Source>
__global__ void add_piece_kernel(const Source* piece, std::int64_t piece_stride, bool first,
                                 std::int32_t* sums, std::int64_t rows, std::int64_t columns,
                                 std::int64_t stride) {
  const auto [row, column] = position();
  if (row >= rows || column >= columns) return;
  const std::int32_t sum = static_cast<std::int32_t>(piece[row * piece_stride + column]);
  std::int32_t& total = sums[row * stride + column];
  total = first ? sum : total + sum;
}

bool aligned_to_16(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

/// The largest magnitude of a state times what carries its weight.
std::int64_t largest_term(const CudaWeights& weights) {
  const std::int64_t factor =
      weights.limbs().count == 2 ? largest_limb : largest_integer_weight(weights.bits);
  return factor * weights.largest_input;
}

}  // namespace

// -------------------------------------------------------------------------------- weights

CudaWeights::CudaWeights(Ops& ops, CudaRoute route, std::int64_t receiving_units, std::int64_t sending_units,
                         int weight_bits, std::int32_t largest_state) {
  receiving = receiving_units;
  sending = sending_units;
  bits = weight_bits;
  largest_input = largest_state;
  const std::int64_t widest = max_integer_sum / (std::int64_t{largest_input} * largest_integer_weight(bits));
  if (sending > widest) {
    throw UsageError("A layer of " + std::to_string(sending) + " units is too wide for exact sums " +
                     (largest_input > 1 ? "of fixed-point states with " : "with ") + std::to_string(bits) +
                     "-bit weights on the GPU, which allow at most " + std::to_string(widest) +
                     " units; use fewer units or fewer weight bits");
  }
  limbs_.route = route;
  limbs_.count = limbs_for(route, bits);
  limbs_.rows = padded_to_16(receiving);
  limbs_.stride = padded_units(sending);
  limbs_.largest_input = largest_input;
  elements_ = Buffer<std::byte>(ops, limbs_.count * limbs_.rows * limbs_.stride * element_bytes(route));
  elements_.fill_zero();
  limbs_.data = elements_.data();
  scales_ = Buffer<float>(ops, receiving);
  scales_.fill_zero();
}

// -------------------------------------------------------------------------------- products

Products::Products(Ops& ops, cudaStream_t stream, const BlasHandle& blas, TestElements& test_elements,
                   const ProductOptions& options, OutgrownMemory& outgrown)
    : ops_(ops),
      stream_(stream),
      ordinal_(options.ordinal),
      route_(options.route),
      matmul_(ops, stream, blas, test_elements, options),
      left_(ops, outgrown),
      right_(ops, outgrown),
      sums_(ops, outgrown),
      piece_(ops, outgrown),
      zeros_(ops, outgrown) {}

void Products::reserve(const CudaWeights& weights, std::int64_t rows) {
  const Limbs& limbs = weights.limbs();
  const std::int64_t columns = limbs.count * limbs.rows;
  const std::int64_t rows_padded = padded_to_16(rows);
  const std::int64_t element = element_bytes(route_);
  sums_.get<std::int32_t>(rows * columns);
  if (!direct({nullptr, columns, limbs.stride}, limbs.stride, largest_term(weights),
              {nullptr, columns, columns})) {
    piece_.get<std::int32_t>(rows * columns);
  }
  if (route_ == CudaRoute::fp16) left_.get<std::byte>(rows * limbs.stride * element);

  matmul_.reserve(rows * padded_units(weights.sending), columns * limbs.stride);

  zeros(std::max(column_sums_count(weights.receiving), learn_zeros_count(weights.receiving)));
  // Also where gradients of so many rows are made without copies: what a row takes is to be the same for all
  // numbers of rows, as memory is planned (host/memory_plan.cpp).
  left_.get<std::byte>(padded_to_16(weights.receiving) * rows_padded * element);
  right_.get<std::byte>(padded_to_16(weights.sending) * rows_padded * element);
  if (!direct({nullptr, padded_to_16(weights.sending), rows_padded}, rows_padded,
              std::int64_t{largest_delta} * weights.largest_input,
              {nullptr, weights.sending, weights.sending})) {
    piece_.get<std::int32_t>(weights.receiving * padded_to_16(weights.sending));
  }
  matmul_.reserve(padded_to_16(weights.receiving) * rows_padded, padded_to_16(weights.sending) * rows_padded);
}

std::int64_t Products::forward_bytes_per_row(const CudaWeights& weights) const {
  const Limbs& limbs = weights.limbs();
  const std::int64_t columns = limbs.count * limbs.rows;
  const std::int64_t sums = columns * static_cast<std::int64_t>(sizeof(std::int32_t));
  const bool in_one_call = direct({nullptr, columns, limbs.stride}, limbs.stride, largest_term(weights),
                                  {nullptr, columns, columns});
  const std::int64_t converted = route_ == CudaRoute::fp16 ? limbs.stride * element_bytes(route_) : 0;
  const std::int64_t to_check_on = padded_units(weights.sending) * element_bytes(route_);
  return sums + (in_one_call ? 0 : sums) + converted + to_check_on;
}

Logits Products::forward(const CudaWeights& weights, ConstStates input) {
  const Limbs& limbs = weights.limbs();
  const std::int64_t columns = limbs.count * limbs.rows;
  std::int32_t* sums = sums_.get<std::int32_t>(input.rows * columns);
  multiply(as_operand(input), {limbs.data, columns, limbs.stride}, limbs.stride, largest_term(weights),
           {sums, columns, columns});
  Logits logits;
  logits.sums = sums;
  logits.stride = columns;
  logits.low_limb_offset = limbs.count == 2 ? limbs.rows : 0;
  logits.scales = weights.scales();
  return logits;
}

void Products::gradient(ConstDeltas deltas, ConstStates states, std::int32_t* gradient,
                        std::int32_t* bias_gradient, std::int32_t largest_state) {
  if (gradient_is_small(route_, deltas.rows, deltas.columns, states.columns)) {
    small_gradient(stream_, deltas, states, gradient, bias_gradient);
    return;
  }
  const std::int64_t receiving = padded_to_16(deltas.columns);
  const std::int64_t sending = padded_to_16(states.columns);
  const std::int64_t rows = padded_to_16(deltas.rows);
  void* left = left_.get<std::byte>(receiving * rows * element_bytes(route_));
  void* right = right_.get<std::byte>(sending * rows * element_bytes(route_));
  transpose(stream_, route_, deltas, left, states, right, bias_gradient,
            zeros(column_sums_count(deltas.columns)));
  multiply({left, deltas.columns, rows}, {right, sending, rows}, rows,
           std::int64_t{largest_delta} * largest_state, {gradient, states.columns, states.columns});
}

void Products::bias_gradient(ConstDeltas deltas, std::int32_t* bias_gradient) {
  transpose(stream_, route_, deltas, nullptr, {}, nullptr, bias_gradient,
            zeros(column_sums_count(deltas.columns)));
}

std::int32_t* Products::zeros(std::int64_t count) {
  const bool grows = count > zeros_count_;
  if (grows) zeros_count_ = 0;  // until they are zeros: either of what follows may fail
  std::int32_t* const memory = zeros_.get<std::int32_t>(count);
  if (grows) {
    WAKESLEEP_CUDA_CHECK(
        cudaMemsetAsync(memory, 0, static_cast<std::size_t>(count) * sizeof(std::int32_t), stream_));
    zeros_count_ = count;
  }
  return memory;
}

/// The padding of states holds anything: on the int8 route it meets the zeros that pad the weights.
Products::Operand Products::as_operand(ConstStates states) {
  if (route_ == CudaRoute::int8) return {states.data, states.rows, states.stride};
  const std::int64_t stride = padded_units(states.columns);
  __half* converted = left_.get<__half>(states.rows * stride);
  launch(states_to_half_kernel, over_rows(states.rows, stride / 8), stream_, states, converted, stride);
  return {converted, states.rows, stride};
}

std::int64_t Products::terms_at_once(std::int64_t largest_product) const {
  if (route_ == CudaRoute::int8) return max_integer_sum / largest_product / 16 * 16;
  return exact_in_float32 / largest_product / 16 * 16;
}

bool Products::direct(const Operand& right, std::int64_t terms, std::int64_t largest_product,
                      const Result& result) const {
  // What a MatmulShape asks of the sums, where they may be the caller's own.
  return route_ == CudaRoute::int8 && result.columns == right.rows && result.stride % 4 == 0 &&
         aligned_to_16(result.data) && terms <= terms_at_once(largest_product);
}

void Products::multiply(const Operand& left, const Operand& right, std::int64_t terms,
                        std::int64_t largest_product, const Result& result) {
  if (direct(right, terms, largest_product, result)) {
    multiply_piece(left, right, 0, terms, result.data, result.stride);
    return;
  }
  const std::int64_t step = terms_at_once(largest_product);
  std::int32_t* piece = piece_.get<std::int32_t>(left.rows * right.rows);
  for (std::int64_t first = 0; first < terms; first += step) {
    multiply_piece(left, right, first, terms - first < step ? terms - first : step, piece, right.rows);
    const Shape shape = over_rows(left.rows, result.columns, 128);
    if (route_ == CudaRoute::int8) {
      launch(add_piece_kernel<std::int32_t>, shape, stream_, static_cast<const std::int32_t*>(piece),
             right.rows, first == 0, result.data, left.rows, result.columns, result.stride);
    } else {
      launch(add_piece_kernel<float>, shape, stream_, reinterpret_cast<const float*>(piece), right.rows,
             first == 0, result.data, left.rows, result.columns, result.stride);
    }
  }
}

void Products::multiply_piece(const Operand& left, const Operand& right, std::int64_t first_term,
                              std::int64_t terms, void* sums, std::int64_t stride) {
  const std::int64_t offset = first_term * element_bytes(route_);
  matmul_.run({left.rows, right.rows, terms, left.stride, right.stride, stride},
              static_cast<const std::byte*>(left.data) + offset,
              static_cast<const std::byte*>(right.data) + offset, sums);
}

// -------------------------------------------------------------------------------- the check

namespace {

/// Random integers in [-largest, largest] ([0, 1] where largest is 1: states), rows x terms. The first row
/// holds the largest throughout and the second its negative, so that sums reach the limit in both directions.
std::vector<std::int32_t> random_integers(std::int64_t rows, std::int64_t terms, std::int32_t largest,
                                          std::uint32_t purpose) {
  std::vector<std::int32_t> values(static_cast<std::size_t>(rows * terms));
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t t = 0; t < terms; ++t) {
      const PhiloxBlock random = philox4x32_10(
          draw_counter(static_cast<std::uint32_t>(t / 4), static_cast<std::uint32_t>(r), purpose, 0), 1);
      const std::uint32_t word = random.word[t % 4];
      const std::uint32_t range = largest == 1 ? 2u : 2u * static_cast<std::uint32_t>(largest) + 1u;
      const std::int32_t lowest = largest == 1 ? 0 : -largest;
      const std::int32_t any = lowest + static_cast<std::int32_t>(word % range);
      const std::int32_t negative = largest == 1 ? 0 : -largest;
      values[static_cast<std::size_t>(r * terms + t)] = r == 0 ? largest : (r == 1 ? negative : any);
    }
  }
  return values;
}

template <class Element>
Buffer<std::byte> upload(Ops& ops, const std::vector<std::int32_t>& values) {
  std::vector<Element> elements;
  elements.reserve(values.size());
  for (const std::int32_t value : values) {
    if constexpr (sizeof(Element) == 1) {
      elements.push_back(static_cast<Element>(value));
    } else {
      elements.push_back(__float2half(static_cast<float>(value)));
    }
  }
  Buffer<std::byte> buffer(ops, static_cast<std::int64_t>(elements.size() * sizeof(Element)));
  buffer.copy_in(reinterpret_cast<const std::byte*>(elements.data()));
  return buffer;
}

}  // namespace

void Products::check_case(std::int64_t terms, std::int32_t largest_left, std::int32_t largest_right,
                          const std::string& device) {
  // Odd numbers of rows and columns, and rows enough for cuBLASLt (matmul.cu); the operand on the right is
  // padded to 16 with zeros, as everywhere.
  constexpr std::int64_t rows = 19;
  constexpr std::int64_t columns = 7;
  constexpr std::int64_t columns_padded = padded_to_16(columns);
  const std::vector<std::int32_t> left = random_integers(rows, terms, largest_left, 0);
  std::vector<std::int32_t> right = random_integers(columns, terms, largest_right, 1);
  right.resize(static_cast<std::size_t>(columns_padded * terms));

  const bool bytes = route_ == CudaRoute::int8;
  const Buffer<std::byte> left_elements =
      bytes ? upload<std::int8_t>(ops_, left) : upload<__half>(ops_, left);
  const Buffer<std::byte> right_elements =
      bytes ? upload<std::int8_t>(ops_, right) : upload<__half>(ops_, right);
  Buffer<std::int32_t> sums(ops_, rows * columns);
  multiply({left_elements.data(), rows, terms}, {right_elements.data(), columns_padded, terms}, terms,
           std::int64_t{largest_left} * largest_right, {sums.data(), columns, columns});
  std::vector<std::int32_t> found(static_cast<std::size_t>(rows * columns));
  sums.copy_out(found.data());

  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < columns; ++i) {
      std::int64_t expected = 0;
      for (std::int64_t t = 0; t < terms; ++t) {
        expected += std::int64_t{left[static_cast<std::size_t>(r * terms + t)]} *
                    right[static_cast<std::size_t>(i * terms + t)];
      }
      const std::int32_t sum = found[static_cast<std::size_t>(r * columns + i)];
      if (sum != expected) {
        throw InternalError("The " + description() + " of " + device + " are not exact: a sum of " +
                            std::to_string(terms) + " integers gave " + std::to_string(sum) + " instead of " +
                            std::to_string(expected) + "; use the other route or another device");
      }
    }
  }
}

void Products::check_route(const std::string& device, std::int32_t largest_state) {
  static std::mutex mutex;
  static std::set<std::tuple<int, CudaRoute, std::int32_t>> trusted;
  const std::lock_guard<std::mutex> lock(mutex);
  if (trusted.contains({ordinal_, route_, largest_state})) return;
  check_case(48, largest_state, largest_limb - 1, device);
  if (largest_state > 1) {
    for (const std::int32_t largest : {largest_delta, largest_limb, largest_integer_weight(12)}) {
      if (route_ == CudaRoute::int8 && largest != largest_delta) continue;  // no signed byte
      const std::int64_t terms = terms_at_once(std::int64_t{largest_state} * largest);
      check_case(terms, largest_state, largest, device);
      if (route_ == CudaRoute::fp16) check_case(3 * terms + 16, largest_state, largest, device);  // pieces
    }
  } else if (route_ == CudaRoute::int8) {
    // Both operands at the ends of their range: the sums come within 2 % of the largest 32-bit integer.
    check_case(terms_at_once(largest_delta * largest_delta), largest_delta, largest_delta, device);
  } else {
    check_case(terms_at_once(largest_limb), 1, largest_limb, device);  // 16-bit weights
    check_case(terms_at_once(largest_integer_weight(12)), 1, largest_integer_weight(12), device);
    check_case(terms_at_once(largest_delta), largest_delta, 1, device);  // gradients
    check_case(3 * terms_at_once(largest_integer_weight(12)) + 16, 1, largest_integer_weight(12),
               device);  // pieces
  }
  trusted.insert({ordinal_, route_, largest_state});
}

}  // namespace wakesleep::cuda
