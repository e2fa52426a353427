#include "kernels/cpu/product.hpp"

#include <algorithm>
#include <array>
#include <dnnl.hpp>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "wakesleep/error.hpp"

namespace wakesleep::cpu {

namespace {

/// Every partial sum of float32 products must stay an integer that a float32 holds.
constexpr std::int64_t exact_in_float32 = 1 << 24;
constexpr std::int64_t largest_limb = 128;
constexpr std::int64_t largest_delta = 127;
/// Rows of a batch that oneDNN sums at a time. It shifts signed left operands by 128 where the processor
/// wants them unsigned, and passes such sums through float32 (seen in version 3.1 without VNNI).
constexpr std::int64_t rows_of_an_int8_gradient = exact_in_float32 / (largest_delta + 128);

int limbs_for(CpuRoute route, std::int64_t sending, int bits) {
  if (bits == 8) return 1;
  if (route == CpuRoute::float32 && sending * largest_integer_weight(bits) <= exact_in_float32) return 1;
  return 2;
}

void check_library(dnnl_status_t status) {
  dnnl::error::wrap_c_api(status, "oneDNN refused a float32 product");
}

template <class T>
void grow(Buffer<T>& buffer, Ops& ops, std::int64_t count) {
  if (buffer.size() < count) {
    buffer = Buffer<T>();  // free before allocating
    buffer = Buffer<T>(ops, count);
  }
}

}  // namespace

// -------------------------------------------------------------------------------------------------------
// weights

CpuWeights::CpuWeights(Ops& ops, CpuRoute route, std::int64_t receiving_units, std::int64_t sending_units,
                       int weight_bits) {
  receiving = receiving_units;
  sending = sending_units;
  bits = weight_bits;
  const std::int64_t exact = max_integer_sum / largest_integer_weight(bits);
  const std::int64_t widest = route == CpuRoute::float32 && exact > exact_in_float32 / largest_limb
                                  ? exact_in_float32 / largest_limb
                                  : exact;
  if (sending > widest) {
    throw UsageError("a layer of " + std::to_string(sending) + " units is too wide for exact sums with " +
                     std::to_string(bits) + "-bit weights and " + route_text(route) + ": at most " +
                     std::to_string(widest) + " units; use fewer units or fewer weight bits");
  }
  limbs = limbs_for(route, sending, bits);
  const std::int64_t count = limbs * receiving * sending;
  if (route == CpuRoute::float32) {
    floats = Buffer<float>(ops, count);
  } else {
    bytes = Buffer<std::int8_t>(ops, count);
  }
  scale = Buffer<float>(ops, receiving);
}

void CpuWeights::quantize_row(const RowKernels& kernels, std::int64_t i, const float* weights,
                              std::int32_t shift) {
  scale.data()[i] = power_of_two(-shift);
  const float two_to_shift = power_of_two(shift);
  const std::int64_t low = ((limbs - 1) * receiving + i) * sending;
  const std::int64_t high = i * sending;
  if (floats.size() > 0) {
    kernels.quantize_floats(weights, sending, two_to_shift, limbs == 2 ? floats.data() + high : nullptr,
                            floats.data() + low);
  } else {
    kernels.quantize_limbs(weights, sending, two_to_shift, limbs == 2 ? bytes.data() + high : nullptr,
                           bytes.data() + low);
  }
}

// -------------------------------------------------------------------------------------------------------
// library

/// The oneDNN primitives of one thread, by shape.
struct Products::Library {
  using Shape = std::array<std::int64_t, 5>;  // rows, columns, depth, and the strides of the left operand

  struct Primitive {
    dnnl::matmul matmul;
    dnnl::memory left, right, result, scratch;
    Buffer<std::uint8_t> scratch_bytes;
  };

  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::map<Shape, Primitive> forward, gradient;

