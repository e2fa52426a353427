// What a training takes of a backend's memory, found before it starts.
#pragma once

#include <cstdint>
#include <vector>

#include "wakesleep/ops.hpp"
#include "wakesleep/settings.hpp"
#include "wakesleep/training_rows.hpp"

namespace wakesleep {

/// In bytes.
struct MemoryPlan {
  std::int64_t parameters = 0;  ///< float32 and as the products see them
  std::int64_t fixed = 0;       ///< optimiser state, gradients and what else does not grow with the batch
  std::int64_t per_row = 0;     ///< states, errors and working memory of one row of the batch
  std::int64_t data = 0;  ///< training rows, or the ring that they are streamed through, and to order them
  bool streamed = false;

  std::int64_t total(std::int64_t batch_size) const {
    return parameters + fixed + data + batch_size * per_row;
  }
  /// 0 when not even one row fits.
  std::int64_t largest_batch(std::int64_t available) const {
    const std::int64_t left = available - total(0);
    return left < 0 || per_row == 0 ? 0 : left / per_row;
  }
};

/// Measured, not calculated: makes a machine of these sizes and what two small batches of the settings'
/// algorithm need, and gives everything back but working memory that the backend keeps; the memory's peak is
/// then that of the trials (Ops::reset_peak). Working memory that the backend has already, because it has
/// worked before, is left out. Trials have 64 to 256 rows, fewer where each has many samples. The batch size
/// of the settings enters the ring of streamed rows and Woodbury's form of Fisher blocks, which grow with its
/// square and count as fixed.
/// `placement` decides whether rows are streamed, of binary rows (grey ones for Gaussian visible units), by
/// what is left beside a batch. Throws DeviceError when not even that fits, UsageError when the settings
/// cannot be used.
MemoryPlan plan_memory(Ops& ops, const std::vector<std::int64_t>& sizes, const TrainingSettings& settings,
                       std::int64_t data_rows, const PlacementSettings& placement = {});

}  // namespace wakesleep
