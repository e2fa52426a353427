#pragma once

#include <cstdint>

#include "kernels/cpu/rows.hpp"
#include "kernels/cpu/threads.hpp"
#include "wakesleep/ops.hpp"

namespace wakesleep::cpu {

/// Orders the rows of a data set by drawn keys. Its working memory is kept from epoch to epoch.
class Shuffle {
 public:
  /// order[0 .. rows) = the row numbers sorted by key, ties by row; row r's key is drawn at the address of
  /// the first row, r rows on.
  void operator()(Ops& ops, Team& team, const RowAddress& first_row, std::int64_t rows, std::uint32_t* order);

 private:
  struct KeyedRow {
    std::uint64_t key;
    std::uint32_t row;
    bool operator<(const KeyedRow& other) const {
      return key != other.key ? key < other.key : row < other.row;
    }
  };

  Buffer<std::uint64_t> keys_;     ///< by row
  Buffer<KeyedRow> keyed_;         ///< by bucket
  Buffer<std::uint32_t> places_;   ///< [threads x buckets] where a thread's next row of a bucket goes
  Buffer<std::uint32_t> buckets_;  ///< [buckets + 1] where each begins
};

}  // namespace wakesleep::cpu