  // result [m x n] = left [m x k] . right [k x n], the operands strided as said.
  Primitive make(Ops& ops, dnnl::memory::data_type left_type, dnnl::memory::dims left_strides, std::int64_t m,
                 std::int64_t n, std::int64_t k, dnnl::memory::dims right_strides) const {
    using dnnl::memory;
    const memory::desc left({m, k}, left_type, left_strides);
    const memory::desc right({k, n}, memory::data_type::s8, right_strides);
    const memory::desc result({m, n}, memory::data_type::s32, memory::dims{n, 1});
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
#if DNNL_VERSION_MAJOR >= 3
    const dnnl::matmul::primitive_desc description(engine, left, right, result, attributes);
#else
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(left, right, result), attributes,
                                                   engine);
#endif
    Primitive p;
    p.matmul = dnnl::matmul(description);
    p.left = memory(left, engine, nullptr);
    p.right = memory(right, engine, nullptr);
    p.result = memory(result, engine, nullptr);
    const std::size_t scratch_size = description.scratchpad_desc().get_size();
    if (scratch_size > 0)
      p.scratch_bytes = Buffer<std::uint8_t>(ops, static_cast<std::int64_t>(scratch_size));
    p.scratch = memory(description.scratchpad_desc(), engine, p.scratch_bytes.data());
    return p;
  }

  template <class Make>
  static void reserve(std::map<Shape, Primitive>& primitives, const Shape& shape, const Make& make) {
    if (primitives.contains(shape)) return;
    try {
      primitives.emplace(shape, make());
    } catch (const dnnl::error& error) {
      throw InternalError("oneDNN cannot make an int8 product of " + std::to_string(shape[0]) + " x " +
                          std::to_string(shape[1]) + " x " + std::to_string(shape[2]) + ": " + error.what());
    }
  }

  // oneDNN writes to none but the result; its interface just has no pointers to const.
  void execute(Primitive& p, const void* left, const void* right, void* result) {
    p.left.set_data_handle(const_cast<void*>(left));
    p.right.set_data_handle(const_cast<void*>(right));
    p.result.set_data_handle(result);
    const std::array<dnnl_exec_arg_t, 4> arguments = {{{DNNL_ARG_SRC, p.left.get()},
                                                       {DNNL_ARG_WEIGHTS, p.right.get()},
                                                       {DNNL_ARG_DST, p.result.get()},
                                                       {DNNL_ARG_SCRATCHPAD, p.scratch.get()}}};
    dnnl::error::wrap_c_api(dnnl_primitive_execute(p.matmul.get(), stream.get(),
                                                   static_cast<int>(arguments.size()), arguments.data()),
                            "oneDNN refused an int8 product that it had accepted when it was made");
  }
};

// -------------------------------------------------------------------------------------------------------
// products

Products::Products(Ops& ops, CpuRoute route) : ops_(&ops), route_(route) {
  if (route_ == CpuRoute::int8) library_ = std::make_unique<Library>();
}
Products::Products(Products&&) noexcept = default;
Products::~Products() = default;

namespace {

std::array<std::int64_t, 5> forward_shape(const CpuWeights& weights, std::int64_t rows, std::int64_t stride) {
  return {rows, weights.limbs * weights.receiving, weights.sending, stride, 1};
}
std::array<std::int64_t, 5> gradient_shape(const ConstDeltas& deltas, const ConstStates& states,
                                           const Range& range, std::int64_t rows) {
  return {range.end - range.begin, states.columns, rows, deltas.stride, states.stride};
}

/// Calls piece(first, count) for a batch in pieces of at most `most` rows.
template <class Piece>
void in_pieces(std::int64_t rows, std::int64_t most, const Piece& piece) {
  for (std::int64_t first = 0; first < rows; first += most) piece(first, std::min(most, rows - first));
}

}  // namespace

