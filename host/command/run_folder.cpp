#include "command/run_folder.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include <nlohmann/json.hpp>

#include "command/values.hpp"
#include "file.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep::command {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t checkpoints_kept = 2;
const std::string lock_name = ".lock";

std::string cause_of(int error) { return std::generic_category().message(error); }

/// What write_file_atomically leaves in a folder when the process is killed.
bool is_temporary(const std::string& name) {
  return name.starts_with(".wakesleep-") && name.ends_with(".tmp");
}

/// Names in a folder, sorted; none when it does not exist.
std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    throw CannotCreateError("cannot list the run folder " + folder + ": " + error.message() +
                            "; give another --out");
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool is_leftover(const std::string& name) { return name == lock_name || is_temporary(name); }

bool holds_leftovers_only(const std::string& folder) {
  const std::vector<std::string> names = names_in(folder);
  return std::all_of(names.begin(), names.end(), is_leftover);
}

bool exists(const std::string& path) {
  struct stat status;
  return ::lstat(path.c_str(), &status) == 0;
}

bool is_folder(const std::string& path) {
  struct stat status;
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

/// False, too, where nothing is: a folder may be taken back by another run at any moment.
bool is_file(const std::string& path) {
  struct stat status;
  return ::stat(path.c_str(), &status) == 0 && !S_ISDIR(status.st_mode);
}

/// Whether somebody has removed the file since it was opened.
bool is_removed(int file) {
  struct stat status;
  return ::fstat(file, &status) == 0 && status.st_nlink == 0;
}

void remove_file(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    throw CannotCreateError("cannot remove " + path + ": " + cause_of(errno) + "; give another --out");
  }
}

/// The longest part of `path` that exists.
std::string existing_part(const std::string& path) {
  fs::path folder = fs::path(path);
  while (!folder.empty() && !exists(folder.string())) folder = folder.parent_path();
  return folder.empty() ? "." : folder.string();
}

std::string padded(std::int64_t number, std::size_t digits) {
  std::string text = std::to_string(number);
  if (text.size() < digits) text.insert(0, digits - text.size(), '0');
  return text;
}

bool parse_checkpoint_name(const std::string& name, std::int64_t& step) {
  const std::string start = "step-";
  const std::string end = ".safetensors";
  return name.starts_with(start) && name.ends_with(end) && name.size() > start.size() + end.size() &&
         parse_whole(name.substr(start.size(), name.size() - start.size() - end.size()), step) && step >= 0;
}

/// The complete lines of a text; what follows the last line break is not one.
std::vector<std::string> complete_lines(const std::vector<std::uint8_t>& bytes) {
  std::vector<std::string> lines;
  auto begin = bytes.begin();
  for (auto end = std::find(begin, bytes.end(), '\n'); end != bytes.end();
       end = std::find(begin, bytes.end(), '\n')) {
    lines.emplace_back(begin, end);
    begin = end + 1;
  }
  return lines;
}

/// One write, so that no reader ever sees half a line, and on to the disk before a checkpoint relies on it.
bool append_synced(int file, const std::string& text) {
  errno = ENOSPC;  // what a short write means
  return ::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
         ::fdatasync(file) == 0;
}

}  // namespace

// -------------------------------------------------------------------------------- one line of metrics

std::string to_json_line(const EpochRecord& record) {
  const Evaluation& e = record.evaluation;
  nlohmann::ordered_json json = {
      {"epoch", record.epoch},
      {"step", record.step},
      {"seconds", record.seconds},
      {"images_per_second", record.images_per_second},
      {"generative_learning_rate", record.generative_learning_rate},
      {"recognition_learning_rate", record.recognition_learning_rate},
      {"evaluated_on", record.evaluated_on},
      {"rows", e.rows},
      {"samples", e.samples},
      {"log_likelihood", e.log_likelihood},
      {"standard_error", e.standard_error},
      {"bound", e.bound},
      {"bound_standard_error", e.bound_standard_error},
      {"effective_sample_size", e.effective_sample_size},
      {"layer_kl", e.layer_kl},
      {"active_units", e.active_units},
      {"layer_mismatch", e.layer_mismatch},
  };
  if (!record.diagnostics.empty()) json["diagnostics"] = record.diagnostics;
  return json.dump() + "\n";
}

