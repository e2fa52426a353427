#include "command/progress.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <string_view>
#include <utility>

namespace wakesleep::command {
namespace {

constexpr std::chrono::milliseconds redraw_interval{100};
constexpr int bar_cells = 24;
constexpr int default_columns = 80;

int terminal_columns(std::FILE* stream) {
  winsize size{};
  return ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : default_columns;
}

std::string two_digits(std::int64_t number) { return (number < 10 ? "0" : "") + std::to_string(number); }

/// Three significant digits or so, with the largest of `units` (each 1000 times the one before) that fits.
std::string scaled(double number, const std::array<const char*, 5>& units) {
  std::size_t unit = 0;
  // 999.5 would print as 1000, so it already belongs to the next unit.
  while (std::abs(number) >= 999.5 && unit + 1 < units.size()) {
    number /= 1000.0;
    ++unit;
  }
  const int digits = unit > 0 && std::abs(number) < 99.95 ? 1 : 0;
  return decimals(number, digits) + units[unit];
}

}  // namespace

Verbosity verbosity_for(std::FILE* stream, bool quiet) {
  if (quiet) return Verbosity::quiet;
  const char* terminal = std::getenv("TERM");
  const bool can_redraw = terminal != nullptr && std::string_view(terminal) != "dumb";
  return can_redraw && isatty(fileno(stream)) == 1 ? Verbosity::bar : Verbosity::lines;
}

Progress::Progress(std::FILE* stream, Verbosity verbosity, std::string label, std::string unit,
                   std::int64_t total)
    : stream_(stream),
      verbosity_(verbosity),
      label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      begin_(std::chrono::steady_clock::now()),
      drawn_(begin_) {}

Progress::~Progress() { clear(); }

void Progress::update(std::int64_t done) {
  if (verbosity_ != Verbosity::bar) return;
  const auto now = std::chrono::steady_clock::now();
  if (visible_ && now - drawn_ < redraw_interval) return;
  drawn_ = now;
  visible_ = true;

  const double share =
      total_ > 0 ? std::clamp(static_cast<double>(done) / static_cast<double>(total_), 0.0, 1.0) : 0.0;
  const int filled = static_cast<int>(share * bar_cells);
  const double per_second = rate(done);
  std::string line = label_ + " [" + std::string(static_cast<std::size_t>(filled), '=') +
                     std::string(static_cast<std::size_t>(bar_cells - filled), ' ') + "] " +
                     decimals(100.0 * share, 0) + " %";
  if (per_second > 0.0) {
    line += "  " + grouped(std::llround(per_second)) + " " + unit_ + "/s  " +
            duration_text(static_cast<double>(std::max<std::int64_t>(total_ - done, 0)) / per_second) +
            " left";
  }
  // A line that wraps could not be cleared again.
  line.resize(std::min(line.size(), static_cast<std::size_t>(terminal_columns(stream_) - 1)));
  std::fprintf(stream_, "\r%s\033[K", line.c_str());
  std::fflush(stream_);
}

void Progress::clear() {
  if (!visible_) return;
  visible_ = false;
  std::fputs("\r\033[K", stream_);
  std::fflush(stream_);
}

double Progress::rate(std::int64_t done) const {
  const double elapsed = seconds();
  return elapsed > 0.0 ? static_cast<double>(done) / elapsed : 0.0;
}

double Progress::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
}

std::string duration_text(double seconds) {
  constexpr double longest = 1e15;  // keeps the conversion below defined
  if (!(seconds <= longest)) return "unknown";
  if (seconds > 0.0 && seconds < 0.5) return "< 1 s";
  const std::int64_t whole = std::llround(std::max(seconds, 0.0));
  if (whole < 60) return std::to_string(whole) + " s";
  if (whole < 3600) return std::to_string(whole / 60) + " min " + two_digits(whole % 60) + " s";
  constexpr std::int64_t two_days = 2880;
  const std::int64_t minutes = (whole + 30) / 60;
  if (minutes < two_days) return std::to_string(minutes / 60) + " h " + two_digits(minutes % 60) + " min";
  const std::int64_t hours = (minutes + 30) / 60;
  return std::to_string(hours / 24) + " d " + two_digits(hours % 24) + " h";
}

std::string with_commas(std::int64_t number) {
  std::string text = std::to_string(number);
  const std::size_t first_digit = number < 0 ? 1 : 0;
  for (std::size_t place = text.size(); place > first_digit + 3;) {
    place -= 3;
    text.insert(place, ",");
  }
  return text;
}

std::string grouped(std::int64_t number) {
  if (number > -100000 && number < 100000) return with_commas(number);
  return scaled(static_cast<double>(number), {"", " k", " M", " G", " T"});
}

std::string counted(std::int64_t number, const std::string& noun) {
  return with_commas(number) + " " + noun + (number == 1 ? "" : "s");
}

std::string byte_text(double bytes) { return scaled(bytes, {" B", " KB", " MB", " GB", " TB"}); }

std::string decimals(double value, int digits) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0.0 ? "-inf" : "inf";
  std::array<char, 512> text;  // the largest double has 309 digits before the point
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed,
                                 std::clamp(digits, 0, 100))
                       .ptr;
  std::string result(text.data(), end);
  const bool negative_zero = result.front() == '-' && result.find_first_not_of("-0.") == std::string::npos;
  return negative_zero ? result.substr(1) : result;
}

}  // namespace wakesleep::command