void Products::reserve_forward(const CpuWeights& weights, std::int64_t rows, std::int64_t stride) {
  const std::int64_t columns = weights.limbs * weights.receiving;
  if (rows == 0 || columns == 0) return;
  grow(sums_, *ops_, rows * columns);
  if (route_ == CpuRoute::float32) {
    grow(float_left_, *ops_, rows * weights.sending);
    grow(float_sums_, *ops_, rows * columns);
  } else if (route_ == CpuRoute::int8) {
    Library::reserve(library_->forward, forward_shape(weights, rows, stride), [&] {
      return library_->make(*ops_, dnnl::memory::data_type::u8, {stride, 1}, rows, columns, weights.sending,
                            {1, weights.sending});
    });
  }
}

const std::int32_t* Products::forward(const CpuWeights& weights, ConstStates states) {
  const std::int64_t columns = weights.limbs * weights.receiving;
  const std::int64_t depth = weights.sending;
  std::int32_t* sums = sums_.data();
  switch (route_) {
    case CpuRoute::int8:
      library_->execute(library_->forward.at(forward_shape(weights, states.rows, states.stride)), states.data,
                        weights.bytes.data(), sums);
      break;
    case CpuRoute::float32: {
      float* left = float_left_.data();
      for (std::int64_t r = 0; r < states.rows; ++r) {
        for (std::int64_t j = 0; j < depth; ++j) left[r * depth + j] = static_cast<float>(states.row(r)[j]);
      }
      check_library(dnnl_sgemm('N', 'T', states.rows, columns, depth, 1.0f, left, depth,
                               weights.floats.data(), depth, 0.0f, float_sums_.data(), columns));
      for (std::int64_t i = 0; i < states.rows * columns; ++i)
        sums[i] = static_cast<std::int32_t>(float_sums_.data()[i]);
      break;
    }
    case CpuRoute::reference:
      for (std::int64_t r = 0; r < states.rows; ++r) {
        for (std::int64_t i = 0; i < columns; ++i) {
          std::int32_t sum = 0;
          for (std::int64_t j = 0; j < depth; ++j)
            sum += states.row(r)[j] * weights.bytes.data()[i * depth + j];
          sums[r * columns + i] = sum;
        }
      }
      break;
  }
  return sums;
}

void Products::reserve_gradient(ConstDeltas deltas, ConstStates states, Range receiving) {
  const std::int64_t m = receiving.end - receiving.begin;
  if (m == 0 || deltas.rows == 0) return;
  if (route_ == CpuRoute::float32) {
    const std::int64_t rows = std::min(deltas.rows, exact_in_float32 / largest_delta);
    grow(float_left_, *ops_, rows * m);
    grow(float_right_, *ops_, rows * states.columns);
    grow(float_sums_, *ops_, m * states.columns);
  } else if (route_ == CpuRoute::int8) {
    if (deltas.rows > rows_of_an_int8_gradient) grow(sums_, *ops_, m * states.columns);
    in_pieces(deltas.rows, rows_of_an_int8_gradient, [&](std::int64_t, std::int64_t count) {
      // The deltas are read transposed where they lie: unit by unit with the stride of a row.
      Library::reserve(library_->gradient, gradient_shape(deltas, states, receiving, count), [&] {
        return library_->make(*ops_, dnnl::memory::data_type::s8, {1, deltas.stride}, m, states.columns,
                              count, {states.stride, 1});
      });
    });
  }
}

