// The data of a training run: what it trains on and what it is evaluated on.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include "command/model_input.hpp"
#include "command/progress.hpp"
#include "command/values.hpp"

namespace wakesleep::command {

/// One line for logs and reports. `values` says what they are.
inline std::string summary_of(const DataSet& data, const std::vector<double>& means,
                              const std::string& values) {
  const double mean = std::accumulate(means.begin(), means.end(), 0.0) / static_cast<double>(means.size());
  std::string summary = data.source + ": " + counted(data.rows, "row") + " of " + counted(data.units, "unit");
  if (data.height > 0) {
    summary += " (" + std::to_string(data.height) + " x " + std::to_string(data.width) + " images)";
  }
  summary += ", " + values + ", mean " + decimals(mean, 4);
  return summary;
}

inline std::string binarization_text(const TrainingSettings& settings) {
  if (settings.visible == Visible::gaussian) return "grey, as values from 0 to 1";
  if (settings.binarization == Binarization::threshold) {
    return "grey, on from " + std::to_string(settings.threshold) + " upward";
  }
  return std::string("grey, binarized ") +
         (settings.binarization == Binarization::fixed ? "once" : "anew each epoch") + " at random";
}

/// Smallest and largest grey value.
struct GreyRange {
  int smallest = 0;
  int largest = 0;
};

inline GreyRange grey_range(const DataSet& grey) {
  const auto [smallest, largest] = std::minmax_element(grey.bytes.begin(), grey.bytes.end());
  return {*smallest, *largest};
}

/// What to say of binary training rows that are all the same, of which a machine learns nothing; else empty.
/// `thresholded` are the grey values that they were made of, if they were.
inline std::string constant_rows_warning(const DataSet& data, const std::vector<double>& means,
                                         const std::optional<GreyRange>& thresholded,
                                         const TrainingSettings& settings) {
  const bool constant =
      std::all_of(means.begin(), means.end(), [](double mean) { return mean == 0 || mean == 1; });
  if (data.grey || data.rows < 2 || !constant) return "";
  const std::string same = "every unit has the same value in all rows, so that there is nothing to learn";
  if (!thresholded)
    return "WARNING: in the training rows of " + data.source + " " + same + "; check the data";
  return "WARNING: in the training rows of " + data.source + ", on from " +
         std::to_string(settings.threshold) + " upward, " + same + "; the largest grey value there is " +
         std::to_string(thresholded->largest) + " and the smallest " + std::to_string(thresholded->smallest) +
         ": give a --threshold between them, or scale the data to values from 0 to 255";
}

/// The data of a run: rows to train on and rows to evaluate on, the latter binary, or grey where the visible
/// units are Gaussian.
struct RunData {
  DataSet training;
  DataSet evaluated;
  std::string evaluated_on;
  std::string summary;  ///< of the training rows
  std::string warning;  ///< of training rows that hold nothing to learn; may be empty
};

inline std::int64_t held_out_rows(double fraction, std::int64_t rows, const std::string& text) {
  const std::int64_t count = std::llround(fraction * static_cast<double>(rows));
  if (fraction > 0 && fraction < 1 && count >= 1 && count < rows) return count;
  throw UsageError(
      "option --validation has the value '" + text + "', which would hold out " +
      decimals(fraction * static_cast<double>(rows), 1) + " of " + std::to_string(rows) +
      " rows; expected a file, or a fraction above 0 and below 1 that leaves rows on both sides");
}

inline DataSet read_validation_file(const std::string& path, const DataSet& training,
                                    const Arguments& arguments) {
  DataSet data = read_data(path, read_options(arguments));
  if (data.units != training.units) {
    throw DataError("the validation file " + data.source + " has rows of " + std::to_string(data.units) +
                    " units where the training data " + training.source + " has " +
                    std::to_string(training.units) + "; give files of the same shape");
  }
  return data;
}

inline RunData read_run_data(const Arguments& arguments, const TrainingSettings& settings) {
  RunData data;
  DataSet raw = read_data(arguments.required("data"), read_options(arguments));
  const bool grey = raw.grey;
  const Binarization how =
      settings.visible == Visible::gaussian ? Binarization::dynamic : settings.binarization;  // none here
  std::optional<GreyRange> thresholded;
  if (grey && how == Binarization::threshold) thresholded = grey_range(raw);
  data.training = binarize(std::move(raw), how, settings.threshold, settings.seed);

  const std::int64_t limit = arguments.whole("evaluate-rows");
  // Rows of another file draw by another seed, so that no two rows of a run are binarized by the same draws.
  const std::uint64_t evaluation_seed = settings.seed + 1;
  const std::string validation = arguments.text("validation");
  double fraction = 0;
  DataSet evaluated;
  if (validation.empty()) {
    data.evaluated_on = "training";
    evaluated = first_rows(data.training, limit);
  } else if (parse_number(validation, fraction)) {
    data.evaluated_on = "validation";
    const std::int64_t count = held_out_rows(fraction, data.training.rows, validation);
    evaluated = hold_out(data.training, count, settings.seed);
    keep_first_rows(evaluated, limit);
  } else {
    data.evaluated_on = "validation";
    evaluated = read_validation_file(validation, data.training, arguments);
    keep_first_rows(evaluated, limit);
  }
  data.evaluated = binarize_for_evaluation(std::move(evaluated), settings, evaluation_seed);
  const std::vector<double> means = unit_means(data.training);
  data.summary = summary_of(data.training, means, grey ? binarization_text(settings) : "binary");
  data.warning = constant_rows_warning(data.training, means, thresholded, settings);
  return data;
}

}  // namespace wakesleep::command
