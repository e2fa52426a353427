#include "wakesleep/bare_products.hpp"

#include <algorithm>
#include <memory>
#include <numeric>

#include "recording_length.hpp"
#include "wakesleep/machine.hpp"

namespace wakesleep {

namespace {

constexpr std::uint64_t seed = 1;

/// Fair coin flips, one a byte; another `purpose`, others.
std::vector<std::uint8_t> coin_flips(std::int64_t count, std::uint32_t purpose) {
  constexpr std::int64_t bits = 128;  // of a block of random words
  std::vector<std::uint8_t> flips(static_cast<std::size_t>(count));
  for (std::int64_t first = 0; first < count; first += bits) {
    const PhiloxBlock random =
        philox4x32_10(draw_counter(static_cast<std::uint32_t>(first / bits), purpose, 0, 0), seed);
    for (std::int64_t i = 0; i < std::min(bits, count - first); ++i) {
      flips[static_cast<std::size_t>(first + i)] = random.word[i / 32] >> (i % 32) & 1u;
    }
  }
  return flips;
}

/// Elements of the largest weight gradient.
std::int64_t largest_gradient(const std::vector<std::int64_t>& sizes, Prior prior) {
  std::int64_t largest = prior == Prior::autoregressive ? sizes.back() * sizes.back() : 0;
  for (std::size_t l = 1; l < sizes.size(); ++l) largest = std::max(largest, sizes[l] * sizes[l - 1]);
  return largest;
}

/// A forward product of a conditional, or the gradient of its weights.
struct Product {
  enum class Kind { forward, gradient };
  Kind kind = Kind::forward;
  const Conditional* conditional = nullptr;
  int receiving = 0;  ///< layer
  int sending = 0;    ///< layer
  std::int64_t rows = 0;

  std::int64_t multiply_adds() const { return rows * conditional->receiving * conditional->sending; }
};

class StepProducts {
 public:
  StepProducts(Ops& ops, const std::vector<std::int64_t>& sizes, const TrainingSettings& settings)
      : machine_(ops, sizes, settings.weight_bits, settings.prior, visible_units_of(settings)) {
    fill_weights(ops);
    list(settings);
    for (int l = 0; l <= machine_.layers(); ++l) {
      const std::int64_t count = rows_of_a_step(settings) * padded_units(machine_.size(l));
      const std::vector<std::uint8_t> random = coin_flips(count, static_cast<std::uint32_t>(l));
      states_.emplace_back(ops, count).copy_in(random.data());
      deltas_.emplace_back(ops, count).copy_in(reinterpret_cast<const std::int8_t*>(random.data()));
    }
    gradient_ = Buffer<std::int32_t>(ops, largest_gradient(sizes, settings.prior));
  }

  void run(std::int64_t times) {
    Ops& ops = machine_.ops();
    const std::int64_t at_once = steps_worth_recording(machine_.conditionals());
    while (times > 0) {
      if (recording_ != nullptr && times >= at_once) {
        recording_->replay();
        times -= at_once;
        continue;
      }
      queue();
      --times;
      if (recorded_) continue;
      // Once they have run, so that nothing is left to be made when they are recorded.
      recorded_ = true;
      recording_ = ops.record([&] {
        for (std::int64_t i = 0; i < at_once; ++i) queue();
      });
    }
    ops.synchronize();
  }

  std::int64_t multiply_adds() const {
    return std::accumulate(products_.begin(), products_.end(), std::int64_t{0},
                           [](std::int64_t sum, const Product& p) { return sum + p.multiply_adds(); });
  }

 private:
  void queue() const {
    for (const Product& product : products_) {
      const std::int64_t rows = product.rows;
      const ConstStates input = view(states_, product.sending, rows);
      if (product.kind == Product::Kind::forward) {
        machine_.ops().multiply(*product.conditional, input);
      } else {
        machine_.ops().gradient(view(deltas_, product.receiving, rows), input, gradient_.data(), nullptr,
                                product.conditional->largest_input);
      }
    }
  }

  /// Uniform within +-1, drawn where they are kept: of a wide machine, there are too many for the host to draw.
  void fill_weights(Ops& ops) {
    for (int l = 1; l <= machine_.layers(); ++l) {
      for (const Conditional* c : {&machine_.recognition(l), &machine_.generative(l)}) {
        ops.draw_weights(*c, Draw{.seed = seed, .layer = static_cast<std::uint32_t>(l)}, 1.0f);
        ops.quantize(*c, nullptr, nullptr);
      }
    }
  }
  void list(const TrainingSettings& settings) {
    const std::int64_t images = settings.batch_size;
    const std::int64_t rows = rows_of_a_step(settings);
    switch (settings.algorithm) {
      case Algorithm::wake_sleep:
      case Algorithm::sparse_wake_sleep:
        wake(images);
        sleep(images);
        break;
      case Algorithm::reweighted_wake_sleep:
      case Algorithm::natural_reweighted_wake_sleep:
        posterior(images, rows, settings.insomnia > 0);
        if (settings.insomnia < 1) sleep(images);
        break;
      case Algorithm::joint_stochastic_approximation:
      case Algorithm::bidirectional_helmholtz:
      case Algorithm::vimco:
        posterior(images, rows, true);
        break;
    }
  }

