#include "kernels/cpu/product.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <dnnl.hpp>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "kernels/cpu/avx2_product.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep::cpu {

namespace {

/// Every partial sum of float32 products must stay an integer that a float32 holds.
constexpr std::int64_t exact_in_float32 = 1 << 24;
constexpr std::int64_t largest_limb = 128;
constexpr std::int64_t largest_delta = 127;
/// Rows of a batch that oneDNN sums at a time. It shifts signed left operands by 128 where the processor
/// wants them unsigned, and passes such sums through float32 (seen in version 3.1 without VNNI).
constexpr std::int64_t rows_of_an_int8_gradient(std::int32_t largest_state) {
  return exact_in_float32 / ((largest_delta + 128) * largest_state);
}
constexpr std::int64_t rows_of_a_float32_gradient(std::int32_t largest_state) {
  return exact_in_float32 / (largest_delta * largest_state);
}

/// The route of products with states 0 .. largest_state.
CpuRoute route_for(CpuRoute route, std::int32_t largest_state) {
  return route == CpuRoute::avx2 && largest_state > 1 ? CpuRoute::int8 : route;
}

/// Sending units whose sums are exact.
std::int64_t widest_layer(CpuRoute route, int bits, std::int32_t largest_input) {
  const std::int64_t exact = max_integer_sum / (std::int64_t{largest_input} * largest_integer_weight(bits));
  const std::int64_t exact_limbs = exact_in_float32 / (largest_input * largest_limb);
  return route == CpuRoute::float32 ? std::min(exact, exact_limbs) : exact;
}

int limbs_for(CpuRoute route, std::int64_t sending, int bits, std::int32_t largest_input) {
  if (bits == 8 || route == CpuRoute::avx2) return 1;
  const std::int64_t largest_sum = sending * largest_input * largest_integer_weight(bits);
  return route == CpuRoute::float32 && largest_sum <= exact_in_float32 ? 1 : 2;
}

/// On the route avx2.
std::int64_t bytes_of_a_weight(int bits) { return bits == 8 ? 1 : 2; }

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

// -------------------------------------------------------------------------------- weights

CpuWeights::CpuWeights(Ops& ops, CpuRoute route_wanted, std::int64_t receiving_units,
                       std::int64_t sending_units, int weight_bits, std::int32_t largest_state)
    : route(route_for(route_wanted, largest_state)) {
  receiving = receiving_units;
  sending = sending_units;
  bits = weight_bits;
  largest_input = largest_state;
  const std::int64_t widest = widest_layer(route, bits, largest_input);
  if (sending > widest) {
    throw UsageError("a layer of " + std::to_string(sending) + " units is too wide for exact sums " +
                     (largest_input > 1 ? "of fixed-point states with " : "with ") + std::to_string(bits) +
                     "-bit weights and " + route_text(route) + ": at most " + std::to_string(widest) +
                     " units; use fewer units" +
                     (route == CpuRoute::float32 ? " or the route int8" : " or fewer weight bits"));
  }
  limbs = limbs_for(route, sending, bits, largest_input);
  const std::int64_t count = limbs * receiving * sending;
  if (route == CpuRoute::avx2) {
    panels = Buffer<std::uint8_t>(ops, panel_bytes(sending, receiving, bytes_of_a_weight(bits)));
    panels.fill_zero();  // for the units that fill up the last panel
  } else if (route == CpuRoute::float32) {
    floats = Buffer<float>(ops, count);
  } else {
    bytes = Buffer<std::int8_t>(ops, count);
  }
  scale = Buffer<float>(ops, receiving);
}

void CpuWeights::quantize_row(const RowKernels& kernels, std::int64_t i, const float* weights,
                              std::int32_t shift) {
  scale.data()[i] = scale_of_sum(shift, largest_input);
  const float two_to_shift = power_of_two(shift);
  const std::int64_t low = ((limbs - 1) * receiving + i) * sending;
  const std::int64_t high = i * sending;
  if (panels.size() > 0) {
    quantize_panel_row(kernels, i, weights, two_to_shift);
  } else if (floats.size() > 0) {
    kernels.quantize_floats(weights, sending, two_to_shift, limbs == 2 ? floats.data() + high : nullptr,
                            floats.data() + low);
  } else {
    kernels.quantize_limbs(weights, sending, two_to_shift, limbs == 2 ? bytes.data() + high : nullptr,
                           bytes.data() + low);
  }
}

void CpuWeights::quantize_panel_row(const RowKernels& kernels, std::int64_t i, const float* weights,
                                    float two_to_shift) {
  const std::int64_t weight_bytes = bytes_of_a_weight(bits);
  const std::int64_t panel = i / panel_columns * steps_for(sending, weight_bytes) * panel_columns;
  std::uint8_t* to = panels.data() + (panel + i % panel_columns) * step_bytes;
  constexpr std::int64_t stretch = 1024;  // of weights: whole steps
  for (std::int64_t first = 0; first < sending; first += stretch) {
    const std::int64_t count = std::min(stretch, sending - first);
    std::int16_t words[stretch + step_bytes / 2];
    std::uint8_t* from = reinterpret_cast<std::uint8_t*>(words);
    if (weight_bytes == 1) {
      kernels.quantize_limbs(weights + first, count, two_to_shift, nullptr,
                             reinterpret_cast<std::int8_t*>(from));
    } else {
      kernels.quantize_words(weights + first, count, two_to_shift, words);
    }
    std::memset(from + count * weight_bytes, 0, step_bytes - 1);  // fill up the last step
    for (std::int64_t step = 0; step < steps_for(count, weight_bytes); ++step) {
      std::memcpy(to, from, step_bytes);
      from += step_bytes;
      to += panel_columns * step_bytes;
    }
  }
}

// -------------------------------------------------------------------------------- library

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
  std::map<Shape, Primitive> forward, gradient, fixed_point_gradient;

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

// -------------------------------------------------------------------------------- products

Products::Products(Ops& ops, CpuRoute route) : ops_(&ops), route_(route) {}
Products::Products(Products&&) noexcept = default;
Products::~Products() = default;

Products::Library& Products::library() {
  if (library_ == nullptr) library_ = std::make_unique<Library>();
  return *library_;
}

namespace {

std::array<std::int64_t, 5> forward_shape(const CpuWeights& weights, std::int64_t rows, std::int64_t stride) {
  return {rows, weights.limbs * weights.receiving, weights.sending, stride, 1};
}
std::array<std::int64_t, 5> gradient_shape(const ConstDeltas& deltas, const ConstStates& states,
                                           const Range& range, std::int64_t rows) {
  return {range.end - range.begin, states.columns, rows, deltas.stride, states.stride};
}

/// Of the transposed product: states are the left operand.
std::array<std::int64_t, 5> fixed_point_shape(const ConstDeltas& deltas, const ConstStates& states,
                                              const Range& range, std::int64_t rows) {
  return {states.columns, range.end - range.begin, rows, states.stride, deltas.stride};
}

/// transposed [rows x columns] (+)= matrix [columns x rows], both dense.
void add_transposed(const std::int32_t* matrix, std::int64_t rows, std::int64_t columns, bool first,
                    std::int32_t* transposed) {
  constexpr std::int64_t tile = 16;  // a cache line of either
  for (std::int64_t begin = 0; begin < columns; begin += tile) {
    const std::int64_t end = std::min(begin + tile, columns);
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = begin; j < end; ++j) {
        const std::int32_t sum = matrix[j * rows + i];
        transposed[i * columns + j] = first ? sum : transposed[i * columns + j] + sum;
      }
    }
  }
}

