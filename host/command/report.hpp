// The report of a run: one self-contained HTML page, curves as SVG, pictures inline.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "command/pictures.hpp"

namespace wakesleep::command {

struct ReportPoint {
  double epoch = 0;
  double seconds = 0;         ///< of training, validation not counted
  double log_likelihood = 0;  ///< importance-sampled estimate with `samples` samples, nats
  double bound = 0;           ///< K = 1 bound, nats
  double effective_sample_size = 0;
  double images_per_second = 0;
  std::vector<double> layer_kl;        ///< nats; by hidden layer, as the two below
  std::vector<double> layer_mismatch;  ///< mean difference of probabilities; empty: not measured
  std::vector<std::int64_t> active_units;
  std::map<std::string, double> diagnostics;  ///< of the algorithm, such as acceptance_rate
};

struct ReportPicture {
  std::string title;    ///< "Samples", "Reconstructions", "Receptive fields of the first layer"
  std::string caption;  ///< what is seen, and from which tensors
  Picture picture;
};

struct ReportLayer {
  std::string name;  ///< "recognition.1", ...
  std::string shape;
  std::int64_t parameters = 0;
  double kl = 0;             ///< nats; NaN where it does not apply
  std::int64_t active = -1;  ///< active units; -1 where it does not apply
  double mismatch = 0;       ///< NaN where it does not apply
};

struct Report {
  std::string title;                                       ///< run folder's name
  std::vector<std::pair<std::string, std::string>> facts;  ///< headline: data, hash, test estimate, ...
  std::vector<std::pair<std::string, std::string>> settings;
  std::string likelihood = "log-likelihood";  ///< what it is called (likelihood_name)
  std::int64_t samples = 0;                   ///< K of the curve
  std::string evaluated_on;                   ///< "validation, 1,000 rows"
  std::vector<ReportPoint> curve;
  std::vector<ReportLayer> layers;
  std::vector<ReportPicture> pictures;
};

/// The page as UTF-8 HTML. Everything that comes from outside is escaped.
std::string render(const Report& report);

}  // namespace wakesleep::command
