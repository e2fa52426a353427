// Progress for people: a bar with the time left on a terminal, plain lines elsewhere, nothing when quiet.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace wakesleep::command {

enum class Verbosity { quiet, lines, bar };
/// bar on a terminal, lines elsewhere, quiet when asked.
Verbosity verbosity_for(std::FILE* stream, bool quiet);

class Progress {
 public:
  /// `unit` is what is counted ("images"); `total` of them make the whole. Writes to `stream`.
  Progress(std::FILE* stream, Verbosity verbosity, std::string label, std::string unit, std::int64_t total);
  /// Clears the bar, so that what follows starts on a clean line.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Redraws the bar at most ten times a second; does nothing unless the verbosity is `bar`.
  void update(std::int64_t done);
  void clear();
  /// Counted per second since the construction.
  double rate(std::int64_t done) const;
  double seconds() const;

 private:
  std::FILE* stream_;
  Verbosity verbosity_;
  std::string label_;
  std::string unit_;
  std::int64_t total_;
  std::chrono::steady_clock::time_point begin_;
  std::chrono::steady_clock::time_point drawn_;
  bool visible_ = false;
};

/// "12 s", "3 min 20 s", "2 h 05 min".
std::string duration_text(double seconds);
/// "12,345", "103 k", "1.2 M" (count), and "345 KB", "1.9 MB" (bytes).
std::string grouped(std::int64_t number);
/// Every digit, in threes: "1,234,567".
std::string with_commas(std::int64_t number);
/// "1 row", "1,234 rows".
std::string counted(std::int64_t number, const std::string& noun);
std::string byte_text(double bytes);
/// Fixed number of decimals, independent of the locale; "nan", "inf".
std::string decimals(double value, int digits);

}  // namespace wakesleep::command
