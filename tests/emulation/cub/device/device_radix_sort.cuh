// Stands in for CUB's header of this name: a stable sort of pairs by the bits of their keys.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "cuda_runtime.h"

namespace cub {

struct DeviceRadixSort {
  /// As CUB's: without memory it only says how much it needs.
  template <class Key, class Value>
  static cudaError_t SortPairs(void* memory, std::size_t& bytes, const Key* keys, Key* sorted_keys,
                               const Value* values, Value* sorted_values, std::int64_t count, int begin_bit,
                               int end_bit, cudaStream_t stream) {
    if (memory == nullptr) {
      bytes = static_cast<std::size_t>(count) + 1;
      return cudaSuccess;
    }
    if (begin_bit != 0 || end_bit != 8 * static_cast<int>(sizeof(Key))) {
      emulation::fail("only sorting by whole keys is emulated");
    }
    const std::size_t given = bytes;
    return emulation::queue(stream, [=] {
      std::memset(memory, 0x5A, given);
      std::vector<std::pair<Key, Value>> pairs;
      for (std::int64_t i = 0; i < count; ++i) pairs.emplace_back(keys[i], values[i]);
      std::stable_sort(pairs.begin(), pairs.end(),
                       [](const auto& x, const auto& y) { return x.first < y.first; });
      for (std::size_t i = 0; i < pairs.size(); ++i) {
        sorted_keys[i] = pairs[i].first;
        sorted_values[i] = pairs[i].second;
      }
    });
  }
};

}  // namespace cub
