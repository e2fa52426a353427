// The last hidden states of each training image's chain, one bit a unit, in the backend's memory.
#pragma once

#include <cstdint>
#include <vector>

#include "wakesleep/machine.hpp"
#include "wakesleep/training_algorithm.hpp"

namespace wakesleep {

class ChainMemory {
 public:
  /// For `rows` images. What is recalled before it was remembered is off. From epoch `from_epoch` on chains
  /// go on; before, recall() changes nothing. `machine` must outlive it.
  ChainMemory(Machine& machine, std::int64_t rows, std::int64_t from_epoch);

  /// Queues: first[i] = the remembered states of hidden layer `layer` of the batch's image i, where the
  /// step's epoch is not before from_epoch. The rows of `first` may have any stride.
  void recall(const Batch& batch, int layer, States first) const;
  /// Queues: remembers row i samples + chosen[i] of `states` for the batch's image i.
  void remember(const Batch& batch, int layer, ConstStates states, std::int64_t samples,
                const std::uint32_t* chosen);

  /// chain.{l} [images x ceil(units / 16)]: sixteen states a number, 0 to 65535, the first unit its highest
  /// bit. Blocks.
  Tensors download() const;
  /// Throws DataError naming what is missing, unknown, of another shape or no such number.
  void upload(const Tensors& tensors);

 private:
  /// Rows are whole 16-bit numbers.
  static std::int64_t row_bytes(std::int64_t units) { return (units + 15) / 16 * 2; }
  const Buffer<std::uint8_t>& of_layer(int layer) const { return bits_[static_cast<std::size_t>(layer - 1)]; }

  Machine& machine_;
  Ops& ops_;
  std::int64_t rows_;
  std::uint32_t from_epoch_;
  std::vector<Buffer<std::uint8_t>> bits_;  ///< by hidden layer
};

}  // namespace wakesleep