EpochRecord record_from_json(const std::string& line, int hidden_layers) {
  try {
    const nlohmann::json json = nlohmann::json::parse(line);
    EpochRecord record;
    Evaluation& e = record.evaluation;
    json.at("epoch").get_to(record.epoch);
    json.at("step").get_to(record.step);
    json.at("seconds").get_to(record.seconds);
    json.at("images_per_second").get_to(record.images_per_second);
    json.at("generative_learning_rate").get_to(record.generative_learning_rate);
    json.at("recognition_learning_rate").get_to(record.recognition_learning_rate);
    json.at("evaluated_on").get_to(record.evaluated_on);
    json.at("rows").get_to(e.rows);
    json.at("samples").get_to(e.samples);
    json.at("log_likelihood").get_to(e.log_likelihood);
    json.at("standard_error").get_to(e.standard_error);
    json.at("bound").get_to(e.bound);
    json.at("bound_standard_error").get_to(e.bound_standard_error);
    json.at("effective_sample_size").get_to(e.effective_sample_size);
    json.at("layer_kl").get_to(e.layer_kl);
    json.at("active_units").get_to(e.active_units);
    if (json.contains("layer_mismatch")) json.at("layer_mismatch").get_to(e.layer_mismatch);
    if (json.contains("diagnostics")) json.at("diagnostics").get_to(record.diagnostics);
    const auto layers = static_cast<std::size_t>(hidden_layers);
    // A line that an older version wrote has no layer_mismatch.
    const bool fits = e.layer_kl.size() == layers && e.active_units.size() == layers &&
                      (e.layer_mismatch.empty() || e.layer_mismatch.size() == layers);
    if (!fits) {
      throw DataError("not a line of metrics: its values per hidden layer are not " +
                      std::to_string(hidden_layers));
    }
    return record;
  } catch (const nlohmann::json::exception& error) {
    throw DataError(std::string("not a line of metrics: ") + error.what());
  }
}

// -------------------------------------------------------------------------------- the folder

RunFolder::RunFolder(std::string path) : path_(std::move(path)) {
  while (path_.size() > 1 && path_.back() == '/') path_.pop_back();
  if (exists(path_ + "/" + lock_name)) take_lock(O_RDWR);
  const std::string existing = existing_part(path_);
  if (is_file(existing)) {
    throw CannotCreateError("the run folder " + path_ + " cannot be created: " + existing +
                            " is no folder; give another --out");
  }
  // The temporary of check_writable is made and removed at once, so this shows early what would fail late.
  check_writable(existing + "/config.toml");
}

RunFolder::~RunFolder() {
  if (!kept_) take_back();  // while the lock is held
  if (lock_ >= 0) ::close(lock_);
}

/// False when the lock, or the folder around it, is no longer there: the run that held it has taken it back.
bool RunFolder::take_lock(int flags) {
  const std::string file = path_ + "/" + lock_name;
  const bool was_there = exists(file);
  const int lock = ::open(file.c_str(), flags | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (lock < 0) {
    if (errno == ENOENT) return false;
    const std::string cause = errno == ELOOP ? "it is a symbolic link" : cause_of(errno);
    throw CannotCreateError("cannot open the lock " + file + ": " + cause + "; give another --out");
  }
  if (::flock(lock, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    ::close(lock);
    if (error == EWOULDBLOCK) {
      throw CannotCreateError("the run folder " + path_ +
                              " is held by another run; wait for its end or give another --out");
    }
    throw CannotCreateError("cannot lock " + file + ": " + cause_of(error) + "; give another --out");
  }
  // A lock that was removed between open() and flock() keeps nobody out: the next run makes a file of its
  // own.
  if (is_removed(lock)) {
    ::close(lock);
    return false;
  }
  lock_ = lock;
  if (!was_there) created_.push_back(file);
  return true;
}

std::string RunFolder::sample(std::int64_t epoch) const {
  return path_ + "/samples/epoch-" + padded(epoch, 4) + ".png";
}

std::string RunFolder::checkpoint(std::int64_t step) const {
  return path_ + "/checkpoints/step-" + padded(step, 9) + ".safetensors";
}

bool RunFolder::empty() const {
  for (const std::string& name : names_in(path_)) {
    // A run that was killed while it began leaves its subfolders without a file of their own.
    const bool subfolder = name == "checkpoints" || name == "samples";
    if (subfolder ? !holds_leftovers_only(path_ + "/" + name) : !is_leftover(name)) return false;
  }
  return true;
}

bool RunFolder::has_config() const { return exists(config()); }
bool RunFolder::has_model() const { return exists(model()); }

void RunFolder::create() {
  // Where the run that created the folder takes it back at this moment, it is created anew.
  do {
    create_folder(path_);
  } while (lock_ < 0 && !take_lock(O_RDWR | O_CREAT));
  for (const std::string& folder : {path_, path_ + "/checkpoints", path_ + "/samples"}) {
    create_folder(folder);
    for (const std::string& name : names_in(folder)) {
      if (is_temporary(name)) remove_file(folder + "/" + name);
    }
  }
}

/// Creates what is missing of the path, folder by folder.
void RunFolder::create_folder(const std::string& path) {
  for (std::size_t end = 0; end != std::string::npos;) {
    end = path.find('/', end + 1);
    const std::string part = path.substr(0, end);
    if (is_folder(part)) continue;
    if (::mkdir(part.c_str(), 0777) == 0) {
      created_.push_back(part);
    } else if (const int error = errno; !is_folder(part)) {  // or else another process was faster
      throw CannotCreateError("cannot create the folder " + part + ": " +
                              (error == EEXIST ? "a file is in its place" : cause_of(error)) +
                              "; give another --out");
    }
  }
}

/// To be called before a file of the run is written.
void RunFolder::note_if_new(const std::string& path) {
  if (!kept_ && !exists(path)) created_.push_back(path);
}

/// What cannot be removed stays, such as a folder into which somebody else has put a file.
void RunFolder::take_back() const {
  for (auto path = created_.rbegin(); path != created_.rend(); ++path) std::remove(path->c_str());
}

void RunFolder::save_config(const std::string& text) {
  note_if_new(config());
  write_file_atomically(config(), text.data(), text.size());
}

std::vector<CheckpointFile> RunFolder::checkpoints() const {
  std::vector<CheckpointFile> files;
  const std::string folder = path_ + "/checkpoints";
  for (const std::string& name : names_in(folder)) {
    std::int64_t step = 0;
    if (parse_checkpoint_name(name, step)) files.push_back({step, folder + "/" + name});
  }
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.step > b.step; });
  return files;
}

