// `wakesleep evaluate`: the likelihood of data under a model.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <numeric>

#include <nlohmann/json.hpp>

#include "command/commands.hpp"
#include "command/model_input.hpp"
#include "command/progress.hpp"
#include "command/values.hpp"
#include "wakesleep/error.hpp"
#include "wakesleep/evaluate.hpp"
#include "wakesleep/partition.hpp"

namespace wakesleep::command {
namespace {

struct Measured {
  Evaluation evaluation;
  double seconds = 0;
  bool has_exact = false;
  double exact = 0;
  bool bidirectional = false;  ///< a machine of which p* is the likelihood that counts
  PartitionEstimate partition;

  /// log p*(x) = log p~*(x) - 2 log Z; the two estimates are independent.
  double bidirectional_log_likelihood() const { return evaluation.unnormalized - partition.log_partition; }
  double bidirectional_standard_error() const {
    const double of_data = evaluation.unnormalized_standard_error;
    const double of_partition = partition.standard_error;
    return std::sqrt(of_data * of_data + of_partition * of_partition);  // hypot is not the same everywhere
  }
};

bool is_bidirectional(const OpenModel& open) {
  return open.model.settings.algorithm == Algorithm::bidirectional_helmholtz;
}

Evaluation estimate(const OpenModel& open, const DataSet& data, const Arguments& arguments) {
  Progress progress(stderr, verbosity_for(stderr, arguments.flag("quiet")), "evaluating", "images",
                    data.rows);
  EvaluationSettings settings;
  settings.samples = arguments.whole("samples");
  settings.seed = arguments.seed("seed");
  settings.bidirectional = is_bidirectional(open);
  settings.progress = [&](std::int64_t done, std::int64_t) { progress.update(done); };
  return wakesleep::evaluate(open.machine, data, settings);
}

PartitionEstimate partition_of(const OpenModel& open, const Arguments& arguments) {
  PartitionSettings settings;
  settings.dreams = arguments.whole("dreams");
  settings.seed = arguments.seed("seed");
  Progress progress(stderr, verbosity_for(stderr, arguments.flag("quiet")), "normalising", "dreams",
                    settings.dreams);
  settings.progress = [&](std::int64_t done, std::int64_t) { progress.update(done); };
  return estimate_partition(open.machine, settings);
}

Measured measure(const OpenModel& open, const DataSet& data, const Arguments& arguments) {
  Measured measured;
  if (arguments.flag("exact")) {  // first, because it refuses at once what the estimate would take long for
    Progress enumeration(stderr, verbosity_for(stderr, arguments.flag("quiet")), "enumerating", "images",
                         data.rows);
    const std::vector<double> exact = exact_log_likelihood(
        open.machine, data, 0, [&](std::int64_t done, std::int64_t) { enumeration.update(done); });
    measured.exact = std::accumulate(exact.begin(), exact.end(), 0.0) / static_cast<double>(exact.size());
    measured.has_exact = true;
  }
  const auto begin = std::chrono::steady_clock::now();
  measured.evaluation = estimate(open, data, arguments);
  measured.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (is_bidirectional(open)) {
    measured.bidirectional = true;
    measured.partition = partition_of(open, arguments);
  }
  return measured;
}

double images_per_second(const Measured& measured) {
  return static_cast<double>(measured.evaluation.rows) / std::max(measured.seconds, 1e-9);
}

void print_json(const Measured& measured, const OpenModel& open) {
  const Evaluation& e = measured.evaluation;
  nlohmann::ordered_json json = {
      {"nll", 0.0 - e.log_likelihood},
      {"log_likelihood", e.log_likelihood},
      {"standard_error", e.standard_error},
      {"bound", e.bound},
      {"bound_standard_error", e.bound_standard_error},
      {"effective_sample_size", e.effective_sample_size},
      {"rows", e.rows},
      {"samples", e.samples},
      {"layer_kl", e.layer_kl},
      {"active_units", e.active_units},
      {"layer_mismatch", e.layer_mismatch},
      {"images_per_second", images_per_second(measured)},
      {"seconds", measured.seconds},
      {"visible", name_of(open.model.settings.visible)},
      {"hash", open.model.hash},
  };
  if (measured.has_exact) json["exact_log_likelihood"] = measured.exact;
  if (measured.bidirectional) {
    json["bidirectional_log_likelihood"] = measured.bidirectional_log_likelihood();
    json["bidirectional_standard_error"] = measured.bidirectional_standard_error();
    json["log_partition"] = measured.partition.log_partition;
    json["log_partition_standard_error"] = measured.partition.standard_error;
    json["dreams"] = measured.partition.dreams;
  }
  std::printf("%s\n", json.dump().c_str());
}

void print_line(const std::string& name, const std::string& value) {
  std::printf("%-46s %s\n", name.c_str(), value.c_str());
}

void print_text(const Measured& measured, const OpenModel& open, const DataSet& data) {
  const Evaluation& e = measured.evaluation;
  const std::string k = "K=" + with_commas(e.samples);
  print_line("data", data.source + ", " + counted(e.rows, "row"));
  const std::string name = likelihood_name(open.model.settings);
  print_line(name + " estimate (" + k + ")",
             decimals(e.log_likelihood, 3) + " nats, standard error " + decimals(e.standard_error, 3));
  print_line("negative " + name + " estimate (" + k + ")", decimals(0.0 - e.log_likelihood, 3) + " nats");
  print_line("bound (K=1)",
             decimals(e.bound, 3) + " nats, standard error " + decimals(e.bound_standard_error, 3));
  print_line("effective sample size (of " + k + ")", decimals(e.effective_sample_size, 2));
  if (measured.has_exact)
    print_line("exact " + name + " (enumeration)", decimals(measured.exact, 6) + " nats");
  if (measured.bidirectional) {
    print_line("log-likelihood estimate of p* (" + k + ")",
               decimals(measured.bidirectional_log_likelihood(), 3) + " nats, standard error " +
                   decimals(measured.bidirectional_standard_error(), 3));
    print_line("2 log Z (" + with_commas(measured.partition.dreams) + " dreams)",
               decimals(measured.partition.log_partition, 3) + " nats, standard error " +
                   decimals(measured.partition.standard_error, 3));
  }
  for (std::size_t l = 0; l < e.layer_kl.size(); ++l) {
    print_line("layer " + std::to_string(l + 1),
               "KL " + decimals(e.layer_kl[l], 3) + " nats, " + with_commas(e.active_units[l]) + " of " +
                   with_commas(open.model.sizes[l + 1]) + " units active, mismatch " +
                   decimals(e.layer_mismatch[l], 4));
  }
  print_line("time", decimals(measured.seconds, 2) + " s, " +
                         with_commas(std::llround(images_per_second(measured))) + " images/s");
  print_line("model hash", open.model.hash);
}

}  // namespace

const CommandSpec& evaluate_spec() {
  static const CommandSpec spec = {
      "evaluate",
      "Estimates the log-likelihood of DATA under MODEL.",
      {model_positional(), data_positional()},
      joined(
          {{call("samples", Kind::whole, "K", std::to_string(EvaluationSettings{}.samples), "Evaluation",
                 "samples per row of the importance-sampled estimate", {1, 1048576}),
            flag("exact", "Evaluation",
                 "also the exact log-likelihood, where the hidden states are few enough"),
            limit_option("0", "use the first rows only; 0: all"),
            call("dreams", Kind::whole, "N", std::to_string(PartitionSettings{}.dreams), "Evaluation",
                 "dreams for the normalising constant of a bidirectional Helmholtz machine", {1, 2147483648}),
            json_option()},
           data_shape_options(Role::call),
           {seed_option("the posterior samples")},
           computing_options(Role::call)})};
  return spec;
}

int evaluate(const Arguments& arguments) {
  const OpenModel open(arguments);
  if (arguments.given("dreams") && !is_bidirectional(open)) {
    throw UsageError(
        "--dreams is for models trained as bidirectional-helmholtz, and this one was trained as " +
        std::string(name_of(open.model.settings.algorithm)) + ": leave it out");
  }
  const DataSet data = read_data_for(open, arguments, arguments.whole("limit"));
  if (!arguments.flag("quiet")) {
    std::fprintf(stderr, "device: %s: %s\n", open.device.reason.c_str(),
                 open.device.ops->description().c_str());
  }
  const Measured measured = measure(open, data, arguments);
  if (arguments.flag("json")) {
    print_json(measured, open);
  } else {
    print_text(measured, open, data);
  }
  return 0;
}

}  // namespace wakesleep::command
