// `wakesleep bench`: the training step against its own bare integer products and against the best rate of
// integer products that the device shows, in turn, on random data or on a file's.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <vector>

#include <nlohmann/json.hpp>

#include "command/bench_timing.hpp"
#include "command/commands.hpp"
#include "command/model_input.hpp"
#include "command/progress.hpp"
#include "command/random_data.hpp"
#include "wakesleep/bare_products.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/memory_plan.hpp"
#include "wakesleep/trainer.hpp"

namespace wakesleep::command {
namespace {

constexpr std::int64_t batches = 16;  ///< of the random data: one epoch

struct Subject {
  std::vector<std::int64_t> sizes;
  TrainingSettings settings;
  PlacementSettings placement;
  DataSet data;           ///< of the file; no rows where the data is random, which is drawn when all fits
  std::int64_t rows = 0;  ///< of the data, the file's or random ones
};

/// An epoch of random rows, of the kind that the visible units take.
DataSet random_rows(const Subject& subject) {
  const auto make_data = subject.settings.visible == Visible::gaussian ? random_grey_data : random_data;
  return make_data(subject.rows, subject.sizes.front(), subject.settings.seed);
}

/// The rows of --data, on from the default threshold upward where they are grey.
DataSet read_rows(const Arguments& arguments, const Subject& subject) {
  DataSet data = read_data(arguments.text("data"), read_options(arguments));
  if (data.units != subject.sizes.front()) {
    throw UsageError("option --layers begins with " + std::to_string(subject.sizes.front()) +
                     " visible units where the rows of " + data.source + " have " +
                     std::to_string(data.units) + "; give the width of a row first" +
                     bit_packed_hint(data, subject.sizes.front()));
  }
  if (subject.settings.visible == Visible::gaussian) return data;
  return binarize(std::move(data), Binarization::threshold, subject.settings.threshold,
                  subject.settings.seed);
}

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
  settings.generative_learning_rate = arguments.number("generative-learning-rate");
  settings.recognition_learning_rate = arguments.number("recognition-learning-rate");
  settings.seed = arguments.seed("seed");
  refuse_unused(arguments, "samples", settings);
  settings.schedule = Schedule::constant;  // --after may go beyond the run's epochs, where cosine is 0
  check_given(settings, arguments);
  subject.placement = placement_settings(arguments);
  if (arguments.given("data")) subject.data = read_rows(arguments, subject);
  for (const std::string option : {"row-length", "image-shape"}) {
    if (arguments.given(option) && !arguments.given("data")) {
      throw UsageError("option --" + option +
                       " says what the rows of a file are, and there is none; give --data as well");
    }
  }
  subject.rows = arguments.given("data") ? subject.data.rows : settings.batch_size * batches;
  return subject;
}

/// What the training takes, and with it the bare products.
MemoryPlan plan_of(Ops& ops, const Subject& subject) {
  MemoryPlan plan = plan_memory(ops, subject.sizes, subject.settings, subject.rows, subject.placement);
  add_bare_products(plan, subject.sizes, subject.settings);
  return plan;
}

/// Refuses what would not fit before anything is measured.
void check_plan(const MemoryPlan& plan, const Peak& peak, std::int64_t batch_size, std::int64_t available) {
  const std::int64_t needed = plan.total(batch_size) + peak.bytes;
  if (needed <= available) return;
  const std::int64_t largest = plan.largest_batch(available - peak.bytes);
  throw DeviceError("a batch of " + counted(batch_size, "row") + " needs " +
                    byte_text(static_cast<double>(needed)) + " and " +
                    byte_text(static_cast<double>(available)) + " are free; " +
                    (largest > 0 ? "the largest batch that fits has " + counted(largest, "row")
                                 : "no batch fits: use smaller layers"));
}

void print_plan(const MemoryPlan& plan, const Peak& peak, std::int64_t batch_size) {
  const auto bytes = [](std::int64_t count) { return byte_text(static_cast<double>(count)); };
  std::fprintf(stderr,
               "memory plan: parameters %s, optimiser and gradients %s, %s data %s, %s of %s each, products "
               "for the peak %s: %s in all\n",
               bytes(plan.parameters).c_str(), bytes(plan.fixed).c_str(),
               plan.streamed ? "streamed" : "resident", bytes(plan.data).c_str(),
               counted(batch_size, "row").c_str(), bytes(plan.per_row).c_str(), bytes(peak.bytes).c_str(),
               bytes(plan.total(batch_size) + peak.bytes).c_str());
}

/// What a step takes may depend on what has been learnt: products leave out rows without an error.
void train_before(Trainer& trainer, const Arguments& arguments) {
  const std::int64_t steps = arguments.whole("after");
  Progress progress(stderr, verbosity_for(stderr, arguments.flag("quiet")), "training", "steps", steps);
  while (trainer.step() < steps) {
    trainer.run_steps(std::min<std::int64_t>(100, steps - trainer.step()));
    progress.update(trainer.step());
  }
}

Timing measure(Ops& ops, Subject& subject, Peak& peak, const Arguments& arguments) {
  if (subject.data.rows == 0) subject.data = random_rows(subject);
  Trainer trainer(ops, std::move(subject.data), subject.settings, subject.placement);
  train_before(trainer, arguments);
  const std::int64_t steps_before = trainer.step();
  const Work steps = [&](std::int64_t times) { trainer.run_steps(times); };
  Timing timing = time_in_turn(steps, bare_products(ops, subject.sizes, subject.settings), peak, arguments);
  timing.steps_before = steps_before;
  timing.rate_factor = trainer.last_schedule_factor();
  return timing;
}

std::string data_text(const Arguments& arguments) {
  return arguments.given("data") ? arguments.text("data") : "random";
}

nlohmann::ordered_json json_of(const MemoryPlan& plan, const Peak& peak, std::int64_t batch_size) {
  return {{"parameters", plan.parameters},
          {"optimiser_and_gradients", plan.fixed},
          {"data", plan.data},
          {"streamed", plan.streamed},
          {"rows", batch_size},
          {"bytes_of_a_row", plan.per_row},
          {"peak", peak.bytes},
          {"total", plan.total(batch_size) + peak.bytes}};
}

nlohmann::ordered_json result_of(const Subject& subject, const Timing& timing, const MemoryPlan& plan,
                                 const Peak& peak, Ops& ops, const Arguments& arguments) {
  return {
      {"images_per_second", static_cast<double>(subject.settings.batch_size) / timing.step_seconds},
      {"step_ms", 1e3 * timing.step_seconds},
      {"products_ms", 1e3 * timing.products_seconds},
      {"step_over_products", timing.ratio},
      {"multiply_adds_per_step", timing.multiply_adds},
      {"peak_multiply_adds_per_second", timing.peak_rate},
      {"peak_width", timing.peak_width},
      {"products_share_of_peak", timing.products_share()},
      {"step_share_of_peak", timing.step_share()},
      {"rounds", arguments.whole("rounds")},
      {"layers", subject.sizes},
      {"batch_size", subject.settings.batch_size},
      {"weight_bits", subject.settings.weight_bits},
      {"optimizer", name_of(subject.settings.optimizer)},
      {"algorithm", name_of(subject.settings.algorithm)},
      {"prior", name_of(subject.settings.prior)},
      {"visible", name_of(subject.settings.visible)},
      {"samples", rows_of_a_step(subject.settings) / subject.settings.batch_size},
      {"generative_learning_rate", subject.settings.generative_learning_rate * timing.rate_factor},
      {"recognition_learning_rate", subject.settings.recognition_learning_rate * timing.rate_factor},
      {"data", data_text(arguments)},
      {"after", timing.steps_before},
      {"streamed", subject.placement.placement == DataPlacement::streamed},
      {"threads", arguments.whole("threads")},
      {"device", ops.description()},
      {"memory_bytes", ops.memory_use().peak},
      {"memory_plan", json_of(plan, peak, subject.settings.batch_size)},
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
  print("data", data_text(arguments) + ", after " + counted(timing.steps_before, "step"));
  print("images per second", with_commas(std::llround(images)));
  print("training step", decimals(1e3 * timing.step_seconds, 3) + " ms");
  print("its bare integer products", decimals(1e3 * timing.products_seconds, 3) + " ms");
  print("step / products", decimals(timing.ratio, 2));
  print("peak of integer products", decimals(1e-9 * timing.peak_rate, 1) +
                                        " billion multiply-adds/s, by a square of " +
                                        with_commas(timing.peak_width));
  print("share of the peak", "products " + decimals(100 * timing.products_share(), 1) + " %, step " +
                                 decimals(100 * timing.step_share(), 1) + " %");
  print("memory at the peak", byte_text(static_cast<double>(ops.memory_use().peak)));
  std::printf("(medians of %s of steps and products in turn; the peak is the best of them)\n",
              counted(arguments.whole("rounds"), "round").c_str());
}

}  // namespace

const CommandSpec& bench_spec() {
  static const CommandSpec spec = [] {
    OptionSpec bits =
        call("weight-bits", Kind::choice, "BITS", std::to_string(TrainingSettings{}.weight_bits), "Machine",
             "bits of the integer weights");
    bits.choices = train_spec().find("weight-bits")->choices;
    OptionSpec optimizer = call("optimizer", Kind::choice, "NAME", name_of(TrainingSettings{}.optimizer),
                                "Machine", listed(choices_of("optimizer")));
    optimizer.choices = choices_of("optimizer");
    OptionSpec algorithm = call("algorithm", Kind::choice, "NAME", name_of(TrainingSettings{}.algorithm),
                                "Machine", "the training algorithm, as in `wakesleep train`");
    algorithm.choices = choices_of("algorithm");
    OptionSpec prior = call("prior", Kind::choice, "KIND", name_of(TrainingSettings{}.prior), "Machine",
                            "the prior, as in `wakesleep train`");
    prior.choices = choices_of("prior");
    OptionSpec visible = call("visible", Kind::choice, "KIND", name_of(TrainingSettings{}.visible), "Machine",
                              "the visible units, as in `wakesleep train`");
    visible.choices = choices_of("visible");
    Options learning_rates;
    for (const std::string name :
         {"learning-rate", "generative-learning-rate", "recognition-learning-rate"}) {
      learning_rates.push_back(*train_spec().find(name));
      learning_rates.back().group = "Machine";
      learning_rates.back().role = Role::call;
    }
    return CommandSpec{
        "bench",
        "Times the training step, its own bare integer products and the peak of such products, on random "
        "data or a file's.",
        {},
        joined({{call("layers", Kind::layers, "WIDTHS", "784,200,200,200", "Machine",
                      "widths of all layers, the visible one first"),
                 call("batch-size", Kind::whole, "N", "100", "Machine", "rows of a step", {1, 524288}), bits,
                 optimizer, algorithm, prior, visible,
                 call("samples", Kind::whole, "K", std::to_string(TrainingSettings{}.samples), "Machine",
                      "hidden states drawn for each image, where the algorithm draws several", {1, 1048576})},
                learning_rates,
                {call("seconds", Kind::number, "S", "10", "Measurement", "time to measure for, about",
                      above_zero),
                 call("rounds", Kind::whole, "N", "9", "Measurement",
                      "rounds of steps, bare products and the peak in turn", {1, 10000}),
                 call("after", Kind::whole, "STEPS", "0", "Measurement",
                      "steps to train before, since what has been learnt may change what a step takes",
                      {0, 1e9}),
                 json_option()},
                {seed_option("random data, the weights and the draws"),
                 call("data", Kind::text, "FILE", "", "Data",
                      "IDX, IDX.gz, NPY or AMAT file to train on instead of random data; grey values are on "
                      "from 128 upward")},
                data_shape_options(Role::call),
                {placement_option(Role::call)},
                computing_options(Role::call)})};
  }();
  return spec;
}

int bench(const Arguments& arguments) {
  Subject subject = subject_of(arguments);
  const Device device = choose_device(arguments);
  const MemoryPlan plan = plan_of(*device.ops, subject);
  device.ops->reset_peak();  // what the plan tried is not what the training takes
  subject.placement.placement = plan.streamed ? DataPlacement::streamed : DataPlacement::resident;
  const std::int64_t batch_size = subject.settings.batch_size;
  const auto available = static_cast<std::int64_t>(
      std::min<std::size_t>(device.ops->available_memory(), std::numeric_limits<std::int64_t>::max()));
  Peak peak = make_squares(*device.ops, arguments, available - plan.total(batch_size));
  if (!arguments.flag("quiet")) print_plan(plan, peak, batch_size);
  check_plan(plan, peak, batch_size, available);
  const Timing timing = measure(*device.ops, subject, peak, arguments);
  if (arguments.flag("json")) {
    std::printf("%s\n", result_of(subject, timing, plan, peak, *device.ops, arguments).dump().c_str());
  } else {
    print_text(subject, timing, *device.ops, arguments);
  }
  return 0;
}

}  // namespace wakesleep::command