void Products::gradient(ConstDeltas deltas, ConstStates states, Range receiving, std::int32_t* gradient) {
  const std::int64_t m = receiving.end - receiving.begin;
  const std::int64_t n = states.columns;
  std::int32_t* result = gradient + receiving.begin * n;
  if (m == 0) return;
  if (deltas.rows == 0) {
    for (std::int64_t i = 0; i < m * n; ++i) result[i] = 0;
    return;
  }
  switch (route_) {
    case CpuRoute::int8:
      in_pieces(deltas.rows, rows_of_an_int8_gradient, [&](std::int64_t first, std::int64_t count) {
        std::int32_t* const sums = first == 0 ? result : sums_.data();
        library_->execute(library_->gradient.at(gradient_shape(deltas, states, receiving, count)),
                          deltas.row(first) + receiving.begin, states.row(first), sums);
        if (first > 0) std::transform(sums, sums + m * n, result, result, std::plus<>());
      });
      break;
    case CpuRoute::float32:
      in_pieces(deltas.rows, exact_in_float32 / largest_delta, [&](std::int64_t first, std::int64_t count) {
        for (std::int64_t r = 0; r < count; ++r) {
          const std::int8_t* delta_row = deltas.row(first + r) + receiving.begin;
          for (std::int64_t i = 0; i < m; ++i)
            float_left_.data()[r * m + i] = static_cast<float>(delta_row[i]);
          const std::uint8_t* state_row = states.row(first + r);
          for (std::int64_t j = 0; j < n; ++j)
            float_right_.data()[r * n + j] = static_cast<float>(state_row[j]);
        }
        check_library(dnnl_sgemm('T', 'N', m, n, count, 1.0f, float_left_.data(), m, float_right_.data(), n,
                                 0.0f, float_sums_.data(), n));
        for (std::int64_t i = 0; i < m * n; ++i) {
          const std::int32_t sum = static_cast<std::int32_t>(float_sums_.data()[i]);
          result[i] = first == 0 ? sum : result[i] + sum;
        }
      });
      break;
    case CpuRoute::reference:
      for (std::int64_t i = 0; i < m; ++i) {
        for (std::int64_t j = 0; j < n; ++j) {
          std::int32_t sum = 0;
          for (std::int64_t r = 0; r < deltas.rows; ++r)
            sum += deltas.row(r)[receiving.begin + i] * states.row(r)[j];
          result[i * n + j] = sum;
        }
      }
      break;
  }
}

std::string route_text(CpuRoute route) {
  const dnnl_version_t* version = dnnl_version();
  const std::string library = "oneDNN " + std::to_string(version->major) + "." +
                              std::to_string(version->minor) + "." + std::to_string(version->patch);
  switch (route) {
    case CpuRoute::int8:
      return "int8 products (" + library + ")";
    case CpuRoute::float32:
      return "float32 products of integers (" + library + ")";
    case CpuRoute::reference:
      break;
  }
  return "reference products (a plain loop)";
}

// -------------------------------------------------------------------------------------------------------
// check

namespace {

std::uint32_t check_word(std::uint32_t index, std::uint32_t what) {
  return philox4x32_10(draw_counter(index, what, 0, 0), 0x636865636Bull).word[0];
}

void check_forward(Ops& ops, CpuRoute route, std::int64_t sending, int bits) {
  const std::int64_t rows = 3;
  const std::int64_t receiving = 5;
  const std::int32_t largest = largest_integer_weight(bits);
  CpuWeights weights(ops, route, receiving, sending, bits);
  std::vector<std::int32_t> q(static_cast<std::size_t>(receiving * sending));
  std::vector<float> row(static_cast<std::size_t>(sending));
  for (std::int64_t i = 0; i < receiving; ++i) {
    for (std::int64_t j = 0; j < sending; ++j) {
      // Units 0 and 1 sit at the limits, the others anywhere.
      const std::int32_t any =
          static_cast<std::int32_t>(check_word(static_cast<std::uint32_t>(i * sending + j), 0) %
                                    static_cast<std::uint32_t>(2 * largest + 1)) -
          largest;
      const std::int32_t value = i == 0 ? largest : i == 1 ? -largest : any;
      q[static_cast<std::size_t>(i * sending + j)] = value;
      row[static_cast<std::size_t>(j)] = static_cast<float>(value);
    }
    weights.quantize_row(row_kernels(CpuInstructions::baseline), i, row.data(), 0);
  }
  const std::int64_t stride = padded_units(sending);
  Buffer<std::uint8_t> states(ops, rows * stride);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t j = 0; j < sending; ++j) {
      states.data()[r * stride + j] =
          r == 0 ? 1 : check_word(static_cast<std::uint32_t>(r * sending + j), 1) & 1;
    }
  }
  Products products(ops, route);
  products.reserve_forward(weights, rows, stride);
  const std::int32_t* sums = products.forward(weights, {states.data(), rows, sending, stride});
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < receiving; ++i) {
      std::int64_t expected = 0;
      for (std::int64_t j = 0; j < sending; ++j) {
        expected += states.data()[r * stride + j] * q[static_cast<std::size_t>(i * sending + j)];
      }
      const std::int32_t* sum = sums + r * weights.limbs * receiving + i;
      const std::int64_t found = weights.limbs == 2 ? std::int64_t{256} * sum[0] + sum[receiving] : sum[0];
      if (found != expected) {
        throw InternalError(route_text(route) + " are not exact on this machine: a sum of " +
                            std::to_string(sending) + " terms gave " + std::to_string(found) +
                            " instead of " + std::to_string(expected) +
                            "; choose another route (--route) and report this");
      }
    }
  }
}

