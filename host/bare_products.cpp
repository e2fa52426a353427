#include "wakesleep/bare_products.hpp"

#include <algorithm>
#include <memory>

#include "wakesleep/machine.hpp"

namespace wakesleep {

namespace {

struct Bench {
  Bench(Ops& ops, const std::vector<std::int64_t>& sizes, int weight_bits, std::int64_t batch_rows)
      : machine(ops, sizes, weight_bits), rows(batch_rows) {
    machine.initialize(std::vector<double>(static_cast<std::size_t>(sizes[0]), 0.5), 1);
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
    gradient = Buffer<std::int32_t>(ops, largest);
  }

  ConstStates states_of(int l) const {
    return {states[static_cast<std::size_t>(l)].data(), rows, machine.size(l), padded_units(machine.size(l))};
  }
  ConstDeltas deltas_of(int l) const {
    return {deltas[static_cast<std::size_t>(l)].data(), rows, machine.size(l), padded_units(machine.size(l))};
  }

  void run() {
    Ops& ops = machine.ops();
    for (int phase = 0; phase < 2; ++phase) {  // wake, sleep: a chain and a prediction each, and one gradient
      for (int l = 1; l <= machine.layers(); ++l) {
        ops.multiply(machine.recognition(l), states_of(l - 1));
        ops.multiply(machine.generative(l), states_of(l));
        const int receiving = phase == 0 ? l - 1 : l;
        ops.gradient(deltas_of(receiving), states_of(phase == 0 ? l : l - 1), gradient.data(), nullptr);
      }
    }
    ops.synchronize();
  }

  Machine machine;
  std::int64_t rows;
  std::vector<Buffer<std::uint8_t>> states;
  std::vector<Buffer<std::int8_t>> deltas;
  Buffer<std::int32_t> gradient;
};

}  // namespace

std::function<void()> bare_products(Ops& ops, const std::vector<std::int64_t>& sizes, int weight_bits,
                                    std::int64_t batch_rows) {
  return [bench = std::make_shared<Bench>(ops, sizes, weight_bits, batch_rows)] { bench->run(); };
}

}  // namespace wakesleep
