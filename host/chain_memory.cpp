#include "wakesleep/chain_memory.hpp"

#include <string>

#include "state_tensors.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {

ChainMemory::ChainMemory(Machine& machine, std::int64_t rows, std::int64_t from_epoch)
    : machine_(machine),
      ops_(machine.ops()),
      rows_(rows),
      from_epoch_(static_cast<std::uint32_t>(from_epoch)) {
  for (int l = 1; l <= machine.layers(); ++l) {
    bits_.emplace_back(ops_, rows * row_bytes(machine.size(l)));
    bits_.back().fill_zero();
  }
}

void ChainMemory::recall(const Batch& batch, int layer, States first) const {
  const std::int64_t units = machine_.size(layer);
  const DataRows remembered{of_layer(layer).data(), rows_, units, row_bytes(units), false};
  ops_.recall(remembered, batch.order, &batch.now->first, &batch.now->epoch, from_epoch_, first);
}

void ChainMemory::remember(const Batch& batch, int layer, ConstStates states, std::int64_t samples,
                           const std::uint32_t* chosen) {
  ops_.remember(states, samples, chosen, batch.order, &batch.now->first, of_layer(layer).data(),
                row_bytes(machine_.size(layer)));
}

Tensors ChainMemory::download() const {
  Tensors tensors;
  for (int l = 1; l <= machine_.layers(); ++l) {
    std::vector<std::uint8_t> bits(of_layer(l).bytes());
    of_layer(l).copy_out(bits.data());
    Tensor& tensor = tensors["chain." + std::to_string(l)];
    tensor.shape = {rows_, row_bytes(machine_.size(l)) / 2};
    for (std::size_t i = 0; i < bits.size(); i += 2) {
      tensor.values.push_back(static_cast<float>(256 * bits[i] + bits[i + 1]));
    }
  }
  return tensors;
}

void ChainMemory::upload(const Tensors& tensors) {
  if (tensors.size() != bits_.size()) {
    throw DataError("the checkpoint holds the chains of " + std::to_string(tensors.size()) +
                    " layers where the machine has " + std::to_string(bits_.size()) +
                    ": this checkpoint does not continue this run");
  }
  for (int l = 1; l <= machine_.layers(); ++l) {
    const std::string name = "chain." + std::to_string(l);
    const std::vector<std::int64_t> shape = {rows_, row_bytes(machine_.size(l)) / 2};
    std::vector<std::uint8_t> bits;
    for (const float value : state_tensor(tensors, name, shape, "the chains").values) {
      if (!is_16_bit_number(value)) {
        throw DataError("the chains \"" + name +
                        "\" hold a number that is no whole one from 0 to 65535: the checkpoint is "
                        "damaged, use the one before it");
      }
      bits.push_back(static_cast<std::uint8_t>(static_cast<int>(value) >> 8));
      bits.push_back(static_cast<std::uint8_t>(static_cast<int>(value) & 255));
    }
    bits_[static_cast<std::size_t>(l - 1)].copy_in(bits.data());
  }
}

}  // namespace wakesleep