/// Calls piece(first, count) for a batch in pieces of at most `most` rows.
template <class Piece>
void in_pieces(std::int64_t rows, std::int64_t most, const Piece& piece) {
  for (std::int64_t first = 0; first < rows; first += most) piece(first, std::min(most, rows - first));
}

/// Batches whose gradient is made of the rows with errors alone: of K samples of an image, one has no delta
/// left where another explains the image far better. A smaller batch has too little to gain, and the copies
/// of a larger one would take too much memory.
constexpr std::int64_t least_rows_to_choose_from = 64;
constexpr std::int64_t most_rows_to_choose_from = 8192;

bool chooses_rows(std::int64_t rows, std::int32_t largest_state) {
  return rows >= least_rows_to_choose_from && rows <= most_rows_to_choose_from && largest_state == 1;
}

/// Chosen rows are filled up to whole sixteenths of the batch, because primitives are made for a number of
/// rows.
std::int64_t sixteenth_of(std::int64_t rows) { return (rows + 15) / 16; }
std::int64_t filled_up(std::int64_t chosen, std::int64_t rows) {
  const std::int64_t sixteenth = sixteenth_of(rows);
  return std::min((chosen + sixteenth - 1) / sixteenth * sixteenth, rows);
}

bool all_zero(const std::int8_t* deltas, std::int64_t count) {
  return deltas[0] == 0 && std::memcmp(deltas, deltas + 1, static_cast<std::size_t>(count - 1)) == 0;
}

}  // namespace

