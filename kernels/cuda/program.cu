// Programs made of operations.
#include "kernels/cuda/program.cuh"

#include <algorithm>
#include <iterator>

#include "kernels/cuda/ascent.cuh"

namespace wakesleep::cuda {
namespace {

std::int64_t pieces_of(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }

MemoryRange range(const void* first, std::int64_t bytes) {
  const auto begin = reinterpret_cast<std::uintptr_t>(first);
  return {begin, begin + (first != nullptr ? static_cast<std::uintptr_t>(bytes) : 0)};
}

template <class T>
MemoryRange range(const Matrix<T>& matrix) {
  return range(matrix.data, matrix.rows * matrix.stride * static_cast<std::int64_t>(sizeof(T)));
}

std::int64_t bytes_of_limbs(const Limbs& limbs) {
  return limbs.count * limbs.rows * limbs.stride * element_bytes(limbs.route);
}

bool overlap(const std::vector<MemoryRange>& some, const std::vector<MemoryRange>& others) {
  return std::any_of(some.begin(), some.end(), [&](const MemoryRange& one) {
    return std::any_of(others.begin(), others.end(), [&](const MemoryRange& other) {
      return one.begin < other.end && other.begin < one.end;
    });
  });
}

/// Warps that share a tile: as many as there is work for and as the device has.
std::int32_t splits_of(std::int64_t tiles, std::int64_t chunks, std::int64_t warps) {
  std::int32_t splits = 1;
  while (2 * splits <= persistent_warps && 2 * splits <= chunks && 2 * splits * tiles <= warps) splits *= 2;
  return splits;
}

}  // namespace

void Draft::refuse(const std::string& what) {
  if (refused_.empty()) refused_ = what;
}

/// Whether an operation over so many rows can become part of a stage.
bool Draft::accepts(std::int64_t rows) {
  if (steps_ == 0) refuse("an operation before the first step's numbers are known");
  if (gradient_ != nullptr) refuse("a gradient whose update does not come next");
  if (rows == 0) refuse("an operation on no rows");
  return refused_.empty();
}

void Draft::add(StageKind kind, const Stage& stage, std::int64_t items, Touched touched) {
  pieces_.push_back({stage, std::move(touched)});
  Stage& added = pieces_.back().stage;
  added.kind = kind;
  added.step = steps_ - 1;
  added.items = static_cast<std::int32_t>(items);
}

void Draft::advance(const StepScalars* table, std::uint32_t* position, StepScalars* now) {
  if (gradient_ != nullptr) refuse("a gradient whose update does not come next");
  if (steps_ > 0 && (table != clock_.table || position != clock_.position || now != clock_.now)) {
    refuse("a second table of steps");
  }
  clock_ = {table, position, now};
  ++steps_;
}

void Draft::gather(const DataRows& data, const std::uint32_t* order, const std::uint32_t* first,
                   const Draw& draw, States states) {
  if (!accepts(states.rows)) return;
  Stage stage;
  stage.gather = {data, order, first, draw, states};
  // The data set is not counted: of all its rows a step reads a batch.
  add(StageKind::gather, stage, pieces_of(states.rows * pieces_of(states.columns, 4), persistent_threads),
      {{}, {range(states)}});
}

void Draft::add_forward(StageKind kind, const CudaWeights* weights, const float* bias, ConstStates input,
                        ForwardStage forward, Touched touched) {
  const std::int64_t tiles = pieces_of(forward.rows, tile_rows) * pieces_of(forward.units, tile_units);
  forward.bias = bias;
  touched.read.push_back(range(bias, forward.units * static_cast<std::int64_t>(sizeof(float))));
  if (weights != nullptr) {
    const Limbs& limbs = weights->limbs();
    forward.high = static_cast<const std::int8_t*>(limbs.data);
    forward.low = limbs.count == 2 ? forward.high + limbs.rows * limbs.stride : nullptr;
    forward.stride = static_cast<std::int32_t>(limbs.stride);
    forward.scales = weights->scales();
    forward.input = input;
    forward.chunks = static_cast<std::int32_t>(limbs.stride / chunk_units);
    forward.splits = splits_of(tiles, forward.chunks, std::int64_t{blocks_} * persistent_warps);
    touched.read.push_back(range(input));
    touched.read.push_back(range(limbs.data, bytes_of_limbs(limbs)));
    touched.read.push_back(
        range(weights->scales(), forward.units * static_cast<std::int64_t>(sizeof(float))));
  }
  Stage stage;
  stage.forward = forward;
  add(kind, stage, pieces_of(tiles, persistent_warps / forward.splits), std::move(touched));
}

void Draft::sample(const CudaWeights* weights, const float* bias, ConstStates input, const Draw& draw,
                   States output) {
  if (!accepts(output.rows)) return;
  ForwardStage forward;
  forward.rows = static_cast<std::int32_t>(output.rows);
  forward.units = static_cast<std::int32_t>(output.columns);
  forward.draw = draw;
  forward.output = output;
  add_forward(StageKind::sample, weights, bias, input, forward, {{}, {range(output)}});
}

void Draft::delta(const CudaWeights* weights, const float* bias, ConstStates input, ConstStates target,
                  const Draw& draw, float weight, Deltas deltas) {
  if (!accepts(deltas.rows)) return;
  ForwardStage forward;
  forward.rows = static_cast<std::int32_t>(deltas.rows);
  forward.units = static_cast<std::int32_t>(deltas.columns);
  forward.draw = draw;
  forward.target = target;
  forward.deltas = deltas;
  forward.weight = weight;
  add_forward(StageKind::delta, weights, bias, input, forward, {{range(target)}, {range(deltas)}});
}

void Draft::gradient(ConstDeltas deltas, ConstStates input, const std::int32_t* gradient,
                     const std::int32_t* bias_gradient) {
  if (!accepts(deltas.rows)) return;
  if (deltas.rows > most_learn_rows) {
    refuse("a gradient over more than " + std::to_string(most_learn_rows) + " rows");
    return;
  }
  gradient_ = std::make_unique<Gradient>(Gradient{deltas, input, gradient, bias_gradient});
}

void Draft::update(const ParameterUpdate& update, const GradientPair<const std::int32_t>& gradient,
                   const Optimizer& optimizer, const Rates* rates) {
  const std::unique_ptr<Gradient> latest = std::move(gradient_);
  if (latest == nullptr || latest->weight != gradient.weight || latest->bias != gradient.bias ||
      latest->bias == nullptr || latest->deltas.columns != update.receiving) {
    refuse("an update of which the gradient does not come just before");
    return;
  }
  if (optimizer_.value_or(optimizer.kind) != optimizer.kind) refuse("another optimiser");
  optimizer_ = optimizer.kind;
  if (!accepts(latest->deltas.rows)) return;
  const auto floats = [](const float* first, std::int64_t count) {
    return range(first, count * static_cast<std::int64_t>(sizeof(float)));
  };
  const std::int64_t units = update.receiving;
  const std::int64_t weights = units * update.weight.columns;
  Touched touched{{range(latest->deltas)},
                  {floats(update.bias, units), floats(update.state.bias_first, units),
                   floats(update.state.bias_second, units),
                   range(update.diverged, static_cast<std::int64_t>(sizeof(std::uint32_t)))}};
  LearnStage learn;
  learn.deltas = latest->deltas;
  learn.input = latest->input;
  learn.update = update;
  learn.optimizer = optimizer;
  learn.rates = rates;
  learn.fours = in_fours(update);
  if (update.limbs.data != nullptr) {
    learn.integers =
        integers_in<std::int8_t>(update.limbs, update.bits, update.scales, update.diverged, update.step);
    touched.read.push_back(range(latest->input));
    for (const MemoryRange& more : {range(update.weight), floats(update.state.weight_first, weights),
                                    floats(update.state.weight_second, weights), floats(update.scales, units),
                                    range(update.limbs.data, bytes_of_limbs(update.limbs))}) {
      touched.written.push_back(more);
    }
    Stage stage;
    stage.learn = learn;
    add(StageKind::learn, stage, pieces_of(units, learn_units), std::move(touched));
    return;
  }
  if (pieces_.empty() || pieces_.back().stage.kind != StageKind::delta ||
      pieces_.back().stage.step != steps_ - 1 ||
      pieces_.back().stage.forward.deltas.data != latest->deltas.data ||
      pieces_.back().stage.forward.deltas.rows != latest->deltas.rows ||
      pieces_.back().stage.forward.bias != update.bias) {
    refuse("an update of a prior of which the deltas do not come just before");
    return;
  }
  // A prior's deltas need no product, and each block can draw those that it learns from.
  Piece& prior = pieces_.back();
  prior.stage.kind = StageKind::learn_prior;
  prior.stage.items = static_cast<std::int32_t>(pieces_of(units, learn_units));
  prior.stage.learn = learn;
  std::move(touched.written.begin(), touched.written.end(), std::back_inserter(prior.touched.written));
}

std::vector<Level> Draft::levels() const {
  std::vector<Level> levels;
  std::vector<std::size_t> level_of;
  for (const Piece& piece : pieces_) {
    std::size_t level = 0;
    // The latest stand in the highest levels, and what does not raise the level any more is not looked at.
    for (std::size_t before = level_of.size(); before-- > 0;) {
      if (level_of[before] < level) continue;
      const Touched& earlier = pieces_[before].touched;
      if (overlap(earlier.written, piece.touched.read) || overlap(earlier.written, piece.touched.written) ||
          overlap(earlier.read, piece.touched.written)) {
        level = level_of[before] + 1;
      }
    }
    while (level < levels.size() && levels[level].stages == Level::most_stages) ++level;
    level_of.push_back(level);
    if (level >= levels.size()) levels.resize(level + 1);
    Level& joined = levels[level];
    joined.stage[joined.stages++] = piece.stage;
    joined.items += piece.stage.items;
  }
  for (Level& level : levels) share_out(level);
  return levels;
}

/// Divides what a level learns into the smallest items for which no block has more turns than it has with
/// learn_units each, nor more turns of learning, which last longest: levels wait for the few blocks that have
/// most to do.
void Draft::share_out(Level& level) const {
  Stage* const end = level.stage + level.stages;
  const auto items = [&](std::int32_t units_at_once) {
    std::int64_t sum = 0;
    for (const Stage* stage = level.stage; stage != end; ++stage) {
      if (stage->kind == StageKind::learn) sum += pieces_of(stage->learn.update.receiving, units_at_once);
    }
    return sum;
  };
  const std::int64_t others = level.items - items(learn_units);
  const auto turns = [&](std::int64_t count) { return pieces_of(count, blocks_); };
  std::int32_t units_at_once = 1;
  while (turns(others + items(units_at_once)) > turns(level.items) ||
         turns(items(units_at_once)) > turns(items(learn_units))) {
    ++units_at_once;
  }
  for (Stage* stage = level.stage; stage != end; ++stage) {
    if (stage->kind != StageKind::learn) continue;
    stage->items = static_cast<std::int32_t>(pieces_of(stage->learn.update.receiving, units_at_once));
    stage->learn.units_at_once = units_at_once;
  }
  level.items = static_cast<std::int32_t>(others + items(units_at_once));
}

Program Draft::program() const {
  Program program;
  program.clock = clock_;
  program.steps = steps_;
  program.optimizer = optimizer_.value_or(OptimizerKind::sgd);
  return program;
}

/// The bytes that all stages together touch, each counted once.
std::int64_t Draft::working_set() const {
  std::vector<MemoryRange> all;
  for (const Piece& piece : pieces_) {
    all.insert(all.end(), piece.touched.read.begin(), piece.touched.read.end());
    all.insert(all.end(), piece.touched.written.begin(), piece.touched.written.end());
  }
  std::sort(all.begin(), all.end(),
            [](const MemoryRange& x, const MemoryRange& y) { return x.begin < y.begin; });
  std::uintptr_t bytes = 0;
  std::uintptr_t counted = 0;  // up to here
  for (const MemoryRange& one : all) {
    if (one.end <= counted) continue;
    bytes += one.end - std::max(one.begin, counted);
    counted = one.end;
  }
  return static_cast<std::int64_t>(bytes);
}

std::string Draft::why_not(std::int64_t cache_bytes) const {
  if (!refused_.empty()) return "there is " + refused_ + " among them";
  if (gradient_ != nullptr) return "there is a gradient without an update among them";
  if (pieces_.empty()) return "there is nothing to do among them";
  const std::int64_t bytes = working_set();
  if (bytes > cache_bytes) {
    return "they touch " + std::to_string(bytes) + " bytes and the L2 cache holds " +
           std::to_string(cache_bytes);
  }
  return "";
}

}  // namespace wakesleep::cuda
