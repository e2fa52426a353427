// `wakesleep bench`: the training step against its own bare integer products, in turn, on random data.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>

#include <nlohmann/json.hpp>

#include "command/commands.hpp"
#include "command/progress.hpp"
#include "wakesleep/bare_products.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/memory_plan.hpp"
#include "wakesleep/philox.hpp"
#include "wakesleep/trainer.hpp"

namespace wakesleep::command {
namespace {

constexpr std::int64_t batches = 16;  ///< of the random data: one epoch

struct Subject {
  std::vector<std::int64_t> sizes;
  TrainingSettings settings;
  PlacementSettings placement;
};

struct Timing {
  double step_seconds = 0;
  double products_seconds = 0;
  double ratio = 0;
};

Subject subject_of(const Arguments& arguments) {
  Subject subject;
  subject.sizes = arguments.widths("layers");
  if (subject.sizes.size() < 2) {
    throw UsageError("option --layers has the value '" + arguments.text("layers") +
                     "'; expected the visible units and at least one hidden layer, such as 784,200");
  }
  TrainingSettings& settings = subject.settings;
  settings.layers.assign(subject.sizes.begin() + 1, subject.sizes.end());
  settings.batch_size = arguments.whole("batch-size");
  settings.weight_bits = static_cast<int>(arguments.whole("weight-bits"));
  settings.optimizer = optimizer_named(arguments.text("optimizer"));
  settings.algorithm = algorithm_named(arguments.text("algorithm"));
  settings.prior = prior_named(arguments.text("prior"));
  settings.visible = visible_named(arguments.text("visible"));
  settings.samples = arguments.whole("samples");
  settings.seed = arguments.seed("seed");
  check(settings);
  subject.placement = placement_settings(arguments);
  return subject;
}

/// Grey values by addressed draws, every one as likely.
DataSet random_grey_data(std::int64_t rows, std::int64_t units, std::uint64_t seed) {
  DataSet data;
  data.rows = rows;
  data.units = units;
  data.row_bytes = units;
  data.grey = true;
  data.source = "random data";
  data.bytes.resize(static_cast<std::size_t>(rows * units));
  const std::uint32_t domain = domain_word(Domain::binarize_fixed, 0);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t unit = 0; unit < units; unit += 4) {
      const PhiloxBlock block = philox4x32_10(
          draw_counter(static_cast<std::uint32_t>(unit / 4), static_cast<std::uint32_t>(r), 0, domain), seed);
      for (std::int64_t i = 0; i < 4 && unit + i < units; ++i) {
        data.bytes[static_cast<std::size_t>(r * units + unit + i)] =
            static_cast<std::uint8_t>(block.word[i] >> 24);
      }
    }
  }
  return data;
}

/// Fair coin flips by addressed draws.
DataSet random_data(std::int64_t rows, std::int64_t units, std::uint64_t seed) {
  DataSet data;
  data.rows = rows;
  data.units = units;
  data.row_bytes = (units + 7) / 8;
  data.source = "random data";
  data.bytes.resize(static_cast<std::size_t>(rows * data.row_bytes));
  const std::uint32_t domain = domain_word(Domain::binarize_fixed, 0);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t byte = 0; byte < data.row_bytes; ++byte) {
      const auto group = static_cast<std::uint32_t>(byte);
      const PhiloxBlock block =
          philox4x32_10(draw_counter(group, static_cast<std::uint32_t>(r), 0, domain), seed);
      const std::int64_t used = std::min<std::int64_t>(8, units - 8 * byte);
      const std::uint32_t mask = 0xFFu << (8 - used) & 0xFFu;
      data.bytes[static_cast<std::size_t>(r * data.row_bytes + byte)] =
          static_cast<std::uint8_t>(block.word[0] & mask);
    }
  }
  return data;
}

/// Does something so many times and blocks until it is done.
using Work = std::function<void(std::int64_t times)>;

