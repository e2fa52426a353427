#include "command/run_report.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>

#include "command/model_input.hpp"
#include "command/pictures.hpp"
#include "command/progress.hpp"
#include "command/report.hpp"
#include "command/run_texts.hpp"
#include "command/values.hpp"
#include "file.hpp"
#include "wakesleep/generate.hpp"

namespace wakesleep::command {
namespace {

constexpr std::int64_t pictured_samples = 100;
constexpr std::int64_t pictured_reconstructions = 10;
constexpr std::int64_t pictured_fields = 100;
/// Of a picture of a run. Larger ones hold fewer images: encoding them would take longer than the training.
constexpr std::int64_t most_pixels = std::int64_t{1} << 26;

/// As many images as fit most_pixels, at least one and at most `count`: `lines` above each other for each of
/// them, side by side, or in a grid where it is 0.
std::int64_t images_that_fit(std::int64_t count, std::int64_t height, std::int64_t width,
                             std::int64_t lines = 0) {
  const auto pixels = [&] {
    const Extent extent =
        lines > 0 ? grid_extent(lines * count, height, width, count) : grid_extent(count, height, width);
    return extent.width * extent.height;
  };
  while (count > 1 && pixels() > most_pixels) --count;
  return count;
}

ReportPoint point_of(const EpochRecord& record) {
  const Evaluation& e = record.evaluation;
  return {.epoch = static_cast<double>(record.epoch),
          .seconds = record.seconds,
          .log_likelihood = e.log_likelihood,
          .bound = e.bound,
          .effective_sample_size = e.effective_sample_size,
          .images_per_second = record.images_per_second,
          .layer_kl = e.layer_kl,
          .layer_mismatch = e.layer_mismatch,
          .active_units = e.active_units,
          .diagnostics = record.diagnostics};
}

std::vector<ReportLayer> layers_of(const Machine& machine, const Evaluation& e) {
  const double none = std::numeric_limits<double>::quiet_NaN();
  std::vector<ReportLayer> layers;
  for (int i = 0; i < machine.conditionals(); ++i) {
    const Conditional& conditional = machine.conditional(i);
    layers.push_back({.name = machine.conditional_name(i),
                      .shape = shape_of(conditional),
                      .parameters = parameters_of(conditional),
                      .kl = none,
                      .active = -1,
                      .mismatch = none});
  }
  for (int l = 1; l <= machine.layers(); ++l) {
    ReportLayer& layer = layers[static_cast<std::size_t>(Machine::recognition_index(l))];
    layer.kl = e.layer_kl[static_cast<std::size_t>(l - 1)];
    layer.active = e.active_units[static_cast<std::size_t>(l - 1)];
    // A line of metrics that an older version wrote has none.
    if (!e.layer_mismatch.empty()) layer.mismatch = e.layer_mismatch[static_cast<std::size_t>(l - 1)];
  }
  return layers;
}

std::vector<ReportPicture> pictures_of(const ShownRun& run, const Model& model, const Picture& samples) {
  std::int64_t height = model.height;
  std::int64_t width = model.width;
  picture_shape(model.sizes.front(), height, width);
  const DataSet rows =
      first_rows(run.evaluated,
                 images_that_fit(std::min(pictured_reconstructions, run.evaluated.rows), height, width, 2));
  std::vector<float> pairs = values_of(rows);
  const std::vector<float> again = reconstruct(run.trainer.machine(), rows, model.settings.seed);
  pairs.insert(pairs.end(), again.begin(), again.end());
  const std::int64_t fields = images_that_fit(std::min(pictured_fields, model.sizes[1]), height, width);
  return {
      {"Samples",
       (model.settings.visible == Visible::gaussian ? "Visible means of " : "Visible probabilities of ") +
           counted(images_that_fit(pictured_samples, height, width), "dream") +
           ": states from the prior downward by the generative weights.",
       samples},
      {"Reconstructions",
       "Above: rows of the " + run.evaluated_on +
           " data. Below: their reconstructions, up by the recognition weights and down again.",
       image_grid(pairs.data(), 2 * rows.rows, height, width, rows.rows)},
      {"Receptive fields of the first layer",
       "Rows of recognition.1.weight, each scaled by its largest magnitude; zero is middle grey.",
       receptive_fields(model.tensors.at("recognition.1.weight").values.data(), fields, height, width)},
  };
}

Report report_of(const ShownRun& run, const Model& model, const EpochRecord& shown, const Picture& samples) {
  const EpochRecord& last = run.records.back();
  const Evaluation& e = shown.evaluation;
  std::string epoch = std::to_string(shown.epoch) + " of " + std::to_string(model.settings.epochs);
  if (shown.epoch != last.epoch) epoch += " (the best of the " + std::to_string(last.epoch) + " trained)";
  Report report;
  report.title = run.folder.path().substr(run.folder.path().rfind('/') + 1);
  report.facts = {
      {"Data", run.data_summary},
      {estimate_name(model.settings, shown),
       decimals(e.log_likelihood, 2) + " +- " + decimals(e.standard_error, 2) + " nats"},
      {"Bound (K=1)", decimals(e.bound, 2) + " nats"},
      {"Epoch", epoch},
      {"Training time", duration_text(last.seconds)},
      {"Parameters", with_commas(run.trainer.machine().parameters())},
      {"Device", run.device.ops->description()},
      {"Arithmetic contract", std::string(arithmetic_contract) + ": " + promise_of(model.settings)},
      {"Model hash", model.hash},
  };
  report.settings = used_settings(model.settings);
  report.likelihood = likelihood_name(model.settings);
  report.samples = e.samples;
  report.evaluated_on = shown.evaluated_on + ", " + counted(e.rows, "row");
  for (const EpochRecord& record : run.records) report.curve.push_back(point_of(record));
  report.layers = layers_of(run.trainer.machine(), e);
  report.pictures = pictures_of(run, model, samples);
  return report;
}

}  // namespace

bool is_pictured(std::int64_t epoch) {
  while (epoch % 10 == 0) epoch /= 10;
  return epoch == 1 || epoch == 2 || epoch == 5;
}

void write_samples_and_report(const ShownRun& run, const EpochRecord& shown) {
  const Model model = run.trainer.snapshot();
  std::int64_t height = model.height;
  std::int64_t width = model.width;
  picture_shape(model.sizes.front(), height, width);
  const std::int64_t count = images_that_fit(pictured_samples, height, width);
  const std::vector<float> dreams = dream(run.trainer.machine(), count, model.settings.seed);
  const Picture samples = image_grid(dreams.data(), count, height, width);
  const std::vector<std::uint8_t> png = png_bytes(samples);
  write_file_atomically(run.folder.sample(shown.epoch), png.data(), png.size());
  const std::string page = render(report_of(run, model, shown, samples));
  write_file_atomically(run.folder.report(), page.data(), page.size());
}

}  // namespace wakesleep::command