  /// A chain, a prediction and one gradient for every pair, in either direction.
  void wake(std::int64_t rows) {
    for (int l = 1; l <= machine_.layers(); ++l) {
      up(l, rows);
      down(l, rows);
      learn_down(l, rows);
    }
    prior(rows);
  }
  void sleep(std::int64_t rows) {
    for (int l = 1; l <= machine_.layers(); ++l) {
      down(l, rows);
      up(l, rows);
      learn_up(l, rows);
    }
  }
  /// K samples an image, which share the image; their scores; the gradients of what learns from them.
  void posterior(std::int64_t images, std::int64_t rows, bool recognition_learns) {
    for (int l = 1; l <= machine_.layers(); ++l) {
      const std::int64_t rows_below = l == 1 ? images : rows;
      up(l, rows_below);
      down(l, rows);
      learn_down(l, rows);
      if (recognition_learns) learn_up(l, rows_below);
    }
    prior(rows);
  }

  void up(int l, std::int64_t rows) { add(Product::Kind::forward, machine_.recognition(l), l, l - 1, rows); }
  void down(int l, std::int64_t rows) { add(Product::Kind::forward, machine_.generative(l), l - 1, l, rows); }
  void learn_up(int l, std::int64_t rows) {
    add(Product::Kind::gradient, machine_.recognition(l), l, l - 1, rows);
  }
  void learn_down(int l, std::int64_t rows) {
    add(Product::Kind::gradient, machine_.generative(l), l - 1, l, rows);
  }
  /// Of an autoregressive prior: scores of the top layer's states, and the gradient.
  void prior(std::int64_t rows) {
    const int top = machine_.layers();
    if (!machine_.prior().autoregressive) return;
    add(Product::Kind::forward, machine_.prior(), top, top, rows);
    add(Product::Kind::gradient, machine_.prior(), top, top, rows);
  }
  void add(Product::Kind kind, const Conditional& conditional, int receiving, int sending,
           std::int64_t rows) {
    products_.push_back({kind, &conditional, receiving, sending, rows});
  }

  template <class T>
  Matrix<const T> view(const std::vector<Buffer<T>>& layers, int l, std::int64_t rows) const {
    const std::int64_t units = machine_.size(l);
    return {layers[static_cast<std::size_t>(l)].data(), rows, units, padded_units(units)};
  }

  Machine machine_;
  std::vector<Product> products_;
  std::vector<Buffer<std::uint8_t>> states_;
  std::vector<Buffer<std::int8_t>> deltas_;
  Buffer<std::int32_t> gradient_;
  bool recorded_ = false;
  std::unique_ptr<Recording> recording_;
};

class SquareProduct {
 public:
  SquareProduct(Ops& ops, std::int64_t width)
      : ops_(ops),
        weight_(ops, width * width),
        bias_(ops, width),
        integers_(ops.make_integer_weights(width, width, 8)),
        states_(ops, width * padded_units(width)),
        input_{states_.data(), width, width, padded_units(width)} {
    bias_.fill_zero();
    conditional_.weight = {weight_.data(), width, width, width};
    conditional_.bias = bias_.data();
    conditional_.receiving = width;
    conditional_.sending = width;
    conditional_.integers = integers_.get();
    ops.draw_weights(conditional_, Draw{.seed = seed}, 1.0f);  // uniform within +-1
    ops.quantize(conditional_, nullptr, nullptr);
    states_.copy_in(coin_flips(states_.size(), 0).data());
  }

  void run(std::int64_t times) const {
    for (std::int64_t i = 0; i < times; ++i) ops_.multiply(conditional_, input_);
    ops_.synchronize();
  }

 private:
  Ops& ops_;
  Buffer<float> weight_;
  Buffer<float> bias_;
  std::unique_ptr<IntegerWeights> integers_;
  Buffer<std::uint8_t> states_;
  ConstStates input_;
  Conditional conditional_;
};

}  // namespace

BareProducts bare_products(Ops& ops, const std::vector<std::int64_t>& sizes,
                           const TrainingSettings& settings) {
  const auto products = std::make_shared<StepProducts>(ops, sizes, settings);
  return {[products](std::int64_t times) { products->run(times); }, products->multiply_adds()};
}

void add_bare_products(MemoryPlan& plan, const std::vector<std::int64_t>& sizes,
                       const TrainingSettings& settings) {
  plan.parameters *= 2;
  plan.fixed += largest_gradient(sizes, settings.prior) * static_cast<std::int64_t>(sizeof(std::int32_t));
  const std::int64_t samples = rows_of_a_step(settings) / settings.batch_size;
  for (const std::int64_t units : sizes) plan.per_row += 2 * samples * padded_units(units);  // states, deltas
}

BareProducts square_product(Ops& ops, std::int64_t width) {
  const auto product = std::make_shared<const SquareProduct>(ops, width);
  return {[product](std::int64_t times) { product->run(times); }, width * width * width};
}

}  // namespace wakesleep
