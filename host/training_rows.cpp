// Resident rows, streamed rows, and which of them a run has.
#include "wakesleep/training_rows.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "wakesleep/error.hpp"

namespace wakesleep {

namespace {

/// With four pieces, steps run on one or two while the others are filled.
constexpr std::int64_t most_pieces = 4;

/// A piece is gathered while the steps run that the host has queued before, 25 or more (trainer.cpp), so it
/// is to take the host less time than those take the backend.
constexpr std::int64_t most_batches_a_piece = 16;

/// What a run needs between epochs, or when the rows have been placed: chunks of evaluations (256 MiB unless
/// told otherwise) and the working memory of their products, recordings, the device's own.
constexpr std::int64_t bytes_of_a_run = std::int64_t{512} << 20;

void shuffle_for(Ops& ops, std::int64_t epoch, std::uint64_t seed, std::int64_t rows, std::uint32_t* order) {
  ops.shuffle({.seed = seed, .domain = Domain::shuffle, .first_step = static_cast<std::uint32_t>(epoch)},
              rows, order);
}

class ResidentRows final : public TrainingRows {
 public:
  ResidentRows(Ops& ops, const DataSet& data, const TrainingSettings& settings)
      : ops_(ops), seed_(settings.seed), device_data_(ops, data) {
    data_ = device_data_.rows();
    order_ = Buffer<std::uint32_t>(ops, data.rows);
    steps_a_round_ = batches_of(data.rows, settings.batch_size);
  }

  void prepare(std::int64_t step, std::int64_t) override {
    if (order_epoch_ == step / steps_a_round_) return;
    order_epoch_ = step / steps_a_round_;
    shuffle_for(ops_, order_epoch_, seed_, data_.rows, order_.data());
  }
  std::int64_t most_steps() const override { return steps_a_round_; }

 private:
  Ops& ops_;
  std::uint64_t seed_;
  DeviceData device_data_;
  std::int64_t order_epoch_ = -1;
};

/// The orders of the epoch that is gathered and of the next, for the host. The backend makes them; the next
/// is asked for when the one before it is begun, so that it is there in time.
class EpochOrders {
 public:
  EpochOrders(Ops& ops, std::uint64_t seed, std::int64_t rows)
      : ops_(ops), seed_(seed), rows_(rows), made_(ops, rows) {
    for (auto& copy : copies_) copy = ops.make_readback(made_.bytes());
  }

  /// Of one epoch after the other; valid until the next one is asked for.
  const std::uint32_t* of(std::int64_t epoch) {
    if (epoch != epoch_) {
      if (requested_ != epoch) request(epoch);
      order_ = static_cast<const std::uint32_t*>(copy_for(epoch).result());
      epoch_ = epoch;
      request(epoch + 1);
    }
    return order_;
  }

 private:
  Readback& copy_for(std::int64_t epoch) { return *copies_[static_cast<std::size_t>(epoch % 2)]; }

  void request(std::int64_t epoch) {
    shuffle_for(ops_, epoch, seed_, rows_, made_.data());
    copy_for(epoch).request(made_.data());
    requested_ = epoch;
  }

  Ops& ops_;
  std::uint64_t seed_;
  std::int64_t rows_;
  Buffer<std::uint32_t> made_;
  std::array<std::unique_ptr<Readback>, 2> copies_;
  std::int64_t requested_ = -1;
  std::int64_t epoch_ = -1;
  const std::uint32_t* order_ = nullptr;
};

/// Rows and their numbers go through the ring side by side: what the steps read as the order is the numbers
/// of the rows that the ring holds. So operations that were recorded once find every later step's rows by
/// StepScalars::first.
class StreamedRows final : public TrainingRows {
 public:
  StreamedRows(Ops& ops, DataSet data, const TrainingSettings& settings, const RowRing& ring)
      : source_(std::move(data)),
        ring_(ring),
        steps_per_epoch_(batches_of(source_.rows, ring.batch_size)),
        orders_(ops, settings.seed, source_.rows),
        bytes_(ops, ring.rows() * ring.row_bytes) {
    order_ = Buffer<std::uint32_t>(ops, ring.rows());
    data_ = {bytes_.data(), ring.rows(), source_.units, ring.row_bytes, source_.grey, true};
    steps_a_round_ = ring.batches();
    for (std::int64_t i = 0; i < ring.pieces; ++i) {
      pieces_.push_back(
          {ops.make_upload(static_cast<std::size_t>(ring.rows_a_piece() * ring.row_bytes)),
           ops.make_upload(static_cast<std::size_t>(ring.rows_a_piece()) * sizeof(std::uint32_t))});
    }
  }