void Products::reserve_forward(const CpuWeights& weights, std::int64_t rows, std::int64_t stride) {
  const std::int64_t columns = weights.limbs * weights.receiving;
  if (rows == 0 || columns == 0) return;
  grow(sums_, *ops_, rows * columns);
  if (weights.route == CpuRoute::float32) {
    grow(float_left_, *ops_, rows * weights.sending);
    grow(float_sums_, *ops_, rows * columns);
  } else if (weights.route == CpuRoute::int8) {
    Library::reserve(library().forward, forward_shape(weights, rows, stride), [&] {
      return library_->make(*ops_, dnnl::memory::data_type::u8, {stride, 1}, rows, columns, weights.sending,
                            {1, weights.sending});
    });
  } else if (weights.route == CpuRoute::avx2 && weights.bits > 8) {
    grow(packed_, *ops_, forward_scratch(rows, weights.sending));
  }
}

const std::int32_t* Products::forward(const CpuWeights& weights, ConstStates states) {
  const std::int64_t columns = weights.limbs * weights.receiving;
  const std::int64_t depth = weights.sending;
  std::int32_t* sums = sums_.data();
  switch (weights.route) {
    case CpuRoute::best:
      break;  // no product's route: CpuOps has chosen one
    case CpuRoute::avx2:
      if (weights.bits == 8) {
        avx2_products()->forward_bytes(states, weights.panels.data(), weights.receiving, sums);
      } else {
        avx2_products()->forward_words(states, weights.panels.data(), weights.receiving, packed_.data(),
                                       sums);
      }
      break;
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

void Products::reserve_gradient(ConstDeltas deltas, ConstStates states, Range receiving,
                                std::int32_t largest_state) {
  const std::int64_t m = receiving.end - receiving.begin;
  if (m == 0 || deltas.rows == 0) return;
  const GradientShape shape = {m, states.columns, deltas.rows, deltas.stride, states.stride, largest_state};
  if (reserved_gradients_.contains(shape)) return;
  reserve_gradient_of_all(deltas, states, receiving, largest_state);
  if (chooses_rows(deltas.rows, largest_state)) {
    grow(chosen_rows_, *ops_, deltas.rows);
    grow(copied_deltas_, *ops_, deltas.rows * padded_units(m));
    grow(copied_states_, *ops_, deltas.rows * states.stride);
    const std::int64_t sixteenth = sixteenth_of(deltas.rows);
    for (std::int64_t rows = sixteenth; rows < deltas.rows; rows += sixteenth) {
      reserve_gradient_of_all({nullptr, rows, m, padded_units(m)},
                              {nullptr, rows, states.columns, states.stride}, {0, m}, largest_state);
    }
  }
  reserved_gradients_.insert(shape);
}

void Products::reserve_gradient_of_all(ConstDeltas deltas, ConstStates states, Range receiving,
                                       std::int32_t largest_state) {
  const std::int64_t m = receiving.end - receiving.begin;
  const CpuRoute route = route_for(route_, largest_state);
  if (route == CpuRoute::float32) {
    const std::int64_t rows = std::min(deltas.rows, rows_of_a_float32_gradient(largest_state));
    grow(float_left_, *ops_, rows * m);
    grow(float_right_, *ops_, rows * states.columns);
    grow(float_sums_, *ops_, m * states.columns);
  } else if (route == CpuRoute::int8 && largest_state > 1) {
    grow(sums_, *ops_, m * states.columns);
    in_pieces(deltas.rows, rows_of_an_int8_gradient(largest_state), [&](std::int64_t, std::int64_t count) {
      const auto shape = fixed_point_shape(deltas, states, receiving, count);
      Library::reserve(library().fixed_point_gradient, shape, [&] {
        return library_->make(*ops_, dnnl::memory::data_type::u8, {1, states.stride}, states.columns, m,
                              count, {deltas.stride, 1});
      });
    });
  } else if (route == CpuRoute::int8) {
    const std::int64_t rows = rows_of_an_int8_gradient(largest_state);
    if (deltas.rows > rows) grow(sums_, *ops_, m * states.columns);
    in_pieces(deltas.rows, rows, [&](std::int64_t, std::int64_t count) {
      // The deltas are read transposed where they lie: unit by unit with the stride of a row.
      Library::reserve(library().gradient, gradient_shape(deltas, states, receiving, count), [&] {
        return library_->make(*ops_, dnnl::memory::data_type::s8, {1, deltas.stride}, m, states.columns,
                              count, {states.stride, 1});
      });
    });
  } else if (route == CpuRoute::avx2) {
    grow(packed_, *ops_, gradient_scratch(deltas.rows, m));
  }
}

void Products::gradient(ConstDeltas deltas, ConstStates states, Range receiving, std::int32_t* gradient,
                        std::int32_t largest_state) {
  const std::int64_t m = receiving.end - receiving.begin;
  if (m == 0) return;
  if (chooses_rows(deltas.rows, largest_state)) {
    const std::int64_t rows = copy_rows_with_errors(deltas, states, receiving);
    if (rows < deltas.rows) {
      gradient_of_all({copied_deltas_.data(), rows, m, padded_units(m)},
                      {copied_states_.data(), rows, states.columns, states.stride}, {0, m},
                      gradient + receiving.begin * states.columns, largest_state);
      return;
    }
  }
  gradient_of_all(deltas, states, receiving, gradient, largest_state);
}

/// Copies the rows in which a receiving unit has an error and fills them up with rows whose units are all
/// off. Returns how many rows that makes; where it is all of them, nothing is copied.
std::int64_t Products::copy_rows_with_errors(ConstDeltas deltas, ConstStates states, Range receiving) {
  const std::int64_t m = receiving.end - receiving.begin;
  std::int64_t chosen = 0;
  for (std::int64_t r = 0; r < deltas.rows; ++r) {
    if (!all_zero(deltas.row(r) + receiving.begin, m)) chosen_rows_.data()[chosen++] = r;
  }
  const std::int64_t rows = filled_up(chosen, deltas.rows);
  if (rows == deltas.rows) return rows;
  const States to_states{copied_states_.data(), rows, states.columns, states.stride};
  const Deltas to_deltas{copied_deltas_.data(), rows, m, padded_units(m)};
  for (std::int64_t i = 0; i < chosen; ++i) {
    const std::int64_t r = chosen_rows_.data()[i];
    std::memcpy(to_deltas.row(i), deltas.row(r) + receiving.begin, static_cast<std::size_t>(m));
    std::memcpy(to_states.row(i), states.row(r), static_cast<std::size_t>(states.columns));
  }
  for (std::int64_t i = chosen; i < rows; ++i) {  // whatever their deltas
    std::memset(to_states.row(i), 0, static_cast<std::size_t>(states.columns));
  }
  return rows;
}

void Products::gradient_of_all(ConstDeltas deltas, ConstStates states, Range receiving,
                               std::int32_t* gradient, std::int32_t largest_state) {
  const std::int64_t m = receiving.end - receiving.begin;
  const std::int64_t n = states.columns;
  std::int32_t* result = gradient + receiving.begin * n;
  if (deltas.rows == 0) {
    for (std::int64_t i = 0; i < m * n; ++i) result[i] = 0;
    return;
  }
  switch (route_for(route_, largest_state)) {
    case CpuRoute::best:
      break;  // as above
    case CpuRoute::avx2:
      avx2_products()->gradient(deltas, states, receiving, packed_.data(), result);
      break;
    case CpuRoute::int8:
      in_pieces(
          deltas.rows, rows_of_an_int8_gradient(largest_state), [&](std::int64_t first, std::int64_t count) {
            if (largest_state > 1) {
              // Transposed, because deltas as the left operand are shifted by 128 where the processor has no
              // dot products, and pairs of 255 * 127 leave the 16 bits that they are then summed in.
              library_->execute(
                  library_->fixed_point_gradient.at(fixed_point_shape(deltas, states, receiving, count)),
                  states.row(first), deltas.row(first) + receiving.begin, sums_.data());
              add_transposed(sums_.data(), m, n, first == 0, result);
              return;
            }
            std::int32_t* const sums = first == 0 ? result : sums_.data();
            library_->execute(library_->gradient.at(gradient_shape(deltas, states, receiving, count)),
                              deltas.row(first) + receiving.begin, states.row(first), sums);
            if (first > 0) std::transform(sums, sums + m * n, result, result, std::plus<>());
          });
      break;
    case CpuRoute::float32:
      in_pieces(deltas.rows, rows_of_a_float32_gradient(largest_state),
                [&](std::int64_t first, std::int64_t count) {
                  for (std::int64_t r = 0; r < count; ++r) {
                    const std::int8_t* delta_row = deltas.row(first + r) + receiving.begin;
                    for (std::int64_t i = 0; i < m; ++i)
                      float_left_.data()[r * m + i] = static_cast<float>(delta_row[i]);
                    const std::uint8_t* state_row = states.row(first + r);
                    for (std::int64_t j = 0; j < n; ++j)
                      float_right_.data()[r * n + j] = static_cast<float>(state_row[j]);
                  }
                  check_library(dnnl_sgemm('T', 'N', m, n, count, 1.0f, float_left_.data(), m,
                                           float_right_.data(), n, 0.0f, float_sums_.data(), n));
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
    case CpuRoute::avx2:
      return "AVX2 products of bytes and 16-bit words";
    case CpuRoute::int8:
      return "int8 products (" + library + ")";
    case CpuRoute::float32:
      return "float32 products of integers (" + library + ")";
    case CpuRoute::best:
      return route_text(best_route());
    case CpuRoute::reference:
      break;
  }
  return "reference products (a plain loop)";
}

// -------------------------------------------------------------------------------- check

namespace {

std::uint32_t check_word(std::uint32_t index, std::uint32_t what) {
  return philox4x32_10(draw_counter(index, what, 0, 0), 0x636865636Bull).word[0];
}

/// The largest state by the last bit, or one below it by the others.
std::uint8_t check_state(std::uint32_t random, std::int32_t largest_state) {
  const auto largest = static_cast<std::uint32_t>(largest_state);
  return static_cast<std::uint8_t>((random & 1u) != 0u ? largest : (random >> 1) % largest);
}

void check_forward(Ops& ops, CpuRoute route, std::int64_t sending, int bits, std::int32_t largest_state) {
  const std::int64_t rows = 3;
  const std::int64_t receiving = 5;
  const std::int32_t largest = largest_integer_weight(bits);
  CpuWeights weights(ops, route, receiving, sending, bits, largest_state);
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
      states.data()[r * stride + j] = check_state(
          r == 0 ? 1u : check_word(static_cast<std::uint32_t>(r * sending + j), 1), largest_state);
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

void check_gradient(Ops& ops, CpuRoute route, std::int64_t rows, std::int32_t largest_state) {
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
    const std::uint32_t of_states = check_word(static_cast<std::uint32_t>(r), 3);
    for (std::int64_t j = 0; j < sending; ++j) {
      states.data()[r * stride + j] = check_state(j == 0 ? 1u : of_states >> (8 * (j - 1)), largest_state);
    }
  }
  Buffer<std::int32_t> gradient(ops, receiving * sending);
  Products products(ops, route);
  const ConstDeltas d{deltas.data(), rows, receiving, stride};
  const ConstStates s{states.data(), rows, sending, stride};
  products.reserve_gradient(d, s, {0, receiving}, largest_state);
  products.gradient(d, s, {0, receiving}, gradient.data(), largest_state);
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

void check_route(Ops& ops, CpuRoute route, std::int32_t largest_state) {
  static std::mutex mutex;
  static std::set<std::pair<CpuRoute, std::int32_t>> checked;
  const std::lock_guard<std::mutex> lock(mutex);
  route = route_for(route, largest_state);
  if (checked.contains({route, largest_state})) return;
  const ArithmeticScope scope;
  const std::int64_t within_float32 = exact_in_float32 / largest_state;
  check_forward(ops, route, std::min<std::int64_t>(65536, widest_layer(route, 16, largest_state)), 16,
                largest_state);
  check_forward(ops, route, within_float32 / largest_limb, 8, largest_state);
  check_forward(ops, route, within_float32 / largest_integer_weight(12), 12, largest_state);
  check_forward(ops, route, within_float32 / largest_integer_weight(16), 16, largest_state);
  if (largest_state > 1) {  // few enough units to try all that there may be
    check_forward(ops, route, widest_layer(route, 8, largest_state), 8, largest_state);
    check_forward(ops, route, widest_layer(route, 12, largest_state), 12, largest_state);
  }
  check_gradient(ops, route, rows_of_an_int8_gradient(largest_state), largest_state);
  check_gradient(ops, route, rows_of_a_float32_gradient(largest_state) + 33, largest_state);
  checked.insert({route, largest_state});
}

}  // namespace wakesleep::cpu
