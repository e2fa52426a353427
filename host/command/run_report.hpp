// What a run shows of its model: a picture of samples, and the report.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "command/arguments.hpp"
#include "command/run_folder.hpp"
#include "wakesleep/data.hpp"
#include "wakesleep/trainer.hpp"

namespace wakesleep::command {

/// A run as it is shown.
struct ShownRun {
  const RunFolder& folder;
  const Trainer& trainer;
  const std::vector<EpochRecord>& records;  ///< of all epochs that were trained, one at least
  const DataSet& evaluated;
  const std::string& evaluated_on;  ///< "validation" or "training"
  const std::string& data_summary;
  const Device& device;
};

/// Whether it is shown after this epoch, which need not be the last: after epochs 1, 2, 5, 10, 20, 50, ...
bool is_pictured(std::int64_t epoch);

/// Writes the samples of the trainer's machine and the report. `shown` is the epoch that its parameters are
/// of.
void write_samples_and_report(const ShownRun& run, const EpochRecord& shown);

}  // namespace wakesleep::command
