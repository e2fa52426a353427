// Sizes computed from numbers that a file holds, which may be any: none where they leave 63 bits.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

namespace wakesleep {

/// A size that remembers whether it has left 63 bits.
class CheckedSize {
 public:
  explicit CheckedSize(std::uint64_t size) : size_(size), fits_(size <= limit) {}
  void multiply(std::uint64_t by) {
    fits_ = !__builtin_mul_overflow(size_, by, &size_) && size_ <= limit && fits_;
  }
  void add(std::uint64_t more) {
    fits_ = !__builtin_add_overflow(size_, more, &size_) && size_ <= limit && fits_;
  }
  std::optional<std::uint64_t> value() const { return fits_ ? std::optional(size_) : std::nullopt; }

 private:
  static constexpr std::uint64_t limit = std::numeric_limits<std::int64_t>::max();
  std::uint64_t size_;
  bool fits_;
};

/// `factor` times all extents.
inline std::optional<std::uint64_t> checked_product(std::uint64_t factor,
                                                    const std::vector<std::int64_t>& shape) {
  CheckedSize size(factor);
  for (const std::int64_t extent : shape) {
    if (extent < 0) return std::nullopt;
    size.multiply(static_cast<std::uint64_t>(extent));
  }
  return size.value();
}

inline std::optional<std::uint64_t> element_count(const std::vector<std::int64_t>& shape) {
  return checked_product(1, shape);
}
/// Of float32 values.
inline std::optional<std::uint64_t> byte_count(const std::vector<std::int64_t>& shape) {
  return checked_product(sizeof(float), shape);
}

inline std::optional<std::uint64_t> checked_sum(std::uint64_t first, std::uint64_t second) {
  CheckedSize size(first);
  size.add(second);
  return size.value();
}

}  // namespace wakesleep
