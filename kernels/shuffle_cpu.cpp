// The order of an epoch: rows sorted by drawn keys. The keys are uniform over 64 bits, so that their leading
// bits divide the rows into buckets of about the same size, which are then sorted while they are in the
// cache.
#include "kernels/shuffle_cpu.hpp"

#include <algorithm>
#include <bit>
#include <utility>

#include "wakesleep/philox.hpp"

namespace wakesleep::cpu {

namespace {

constexpr std::int64_t rows_of_a_bucket = 4;
/// More would not fit the second-level cache: writing to them at random would cost more than sorting larger
/// ones.
constexpr int most_bucket_bits = 16;

int bucket_bits(std::int64_t rows) {
  const auto buckets = static_cast<std::uint64_t>(rows / rows_of_a_bucket);
  return std::clamp(static_cast<int>(std::bit_width(buckets)), 1, most_bucket_bits);
}

template <class T>
void grow(Buffer<T>& buffer, Ops& ops, std::int64_t count) {
  if (buffer.size() < count) buffer = Buffer<T>(ops, count);
}

}  // namespace

void Shuffle::operator()(Ops& ops, Team& team, const RowAddress& first_row, std::int64_t rows,
                         std::uint32_t* order) {
  const int bits = bucket_bits(rows);
  const std::int64_t buckets = std::int64_t{1} << bits;
  const auto bucket_of = [bits](std::uint64_t key) { return static_cast<std::int64_t>(key >> (64 - bits)); };
  grow(keys_, ops, rows);
  grow(keyed_, ops, rows);
  grow(places_, ops, team.size() * buckets);
  grow(buckets_, ops, buckets + 1);
  std::uint64_t* const keys = keys_.data();
  KeyedRow* const keyed = keyed_.data();
  std::uint32_t* const places = places_.data();
  std::uint32_t* const begins = buckets_.data();

  team.run([&](int thread) {
    const Range share = part_of(rows, thread, team.size());
    std::uint32_t* const counts = places + thread * buckets;
    std::fill(counts, counts + buckets, 0u);
    for (std::int64_t row = share.begin; row < share.end; ++row) {
      const PhiloxBlock counter = draw_counter(0, first_row.row + static_cast<std::uint32_t>(row),
                                               first_row.step, first_row.domain_and_layer);
      keys[row] = sorting_key(philox4x32_10(counter, first_row.seed));
      ++counts[bucket_of(keys[row])];
    }
  });

  std::uint32_t begin = 0;
  for (std::int64_t bucket = 0; bucket < buckets; ++bucket) {
    begins[bucket] = begin;
    for (int thread = 0; thread < team.size(); ++thread) {
      std::uint32_t& place = places[thread * buckets + bucket];
      begin += std::exchange(place, begin);
    }
  }
  begins[buckets] = begin;

  team.run([&](int thread) {
    const Range share = part_of(rows, thread, team.size());
    std::uint32_t* const next = places + thread * buckets;
    for (std::int64_t row = share.begin; row < share.end; ++row) {
      keyed[next[bucket_of(keys[row])]++] = {keys[row], static_cast<std::uint32_t>(row)};
    }
  });

  team.run([&](int thread) {
    const Range share = part_of(buckets, thread, team.size());
    for (std::int64_t bucket = share.begin; bucket < share.end; ++bucket) {
      std::sort(keyed + begins[bucket], keyed + begins[bucket + 1]);
      for (std::uint32_t place = begins[bucket]; place < begins[bucket + 1]; ++place) {
        order[place] = keyed[place].row;
      }
    }
  });
}

}  // namespace wakesleep::cpu