  // A piece is filled for its next turn as soon as the steps that it was filled for have been called: the
  // copy waits for them and for no later ones, and steps wait for the copies of their own rows alone.
  void prepare(std::int64_t step, std::int64_t count) override {
    const std::int64_t first = step / ring_.batches_a_piece;
    const std::int64_t last = (step + count - 1) / ring_.batches_a_piece;
    if (count < 1 || count > most_steps()) {
      throw InternalError("the rows of " + std::to_string(count) +
                          " steps were asked for at once; expected 1 to " + std::to_string(most_steps()));
    }
    if (sent_ < 0) sent_ = awaited_ = first;
    for (; sent_ < first + ring_.pieces; ++sent_) send(sent_);
    for (; awaited_ <= last; ++awaited_) {
      piece(awaited_).rows->await();
      piece(awaited_).numbers->await();
    }
  }
  std::int64_t most_steps() const override { return ring_.batches_a_piece; }

 private:
  struct Piece {
    std::unique_ptr<Upload> rows;
    std::unique_ptr<Upload> numbers;
  };
  /// Pieces are numbered over the whole run, as steps are.
  Piece& piece(std::int64_t number) { return pieces_[static_cast<std::size_t>(number % ring_.pieces)]; }

  /// Fills a piece and sends it to its place.
  void send(std::int64_t number) {
    Piece& filled = piece(number);
    auto* const rows = static_cast<std::uint8_t*>(filled.rows->fill());
    auto* const numbers = static_cast<std::uint32_t*>(filled.numbers->fill());
    for (std::int64_t batch = 0; batch < ring_.batches_a_piece; ++batch) {
      const std::int64_t place = batch * ring_.batch_size;
      gather(number * ring_.batches_a_piece + batch, rows + place * ring_.row_bytes, numbers + place);
    }
    const std::int64_t first_row = number % ring_.pieces * ring_.rows_a_piece();
    filled.rows->send(bytes_.data() + first_row * ring_.row_bytes,
                      static_cast<std::size_t>(ring_.rows_a_piece() * ring_.row_bytes));
    filled.numbers->send(order_.data() + first_row,
                         static_cast<std::size_t>(ring_.rows_a_piece()) * sizeof(std::uint32_t));
  }

  void gather(std::int64_t step, std::uint8_t* rows, std::uint32_t* numbers) {
    const std::uint32_t* const order = orders_.of(step / steps_per_epoch_);
    const std::int64_t first = step % steps_per_epoch_ * ring_.batch_size;
    const std::int64_t count = std::min(ring_.batch_size, source_.rows - first);
    for (std::int64_t i = 0; i < count; ++i) {
      numbers[i] = order[first + i];
      std::memcpy(rows + i * ring_.row_bytes, source_.row(order[first + i]),
                  static_cast<std::size_t>(ring_.row_bytes));
    }
  }

  DataSet source_;
  RowRing ring_;
  std::int64_t steps_per_epoch_;
  EpochOrders orders_;
  Buffer<std::uint8_t> bytes_;
  std::int64_t sent_ = -1;     ///< pieces below this number have been sent
  std::int64_t awaited_ = -1;  ///< and below this awaited
  std::vector<Piece> pieces_;
};

}  // namespace

RowRing plan_ring(const PlacementSettings& settings, std::int64_t batch_size, std::int64_t data_rows,
                  std::int64_t row_bytes) {
  RowRing ring;
  ring.batch_size = batch_size;
  ring.row_bytes = row_bytes;
  ring.pieces = ring.batches_a_piece = 1;
  const std::int64_t batches = std::clamp<std::int64_t>(
      std::min(settings.ring_bytes / ring.bytes(), batches_of(data_rows, batch_size) / 2), 2,
      most_pieces * most_batches_a_piece);
  ring.pieces = std::min(most_pieces, batches);
  ring.batches_a_piece = batches / ring.pieces;
  return ring;
}

PlacementDecision decide_placement(const PlacementSettings& settings, std::int64_t batch_size,
                                   std::int64_t data_rows, std::int64_t row_bytes, std::size_t available) {
  PlacementDecision decision;
  decision.data_bytes = data_rows * row_bytes;
  decision.ring_bytes = plan_ring(settings, batch_size, data_rows, row_bytes).bytes();
  decision.kept_free = bytes_of_a_run + data_rows * order_bytes_per_row;
  decision.available = available;
  const bool fits = available >= static_cast<std::size_t>(decision.data_bytes + decision.kept_free);
  const bool ring_is_smaller = decision.ring_bytes < decision.data_bytes;
  decision.streamed = settings.placement == DataPlacement::streamed ||
                      (settings.placement == DataPlacement::automatic && !fits && ring_is_smaller);
  return decision;
}

std::unique_ptr<TrainingRows> make_training_rows(Ops& ops, DataSet data, const TrainingSettings& settings,
                                                 const PlacementSettings& placement, bool streamed) {
  if (!streamed) return std::make_unique<ResidentRows>(ops, data, settings);
  const RowRing ring = plan_ring(placement, settings.batch_size, data.rows, data.row_bytes);
  return std::make_unique<StreamedRows>(ops, std::move(data), settings, ring);
}

}  // namespace wakesleep
