// The normalising constant of a bidirectional Helmholtz machine, p*(x, h) = sqrt(p(x, h) q(x, h)) / Z
// (Bornschein, Shabanian, Fischer, Bengio, ICML 2016), in which q(x) is p*(x) itself, so that
//   p*(x) = p~*(x) / Z^2,  p~*(x) = (sum_h sqrt(p(x, h) q(h | x)))^2 <= p(x).
#pragma once

#include <cstdint>
#include <functional>

#include "wakesleep/machine.hpp"

namespace wakesleep {

struct PartitionSettings {
  std::int64_t dreams = 100000;  ///< N
  std::uint64_t seed = 1;
  std::function<void(std::int64_t dreams_done, std::int64_t dreams_total)>
      progress;  ///< after each chunk; may be empty
};

/// In nats. Z is at most 1, so 2 log Z is at most 0, but for the error of the estimate.
struct PartitionEstimate {
  std::int64_t dreams = 0;
  double log_partition = 0;   ///< 2 log Z
  double standard_error = 0;  ///< of that, over the dreams
};

/// Draws (x, h) ~ p and h' ~ q(. | x), N times, independently:
///   Z^2 = E sqrt(q(h | x) / p(x, h)) sqrt(p(x, h') / q(h' | x)).
/// Blocks. Depends on seed and N alone, not on device, threads or chunks. Throws UsageError when N is out of
/// range (1 to 2^31), or the machine's visible units are Gaussian.
PartitionEstimate estimate_partition(const Machine& machine, const PartitionSettings& settings);

}  // namespace wakesleep
