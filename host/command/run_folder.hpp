// The folder of a run: its lock, checkpoints, metrics and where everything in it lies. docs/command-line.md
// lists the files.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "wakesleep/evaluate.hpp"
#include "wakesleep/model_file.hpp"

namespace wakesleep::command {

/// One line of metrics.jsonl: the state of a run after an epoch.
struct EpochRecord {
  std::int64_t epoch = 0;
  std::int64_t step = 0;
  double seconds = 0;  ///< of training since the run began, evaluation not counted
  double images_per_second = 0;
  double generative_learning_rate =
      0;  ///< of the epoch's last step; multiplies the mean gradient over the batch
  double recognition_learning_rate = 0;
  std::string evaluated_on;  ///< "validation" or "training"
  Evaluation evaluation;
  std::map<std::string, double>
      diagnostics;  ///< of the algorithm (Trainer::diagnostics), such as acceptance_rate
};

std::string to_json_line(const EpochRecord& record);
/// Throws DataError when the line is no such record of a machine with so many hidden layers.
EpochRecord record_from_json(const std::string& line, int hidden_layers);

struct CheckpointFile {
  std::int64_t step = 0;
  std::string path;
};

/// What is created here goes again with this object unless a checkpoint was saved: a run that fails before
/// its first one leaves nothing behind.
class RunFolder {
 public:
  /// Takes the lock if the folder exists and has one; creates nothing. Throws CannotCreateError when another
  /// run holds the folder, or when it could not be created.
  explicit RunFolder(std::string path);
  /// Takes back what was created and is not to be kept, and gives up the lock.
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string config() const { return path_ + "/config.toml"; }
  std::string metrics() const { return path_ + "/metrics.jsonl"; }
  std::string model() const { return path_ + "/model.safetensors"; }
  std::string report() const { return path_ + "/report.html"; }
  std::string sample(std::int64_t epoch) const;
  std::string checkpoint(std::int64_t step) const;

  /// True when it holds no file besides the lock and what killed writers left behind.
  bool empty() const;
  bool has_config() const;
  bool has_model() const;

  /// Creates the folder and its subfolders, takes the lock and removes what killed writers left behind.
  void create();
  /// Nothing that was or will be created is taken back any more.
  void keep() { kept_ = true; }

  void save_config(const std::string& text);
  /// Newest first.
  std::vector<CheckpointFile> checkpoints() const;
  /// Saves, and only then removes all but the two newest checkpoints up to this step and the one of
  /// `best_step`, if that is given.
  void save_checkpoint(const Model& model, std::optional<std::int64_t> best_step = std::nullopt);
  /// Saves the first checkpoint of a new run, and only then removes the files of the run that was here
  /// before, and only those. Its config.toml stays until save_config() replaces it.
  void replace_run(const Model& first);

  /// Appends one line, whole and synced or not at all.
  void append_metrics(const EpochRecord& record);
  /// The records up to `step` of a machine with so many hidden layers. Later ones, a torn end, and what
  /// follows an unreadable line are cut off the file; `dropped` counts those lines.
  std::vector<EpochRecord> cut_metrics(std::int64_t step, int hidden_layers, std::int64_t& dropped);

 private:
  bool take_lock(int flags);
  void create_folder(const std::string& path);
  void note_if_new(const std::string& path);
  void take_back() const;

  std::string path_;
  int lock_ = -1;
  bool kept_ = false;
  std::vector<std::string> created_;  ///< files and folders that were not here before, outermost first
};

}  // namespace wakesleep::command
