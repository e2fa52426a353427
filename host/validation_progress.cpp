#include "wakesleep/validation_progress.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <string>

#include "floating_point.hpp"
#include "wakesleep/error.hpp"

namespace wakesleep {

void ValidationProgress::observe(std::int64_t epoch, double estimate) {
  const FloatingPointScope scope;
  if (epoch <= epoch_) return;
  epoch_ = epoch;
  // An estimate that is no number is exceeded by every one that is.
  const bool first_number = std::isnan(best_) && !std::isnan(estimate);
  if (best_epoch_ == 0 || first_number || estimate > best_ + settings_.min_improvement) {
    best_epoch_ = epoch;
    best_ = estimate;
    return;
  }
  const bool has_plateaus = settings_.schedule == Schedule::plateau;
  if (has_plateaus && epoch - std::max(best_epoch_, reduced_after_) >= settings_.patience) {
    ++reductions_;
    reduced_after_ = epoch;
  }
}

namespace {

template <class Number>
std::string text_of(Number number) {
  std::array<char, 32> buffer;
  return {buffer.data(), std::to_chars(buffer.data(), buffer.data() + buffer.size(), number).ptr};
}

template <class Number>
void read(const Metadata& run, const std::string& name, Number& number) {
  const auto entry = run.find(name);
  const std::string text = entry != run.end() ? entry->second : "";
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (text.empty() || error != std::errc() || stop != end) {
    throw DataError("the checkpoint does not say how the estimates went (its run." + name + " is \"" + text +
                    "\" where a number is expected): this checkpoint does not continue this run");
  }
}

}  // namespace

Metadata ValidationProgress::save() const {
  return {{"progress-epoch", text_of(epoch_)},
          {"progress-best-epoch", text_of(best_epoch_)},
          {"progress-best", text_of(best_)},
          {"progress-reductions", text_of(reductions_)},
          {"progress-reduced-after", text_of(reduced_after_)}};
}

void ValidationProgress::restore(const Metadata& run) {
  read(run, "progress-epoch", epoch_);
  read(run, "progress-best-epoch", best_epoch_);
  read(run, "progress-best", best_);
  read(run, "progress-reductions", reductions_);
  read(run, "progress-reduced-after", reduced_after_);
  const bool counts = epoch_ >= 0 && best_epoch_ >= 0 && best_epoch_ <= epoch_ && reductions_ >= 0 &&
                      reduced_after_ >= 0 && reduced_after_ <= epoch_;
  const bool agree = (best_epoch_ == 0) == (epoch_ == 0) && (reductions_ == 0) == (reduced_after_ == 0);
  if (!counts || !agree) {
    throw DataError(
        "the checkpoint's entries run.progress-... contradict each other: the checkpoint is damaged, use the "
        "one "
        "before it");
  }
}

}  // namespace wakesleep
