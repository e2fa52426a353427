#include "wakesleep/bare_products.hpp"

#include <algorithm>
#include <memory>

#include "wakesleep/machine.hpp"

namespace wakesleep {

namespace {

struct Bench {
  Bench(Ops& ops, const std::vector<std::int64_t>& sizes, const TrainingSettings& training)
      : machine(ops, sizes, training.weight_bits, training.prior, visible_units_of(training)),
        settings(training),
        images(training.batch_size) {
    machine.initialize(std::vector<double>(static_cast<std::size_t>(sizes[0]), 0.5), 1);
    const std::int64_t rows = rows_of_a_step(settings);
    std::int64_t largest = 0;
    for (int l = 0; l <= machine.layers(); ++l) {
      const std::int64_t units = machine.size(l);
      const std::int64_t count = rows * padded_units(units);
      std::vector<std::uint8_t> random(static_cast<std::size_t>(count));
      for (std::size_t i = 0; i < random.size(); ++i) {
        const std::uint32_t at = static_cast<std::uint32_t>(i);
        random[i] = philox4x32_10(draw_counter(at, static_cast<std::uint32_t>(l), 0, 0), 1).word[0] & 1u;
      }
      states.emplace_back(ops, count);
      states.back().copy_in(random.data());
      deltas.emplace_back(ops, count);
      deltas.back().copy_in(reinterpret_cast<const std::int8_t*>(random.data()));
      if (l > 0) largest = std::max(largest, units * machine.size(l - 1));
    }
    largest = std::max(largest, machine.prior().receiving * machine.prior().sending);
    gradient = Buffer<std::int32_t>(ops, largest);
  }

  ConstStates states_of(int l, std::int64_t rows) const {
    return {states[static_cast<std::size_t>(l)].data(), rows, machine.size(l), padded_units(machine.size(l))};
  }
  /// The gradient of the conditional of layer `receiving` given layer `sending`.
  void learn(int receiving, int sending, std::int64_t rows) {
    const bool from_visible = sending == 0 && receiving == 1;
    const std::int32_t largest_state = from_visible ? machine.recognition(1).largest_input : 1;
    const std::int64_t units = machine.size(receiving);
    const ConstDeltas errors{deltas[static_cast<std::size_t>(receiving)].data(), rows, units,
                             padded_units(units)};
    machine.ops().gradient(errors, states_of(sending, rows), gradient.data(), nullptr, largest_state);
  }
  void up(int l, std::int64_t rows) {
    machine.ops().multiply(machine.recognition(l), states_of(l - 1, rows));
  }
  void down(int l, std::int64_t rows) { machine.ops().multiply(machine.generative(l), states_of(l, rows)); }

  /// Of an autoregressive prior: scores of the top layer's states, and the gradient.
  void prior(std::int64_t rows) {
    if (!machine.prior().autoregressive) return;
    machine.ops().multiply(machine.prior(), states_of(machine.layers(), rows));
    learn(machine.layers(), machine.layers(), rows);
  }

  /// A chain, a prediction and one gradient for every pair, in either direction.
  void wake() {
    for (int l = 1; l <= machine.layers(); ++l) {
      up(l, images);
      down(l, images);
      learn(l - 1, l, images);
    }
    prior(images);
  }
  void sleep() {
    for (int l = 1; l <= machine.layers(); ++l) {
      down(l, images);
      up(l, images);
      learn(l, l - 1, images);
    }
  }
  /// K samples an image, which share the image; their scores; the gradients of what learns from them.
  void posterior() {
    const std::int64_t rows = rows_of_a_step(settings);
    const bool recognition_learns = !is_used(settings, "insomnia") || settings.insomnia > 0;
    for (int l = 1; l <= machine.layers(); ++l) {
      const std::int64_t rows_below = l == 1 ? images : rows;
      up(l, rows_below);
      down(l, rows);
      learn(l - 1, l, rows);
      if (recognition_learns) learn(l, l - 1, rows_below);
    }
    prior(rows);
  }

  void run() {
    switch (settings.algorithm) {
      case Algorithm::wake_sleep:
      case Algorithm::sparse_wake_sleep:
        wake();
        sleep();
        break;
      case Algorithm::reweighted_wake_sleep:
      case Algorithm::natural_reweighted_wake_sleep:
        posterior();
        if (settings.insomnia < 1) sleep();
        break;
      case Algorithm::joint_stochastic_approximation:
      case Algorithm::bidirectional_helmholtz:
      case Algorithm::vimco:
        posterior();
        break;
    }
    machine.ops().synchronize();
  }

  Machine machine;
  TrainingSettings settings;
  std::int64_t images;
  std::vector<Buffer<std::uint8_t>> states;
  std::vector<Buffer<std::int8_t>> deltas;
  Buffer<std::int32_t> gradient;
};

}  // namespace

std::function<void()> bare_products(Ops& ops, const std::vector<std::int64_t>& sizes,
                                    const TrainingSettings& settings) {
  return [bench = std::make_shared<Bench>(ops, sizes, settings)] { bench->run(); };
}

}  // namespace wakesleep