void check_gradient(Ops& ops, CpuRoute route, std::int64_t rows) {
  const std::int64_t receiving = 3;
  const std::int64_t sending = 5;
  const std::int64_t stride = padded_units(sending);
  Buffer<std::int8_t> deltas(ops, rows * stride);
  Buffer<std::uint8_t> states(ops, rows * stride);
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::uint32_t random = check_word(static_cast<std::uint32_t>(r), 2);
    for (std::int64_t i = 0; i < receiving; ++i) {
      const int any = static_cast<int>(random >> (8 * i) & 255u) % 255 - 127;
      deltas.data()[r * stride + i] = static_cast<std::int8_t>(i == 0 ? 127 : i == 1 ? -127 : any);
    }
    for (std::int64_t j = 0; j < sending; ++j) {
      states.data()[r * stride + j] = j == 0 ? 1 : static_cast<std::uint8_t>(random >> (24 + j) & 1u);
    }
  }
  Buffer<std::int32_t> gradient(ops, receiving * sending);
  Products products(ops, route);
  const ConstDeltas d{deltas.data(), rows, receiving, stride};
  const ConstStates s{states.data(), rows, sending, stride};
  products.reserve_gradient(d, s, {0, receiving});
  products.gradient(d, s, {0, receiving}, gradient.data());
  for (std::int64_t i = 0; i < receiving; ++i) {
    for (std::int64_t j = 0; j < sending; ++j) {
      std::int64_t expected = 0;
      for (std::int64_t r = 0; r < rows; ++r) expected += d.row(r)[i] * s.row(r)[j];
      if (gradient.data()[i * sending + j] != expected) {
        throw InternalError(route_text(route) + " are not exact on this machine: a gradient over " +
                            std::to_string(rows) + " rows gave " +
                            std::to_string(gradient.data()[i * sending + j]) + " instead of " +
                            std::to_string(expected) + "; choose another route (--route) and report this");
      }
    }
  }
}

}  // namespace

void check_route(Ops& ops, CpuRoute route) {
  static std::mutex mutex;
  static std::set<CpuRoute> checked;
  const std::lock_guard<std::mutex> lock(mutex);
  if (checked.contains(route)) return;
  const ArithmeticScope scope;
  check_forward(ops, route, 65536, 16);
  check_forward(ops, route, exact_in_float32 / largest_limb, 8);
  check_forward(ops, route, exact_in_float32 / largest_integer_weight(12), 12);
  check_forward(ops, route, exact_in_float32 / largest_integer_weight(16), 16);
  check_gradient(ops, route, rows_of_an_int8_gradient);
  check_gradient(ops, route, exact_in_float32 / largest_delta + 33);
  checked.insert(route);
}

}  // namespace wakesleep::cpu