void RunFolder::save_checkpoint(const Model& model, std::optional<std::int64_t> best_step) {
  note_if_new(checkpoint(model.step));
  save_model(checkpoint(model.step), model);
  keep();
  std::size_t kept = 0;
  for (const CheckpointFile& file : checkpoints()) {
    if (file.step > model.step) continue;  // a damaged one that this run fell back from: left to be looked at
    if (++kept > checkpoints_kept && file.step != best_step) remove_file(file.path);
  }
}

void RunFolder::replace_run(const Model& first) {
  save_checkpoint(first);
  // The model goes first: without it no half-removed run counts as finished.
  for (const std::string& file : {model(), report(), metrics()}) remove_file(file);
  for (const CheckpointFile& old : checkpoints()) {
    if (old.path != checkpoint(first.step)) remove_file(old.path);
  }
  for (const std::string& name : names_in(path_ + "/samples")) {
    if (name.starts_with("epoch-") && name.ends_with(".png")) remove_file(path_ + "/samples/" + name);
  }
}

void RunFolder::append_metrics(const EpochRecord& record) {
  const int file = ::open(metrics().c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (file < 0)
    throw CannotCreateError("cannot open " + metrics() + ": " + cause_of(errno) + "; check the run folder");
  const off_t size = ::lseek(file, 0, SEEK_END);
  const bool written = append_synced(file, to_json_line(record));
  const int error = errno;
  const bool clean = written || ::ftruncate(file, size) == 0;
  ::close(file);
  if (written) return;
  throw OutputError("cannot append to " + metrics() + ": " + cause_of(error) +
                    (clean ? "" : " (a torn line stays there, which --resume cuts off)") +
                    "; free some space and go on with --resume");
}

std::vector<EpochRecord> RunFolder::cut_metrics(std::int64_t step, int hidden_layers, std::int64_t& dropped) {
  dropped = 0;
  if (!exists(metrics())) return {};
  const std::vector<std::uint8_t> bytes = read_file(metrics());
  const std::vector<std::string> lines = complete_lines(bytes);
  std::vector<EpochRecord> records;
  std::string kept;
  for (const std::string& line : lines) {
    try {
      const EpochRecord record = record_from_json(line, hidden_layers);
      if (record.step > step || (!records.empty() && record.step <= records.back().step)) break;
      records.push_back(record);
    } catch (const DataError&) {
      break;  // what stands behind an unreadable line cannot be trusted; the caller reports what was dropped
    }
    kept += line + "\n";
  }
  dropped = static_cast<std::int64_t>(lines.size() - records.size());
  if (kept.size() != bytes.size()) write_file_atomically(metrics(), kept.data(), kept.size());
  return records;
}

}  // namespace wakesleep::command
