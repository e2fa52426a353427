// How `wakesleep bench` takes times: of training steps, of their bare integer products, and of large
// products, which show what the device can do.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "command/arguments.hpp"
#include "wakesleep/bare_products.hpp"
#include "wakesleep/ops.hpp"

namespace wakesleep::command {

/// Does something so many times and blocks until it is done.
using Work = std::function<void(std::int64_t times)>;

/// A large product, and the least time that it has been seen to take.
struct Square {
  std::int64_t width = 0;
  BareProducts product;
  double seconds = std::numeric_limits<double>::infinity();
};

/// Large products, the fastest of which shows what the device can do.
struct Peak {
  std::vector<Square> squares;
  std::int64_t bytes = 0;  ///< held for them
};

struct Timing {
  std::int64_t steps_before = 0;  ///< trained before the measurement
  double rate_factor = 0;         ///< on the learning rates in the last step
  double step_seconds = 0;
  double products_seconds = 0;
  double ratio = 0;
  std::int64_t multiply_adds = 0;  ///< of the step's products
  std::int64_t peak_width = 0;
  double peak_rate = 0;  ///< the best seen, in multiply-adds a second

  double products_share() const { return share_in(products_seconds); }
  double step_share() const { return share_in(step_seconds); }

 private:
  double share_in(double seconds) const { return static_cast<double>(multiply_adds) / seconds / peak_rate; }
};

/// Square products of twice the width each, up to where a wider one would take longer than some milliseconds
/// or than a round has for it, or would need more than `memory` bytes with the others. Narrow ones are held
/// up by their call and wide ones leave a processor's caches, so the fastest may be any of them. None where
/// not even the narrowest fits; `bytes` is then what it would need.
Peak make_squares(Ops& ops, const Arguments& arguments, std::int64_t memory);

/// Steps, products and the peak in turn, so that a machine that changes its speed changes it for all.
/// `steps_before` and `rate_factor` are left to the caller.
Timing time_in_turn(const Work& steps, const BareProducts& bare, Peak& peak, const Arguments& arguments);

}  // namespace wakesleep::command
