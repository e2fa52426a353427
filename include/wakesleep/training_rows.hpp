// Where the training rows are, and how the steps of a run find theirs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "wakesleep/data.hpp"
#include "wakesleep/ops.hpp"
#include "wakesleep/settings.hpp"

namespace wakesleep {

/// Where training rows are kept. The result is the same, to the last bit.
enum class DataPlacement {
  automatic,  ///< resident where the backend has the memory, else streamed
  resident,   ///< all of them in the backend's memory
  streamed,   ///< in host memory; those of the next steps go through a ring in the backend's
};

struct PlacementSettings {
  DataPlacement placement = DataPlacement::automatic;
  std::int64_t ring_bytes = std::int64_t{64} << 20;  ///< the most that the ring takes, unless that is less
                                                     ///< than two batches
};

/// A ring of batches: step s finds its rows at place s mod batches(), of batch_size rows. Pieces of it are
/// filled in turn while steps run on the others.
struct RowRing {
  std::int64_t batch_size = 0;
  std::int64_t row_bytes = 0;  ///< without the row's number, which goes with it
  std::int64_t pieces = 0;     ///< 2 or more
  std::int64_t batches_a_piece = 0;

  std::int64_t batches() const { return pieces * batches_a_piece; }
  std::int64_t rows_a_piece() const { return batches_a_piece * batch_size; }
  std::int64_t rows() const { return batches() * batch_size; }
  std::int64_t bytes() const {
    return rows() * (row_bytes + static_cast<std::int64_t>(sizeof(std::uint32_t)));
  }
};
/// Of at most 64 batches, at most half an epoch and at most `ring_bytes`, but of two batches where that is
/// more.
RowRing plan_ring(const PlacementSettings& settings, std::int64_t batch_size, std::int64_t data_rows,
                  std::int64_t row_bytes);

/// What ordering an epoch takes, whichever backend does it: the order (4), and what it is sorted in, keys and
/// numbers, before and after, and once more.
inline constexpr std::int64_t order_bytes_per_row = 40;

/// What was decided, and by what.
struct PlacementDecision {
  bool streamed = false;
  std::int64_t data_bytes = 0;  ///< of the rows
  std::int64_t ring_bytes = 0;  ///< of the ring that they are or would be streamed through
  std::int64_t kept_free = 0;   ///< what else a run will need: the order of the rows, evaluations
  std::size_t available = 0;    ///< what the backend could still hand out

  /// Bytes that the rows take in the backend's memory.
  std::int64_t held() const { return streamed ? ring_bytes : data_bytes; }
};
/// `automatic` streams where data_bytes + kept_free > available and the ring is smaller than the data.
PlacementDecision decide_placement(const PlacementSettings& settings, std::int64_t batch_size,
                                   std::int64_t data_rows, std::int64_t row_bytes, std::size_t available);

/// The rows of one run's steps, in the order that each epoch has by addressed draws.
class TrainingRows {
 public:
  virtual ~TrainingRows() = default;

  /// Steps step .. step + count - 1, called next, will find their rows. Steps come in their order; the first
  /// call may be for any. At most most_steps() at a time, and all of an epoch. Blocks only where the host is
  /// far ahead of the backend. Not while operations are recorded: those that were find their rows again.
  virtual void prepare(std::int64_t step, std::int64_t count) = 0;
  virtual std::int64_t most_steps() const = 0;

  const DataRows& data() const { return data_; }
  const std::uint32_t* order() const { return order_.data(); }
  /// StepScalars::first is 0 again after so many steps.
  std::int64_t steps_a_round() const { return steps_a_round_; }

 protected:
  DataRows data_;
  Buffer<std::uint32_t> order_;  ///< row numbers, where the steps read them
  std::int64_t steps_a_round_ = 0;
};

/// As was decided. Resident rows are copied; streamed ones are kept.
std::unique_ptr<TrainingRows> make_training_rows(Ops& ops, DataSet data, const TrainingSettings& settings,
                                                 const PlacementSettings& placement, bool streamed);

}  // namespace wakesleep