double seconds_of(const Work& work, std::int64_t times) {
  const auto begin = std::chrono::steady_clock::now();
  work(times);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() /
         static_cast<double>(times);
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

/// Steps and products in turn, so that a machine that changes its speed changes it for both.
Timing time_in_turn(const Work& steps, const Work& products, const Arguments& arguments) {
  const std::int64_t rounds = arguments.whole("rounds");
  const double share = arguments.number("seconds") / (2.0 * static_cast<double>(rounds));
  const std::int64_t step_count = repetitions(steps, share);
  const std::int64_t product_count = repetitions(products, share);

  Progress progress(stderr, verbosity_for(stderr, arguments.flag("quiet")), "measuring", "rounds", rounds);
  std::vector<double> step_times;
  std::vector<double> product_times;
  std::vector<double> ratios;
  for (std::int64_t round = 0; round < rounds; ++round) {
    step_times.push_back(seconds_of(steps, step_count));
    product_times.push_back(seconds_of(products, product_count));
    ratios.push_back(step_times.back() / product_times.back());
    progress.update(round + 1);
  }
  return {median(step_times), median(product_times), median(ratios)};
}

/// What the training takes, and with it the bare products, which have a machine and states of their own.
MemoryPlan plan_of(Ops& ops, const Subject& subject) {
  MemoryPlan plan = plan_memory(ops, subject.sizes, subject.settings, subject.settings.batch_size * batches,
                                subject.placement);
  plan.parameters *= 2;
  const std::int64_t samples = rows_of_a_step(subject.settings) / subject.settings.batch_size;
  for (const std::int64_t units : subject.sizes) plan.per_row += 2 * samples * padded_units(units);
  return plan;
}

/// Refuses what would not fit before anything is measured.
void check_plan(const MemoryPlan& plan, Ops& ops, const Subject& subject) {
  const std::size_t available = ops.available_memory();
  const std::int64_t batch_size = subject.settings.batch_size;
  if (static_cast<std::uint64_t>(plan.total(batch_size)) <= available) return;
  const std::int64_t largest = plan.largest_batch(static_cast<std::int64_t>(available));
  throw DeviceError("a batch of " + with_commas(batch_size) + " rows needs " +
                    byte_text(static_cast<double>(plan.total(batch_size))) + " and " +
                    byte_text(static_cast<double>(available)) + " are free; " +
                    (largest > 0 ? "the largest batch that fits has " + with_commas(largest) + " rows"
                                 : "no batch fits: use smaller layers"));
}

void print_plan(const MemoryPlan& plan, std::int64_t batch_size) {
  const auto bytes = [](std::int64_t count) { return byte_text(static_cast<double>(count)); };
  std::fprintf(
      stderr,
      "memory plan: parameters %s, optimiser and gradients %s, %s data %s, %s rows of %s each: %s in all\n",
      bytes(plan.parameters).c_str(), bytes(plan.fixed).c_str(), plan.streamed ? "streamed" : "resident",
      bytes(plan.data).c_str(), with_commas(batch_size).c_str(), bytes(plan.per_row).c_str(),
      bytes(plan.total(batch_size)).c_str());
}

Timing measure(Ops& ops, const Subject& subject, const Arguments& arguments) {
  const std::int64_t rows = subject.settings.batch_size;
  const auto make_data = subject.settings.visible == Visible::gaussian ? random_grey_data : random_data;
  Trainer trainer(ops, make_data(rows * batches, subject.sizes.front(), subject.settings.seed),
                  subject.settings, subject.placement);
  const Work steps = [&](std::int64_t times) { trainer.run_steps(times); };
  const std::function<void()> bare = bare_products(ops, subject.sizes, subject.settings);
  const Work products = [&](std::int64_t times) {
    for (std::int64_t i = 0; i < times; ++i) bare();
  };
  return time_in_turn(steps, products, arguments);
}

nlohmann::ordered_json result_of(const Subject& subject, const Timing& timing, Ops& ops,
                                 const Arguments& arguments) {
  return {
      {"images_per_second", static_cast<double>(subject.settings.batch_size) / timing.step_seconds},
      {"step_ms", 1e3 * timing.step_seconds},
      {"products_ms", 1e3 * timing.products_seconds},
      {"step_over_products", timing.ratio},
      {"rounds", arguments.whole("rounds")},
      {"layers", subject.sizes},
      {"batch_size", subject.settings.batch_size},
      {"weight_bits", subject.settings.weight_bits},
      {"optimizer", name_of(subject.settings.optimizer)},
      {"algorithm", name_of(subject.settings.algorithm)},
      {"prior", name_of(subject.settings.prior)},
      {"visible", name_of(subject.settings.visible)},
      {"samples", rows_of_a_step(subject.settings) / subject.settings.batch_size},
      {"streamed", subject.placement.placement == DataPlacement::streamed},
      {"threads", arguments.whole("threads")},
      {"device", ops.description()},
      {"memory_bytes", ops.memory_use().peak},
  };
}

void print_text(const Subject& subject, const Timing& timing, Ops& ops, const Arguments& arguments) {
  const auto print = [](const std::string& name, const std::string& value) {
    std::printf("%-26s %s\n", name.c_str(), value.c_str());
  };
  const double images = static_cast<double>(subject.settings.batch_size) / timing.step_seconds;
  print("device", ops.description());
  print("layers", arguments.text("layers") + " (visible units first)");
  print("batch size", with_commas(subject.settings.batch_size));
  print("weight bits, optimizer",
        std::to_string(subject.settings.weight_bits) + ", " + name_of(subject.settings.optimizer));
  print("algorithm, samples",
        std::string(name_of(subject.settings.algorithm)) + ", " +
            with_commas(rows_of_a_step(subject.settings) / subject.settings.batch_size));
  print("prior", name_of(subject.settings.prior));
  print("visible units", name_of(subject.settings.visible));
  print("images per second", with_commas(std::llround(images)));
  print("training step", decimals(1e3 * timing.step_seconds, 3) + " ms");
  print("its bare integer products", decimals(1e3 * timing.products_seconds, 3) + " ms");
  print("step / products", decimals(timing.ratio, 2));
  print("memory at the peak", byte_text(static_cast<double>(ops.memory_use().peak)));
  std::printf("(medians of %s rounds of steps and products in turn)\n", arguments.text("rounds").c_str());
}

}  // namespace

