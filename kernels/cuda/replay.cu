#include "kernels/cuda/replay.hpp"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <utility>
#include <vector>

namespace wakesleep::cuda {
namespace {

constexpr int warming_runs = 2;  ///< of each form
constexpr int timed_runs = 5;    ///< of each form

std::string milliseconds_text(float milliseconds) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.3f ms", static_cast<double>(milliseconds));
  return text;
}

}  // namespace

PersistentKernel::PersistentKernel(Ops& ops, const Draft& draft, int blocks)
    : program_(draft.program()), blocks_(blocks) {
  const std::vector<Level> levels = draft.levels();
  levels_ = Buffer<Level>(ops, static_cast<std::int64_t>(levels.size()));
  levels_.copy_in(levels.data());
  arrivals_ = Buffer<std::uint32_t>(ops, 1);
  arrivals_.fill_zero();
  program_.barrier.arrivals = arrivals_.data();
  program_.levels = levels_.data();
  program_.level_count = static_cast<std::int32_t>(levels.size());
}

void PersistentKernel::launch(cudaStream_t stream) {
  run_persistent(stream, program_, blocks_);
  program_.barrier.before +=
      static_cast<std::uint32_t>(program_.level_count) * static_cast<std::uint32_t>(blocks_);
}

Replay::Replay(Ops& ops, cudaGraph_t graph, const Draft& draft, int blocks, CudaReplay wish,
               std::string why_not_persistent)
    : graph_(graph),
      persistent_(wish != CudaReplay::graph && why_not_persistent.empty()
                      ? std::make_unique<PersistentKernel>(ops, draft, blocks)
                      : nullptr),
      why_not_persistent_(std::move(why_not_persistent)),
      least_{std::numeric_limits<float>::infinity(), std::numeric_limits<float>::infinity()} {
  if (persistent_ == nullptr) {
    chosen_ = Form::graph;
  } else if (wish == CudaReplay::persistent) {
    chosen_ = Form::persistent;
  } else {
    stopwatch_ = std::make_unique<Stopwatch>();
  }
}

void Replay::launch(Form form, cudaStream_t stream) {
  if (form == Form::graph) {
    graph_.launch(stream);
  } else {
    persistent_->launch(stream);
  }
}

void Replay::time(Form form, cudaStream_t stream) {
  stopwatch_->start(stream);
  launch(form, stream);
  float& least = least_[static_cast<int>(form)];
  const float time = stopwatch_->stop(stream);
  if (runs_ >= 2 * warming_runs) least = std::min(least, time);
  if (++runs_ < 2 * (warming_runs + timed_runs)) return;
  chosen_ = least_[static_cast<int>(Form::persistent)] < least_[static_cast<int>(Form::graph)]
                ? Form::persistent
                : Form::graph;
  stopwatch_.reset();
}

bool Replay::run(cudaStream_t stream) {
  if (chosen_.has_value()) {
    launch(*chosen_, stream);
    return false;
  }
  time(runs_ % 2 == 0 ? Form::graph : Form::persistent, stream);
  return chosen_.has_value();
}

void Replay::prepare(cudaStream_t stream) const {
  if (chosen_ != Form::persistent) graph_.upload(stream);
}

std::string Replay::description() const {
  const std::string names[] = {"a CUDA graph", "one persistent kernel"};
  if (!chosen_.has_value()) return "recordings as " + names[0] + " and as " + names[1] + " in turn, timed";
  const int chosen = static_cast<int>(*chosen_);
  std::string text = "recordings as " + names[chosen];
  if (!why_not_persistent_.empty()) return text + " (not as " + names[1] + ": " + why_not_persistent_ + ")";
  if (runs_ == 0) return text;
  return text + " (" + milliseconds_text(least_[chosen]) + ", as " + names[1 - chosen] + " " +
         milliseconds_text(least_[1 - chosen]) + ")";
}

}  // namespace wakesleep::cuda
