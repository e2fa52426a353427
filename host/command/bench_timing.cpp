#include "command/bench_timing.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "command/progress.hpp"

namespace wakesleep::command {
namespace {

double seconds_of(const Work& work, std::int64_t times) {
  const auto begin = std::chrono::steady_clock::now();
  work(times);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() /
         static_cast<double>(times);
}

/// In multiply-adds a second.
double rate_of(const Square& square) {
  return static_cast<double>(square.product.multiply_adds) / square.seconds;
}
const Square& fastest(const std::vector<Square>& squares) {
  return *std::max_element(squares.begin(), squares.end(),
                           [](const Square& a, const Square& b) { return rate_of(a) < rate_of(b); });
}

/// How often to repeat `work` so that it takes about `seconds`, from a few runs that also warm it up.
std::int64_t repetitions(const Work& work, double seconds) {
  constexpr std::int64_t warm_up = 5;
  seconds_of(work, warm_up);
  const double once = std::max(seconds_of(work, warm_up), 1e-9);
  return std::max<std::int64_t>(1, std::llround(seconds / once));
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

/// How much of a round goes to steps and to products each; what is left goes to the peak.
constexpr double share_of_steps = 0.45;
constexpr double share_of_peak = 1 - 2 * share_of_steps;

double seconds_of_a_round(const Arguments& arguments) {
  return arguments.number("seconds") / static_cast<double>(arguments.whole("rounds"));
}

/// Runs it as often as `seconds` allow, but once, and keeps the least time.
void measure_again(Square& square, double seconds) {
  const auto times = std::max<std::int64_t>(1, std::llround(seconds / square.seconds));
  square.seconds = std::min(square.seconds, seconds_of(square.product.run, times));
}

}  // namespace

Peak make_squares(Ops& ops, const Arguments& arguments, std::int64_t memory) {
  constexpr std::int64_t narrowest = 256;
  constexpr std::int64_t widest = 8192;
  const double longest = std::min(20e-3, share_of_peak * seconds_of_a_round(arguments));
  const auto held = [&] { return static_cast<std::int64_t>(ops.memory_use().current); };
  const std::int64_t before = held();

  Peak peak;
  peak.bytes = 32 * narrowest * narrowest;  // about twice what it takes
  std::int64_t needed = peak.bytes;
  double next_seconds = 0;
  for (std::int64_t width = narrowest; width <= widest && needed <= memory && next_seconds <= longest;
       width *= 2) {
    Square& square = peak.squares.emplace_back(Square{width, square_product(ops, width)});
    square.product.run(1);  // the first run chooses algorithms and makes working memory
    for (int i = 0; i < 3; ++i) measure_again(square, 0);
    peak.bytes = held() - before;
    needed = 5 * peak.bytes;  // a product of twice the width takes four times as much as this one
    next_seconds = 8 * square.seconds;
  }
  return peak;
}

Timing time_in_turn(const Work& steps, const BareProducts& bare, Peak& peak, const Arguments& arguments) {
  const std::int64_t rounds = arguments.whole("rounds");
  const double round_seconds = seconds_of_a_round(arguments);
  const Work& products = bare.run;
  const std::int64_t step_count = repetitions(steps, share_of_steps * round_seconds);
  const std::int64_t product_count = repetitions(products, share_of_steps * round_seconds);
  const double square_seconds = share_of_peak * round_seconds / static_cast<double>(peak.squares.size());

  Progress progress(stderr, verbosity_for(stderr, arguments.flag("quiet")), "measuring", "rounds", rounds);
  std::vector<double> step_times;
  std::vector<double> product_times;
  std::vector<double> ratios;
  for (std::int64_t round = 0; round < rounds; ++round) {
    step_times.push_back(seconds_of(steps, step_count));
    product_times.push_back(seconds_of(products, product_count));
    ratios.push_back(step_times.back() / product_times.back());
    for (Square& square : peak.squares) measure_again(square, square_seconds);
    progress.update(round + 1);
  }
  const Square& best = fastest(peak.squares);
  Timing timing;
  timing.step_seconds = median(step_times);
  timing.products_seconds = median(product_times);
  timing.ratio = median(ratios);
  timing.multiply_adds = bare.multiply_adds;
  timing.peak_width = best.width;
  timing.peak_rate = rate_of(best);
  return timing;
}

}  // namespace wakesleep::command