const CommandSpec& bench_spec() {
  static const CommandSpec spec = [] {
    OptionSpec bits =
        call("weight-bits", Kind::choice, "BITS", std::to_string(TrainingSettings{}.weight_bits), "Machine",
             "bits of the integer weights");
    bits.choices = {"16", "12", "8"};
    OptionSpec optimizer = call("optimizer", Kind::choice, "NAME", name_of(TrainingSettings{}.optimizer),
                                "Machine", "sgd, momentum or adam");
    optimizer.choices = {"sgd", "momentum", "adam"};
    OptionSpec algorithm = call("algorithm", Kind::choice, "NAME", name_of(TrainingSettings{}.algorithm),
                                "Machine", "the training algorithm, as in `wakesleep train`");
    algorithm.choices = train_spec().find("algorithm")->choices;
    OptionSpec prior = call("prior", Kind::choice, "KIND", name_of(TrainingSettings{}.prior), "Machine",
                            "the prior, as in `wakesleep train`");
    prior.choices = train_spec().find("prior")->choices;
    OptionSpec visible = call("visible", Kind::choice, "KIND", name_of(TrainingSettings{}.visible), "Machine",
                              "the visible units, as in `wakesleep train`");
    visible.choices = train_spec().find("visible")->choices;
    return CommandSpec{
        "bench",
        "Times the training step and its own bare integer products on random data.",
        {},
        joined({{call("layers", Kind::layers, "WIDTHS", "784,200,200,200", "Machine",
                      "widths of all layers, the visible one first"),
                 call("batch-size", Kind::whole, "N", "100", "Machine", "rows of a step", {1, 524288}), bits,
                 optimizer, algorithm, prior, visible,
                 call("samples", Kind::whole, "K", std::to_string(TrainingSettings{}.samples), "Machine",
                      "hidden states drawn for each image, where the algorithm draws several", {1, 1048576}),
                 call("seconds", Kind::number, "S", "10", "Measurement", "time to measure for, about",
                      above_zero),
                 call("rounds", Kind::whole, "N", "9", "Measurement",
                      "rounds of steps and bare products in turn; medians are reported", {1, 10000}),
                 json_option()},
                {seed_option("the data and the weights"), placement_option(Role::call)},
                computing_options(Role::call)})};
  }();
  return spec;
}

int bench(const Arguments& arguments) {
  Subject subject = subject_of(arguments);
  const Device device = choose_device(arguments);
  const MemoryPlan plan = plan_of(*device.ops, subject);
  subject.placement.placement = plan.streamed ? DataPlacement::streamed : DataPlacement::resident;
  if (!arguments.flag("quiet")) print_plan(plan, subject.settings.batch_size);
  check_plan(plan, *device.ops, subject);
  const Timing timing = measure(*device.ops, subject, arguments);
  if (arguments.flag("json")) {
    std::printf("%s\n", result_of(subject, timing, *device.ops, arguments).dump().c_str());
  } else {
    print_text(subject, timing, *device.ops, arguments);
  }
  return 0;
}

}  // namespace wakesleep::command
