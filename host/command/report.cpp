#include "command/report.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <limits>
#include <set>

#include "command/chart.hpp"
#include "command/html.hpp"
#include "command/progress.hpp"
#include "command/report_style.hpp"

namespace wakesleep::command {
namespace {

constexpr const char* absent = "\xE2\x80\x93";  // an en dash: does not apply

std::string number_cell(const std::string& text) {
  return "<td class=\"number\">" + escape_html(text) + "</td>";
}

std::string section(const std::string& title, const std::string& body) {
  return "<section>\n" + element("h2", title) + "\n" + body + "</section>\n";
}

std::string facts_section(const Report& report) {
  if (report.facts.empty()) return "";
  constexpr std::size_t longest_short_fact = 40;
  std::string list;
  for (const auto& [name, value] : report.facts) {
    const bool one_word = value.find(' ') == std::string::npos;  // a hash, a path
    const char* const kind = value.size() <= longest_short_fact ? ""
                             : one_word                         ? " class=\"wide code\""
                                                                : " class=\"wide\"";
    list += std::string("<div") + kind + ">" + element("dt", name) + element("dd", value) + "</div>\n";
  }
  return "<dl class=\"facts\">\n" + list + "</dl>\n";
}

// -------------------------------------------------------------------------------- likelihood

Chart chart_against(const Report& report, const std::string& title, const std::string& unit,
                    double least_step, double ReportPoint::*horizontal) {
  Series estimate{report.likelihood + " estimate", "estimate", {}};
  Series bound{"bound", "bound", {}};
  Chart chart{"nats", " nats", 1, title, unit, least_step, {}, {}};
  for (const ReportPoint& point : report.curve) {
    chart.horizontal.push_back(point.*horizontal);
    estimate.values.push_back(point.log_likelihood);
    bound.values.push_back(point.bound);
  }
  chart.series = {std::move(estimate), std::move(bound)};
  return chart;
}

std::string legend_entry(const std::string& css_class, const std::string& name) {
  return "<span class=\"key\"><svg viewBox=\"0 0 28 8\" class=\"swatch\" aria-hidden=\"true\"><path d=\"M1 "
         "4 L27 4\" class=\"" +
         css_class + "\"/></svg>" + escape_html(name) + "</span>\n";
}

std::string legend(const Report& report) {
  return "<p class=\"legend\">" +
         legend_entry("estimate", report.likelihood + " estimate (importance-sampled, K = " +
                                      with_commas(report.samples) + ")") +
         legend_entry("bound", "bound (variational, K = 1)") + "</p>\n";
}

std::string curve_table(const Report& report) {
  std::string rows;
  for (const ReportPoint& point : report.curve) {
    rows +=
        "<tr>" + number_cell(typeset_number(point.epoch, 0)) + number_cell(typeset_number(point.seconds, 1)) +
        number_cell(typeset_number(point.log_likelihood, 2)) + number_cell(typeset_number(point.bound, 2)) +
        number_cell(typeset_number(point.effective_sample_size, 1)) +
        number_cell(point.images_per_second > 0 ? typeset_number(point.images_per_second, 0) : absent) +
        "</tr>\n";
  }
  return "<details><summary>The same as a table</summary>\n<div class=\"scroll\"><table>\n<thead><tr>"
         "<th class=\"number\">epoch</th><th class=\"number\">seconds</th>"
         "<th class=\"number\">" +
         escape_html(report.likelihood) +
         " estimate, nats</th><th class=\"number\">bound, nats</th>"
         "<th class=\"number\">effective sample size</th><th "
         "class=\"number\">images/s</th></tr></thead>\n<tbody>\n" +
         rows + "</tbody></table></div></details>\n";
}

std::string curves_section(const Report& report) {
  std::string title = report.likelihood;
  title[0] = 'L';
  if (report.curve.empty()) {
    return section(
        title, element("p", "No evaluation was made during this run, so there is no curve to draw.") + "\n");
  }
  const Chart by_epoch = chart_against(report, "epoch", "epochs", 1, &ReportPoint::epoch);
  const Chart by_seconds = chart_against(report, "seconds of training", "s", 0, &ReportPoint::seconds);
  const std::string where = report.evaluated_on.empty() ? "" : " on " + report.evaluated_on;
  std::string body =
      element("p", "Nats per image" + where +
                       "; higher is better. The estimate lies above the bound, and both lie below the "
                       "true value on average.");
  body += "\n" + legend(report) + "<div class=\"charts\">\n<figure>" + svg_of(by_epoch) +
          "</figure>\n<figure>" + svg_of(by_seconds) + "</figure>\n</div>\n";
  return section(title, body + curve_table(report));
}

// -------------------------------------------------------------------------------- diagnostics

/// Curves that a chart shows at most; of deeper machines, layers at even distances.
constexpr std::size_t most_layer_curves = 6;

std::vector<std::size_t> shown_layers(std::size_t layers) {
  std::vector<std::size_t> shown;
  const std::size_t count = std::min(layers, most_layer_curves);
  for (std::size_t i = 0; i < count; ++i) shown.push_back(count > 1 ? i * (layers - 1) / (count - 1) : 0);
  return shown;
}

std::string layer_class(std::size_t curve) { return "curve-" + std::to_string(curve); }

/// A chart over the epochs without curves yet.
Chart chart_over_epochs(const Report& report, const std::string& vertical_title, const std::string& unit,
                        int digits) {
  Chart chart{vertical_title, unit, digits, "epoch", "epochs", 1, {}, {}};
  for (const ReportPoint& point : report.curve) chart.horizontal.push_back(point.epoch);
  return chart;
}

/// One curve for each layer shown.
template <class Value>
Chart layer_chart(Chart chart, const Report& report, std::size_t layers,
                  std::vector<Value> ReportPoint::*values) {
  const std::vector<std::size_t> shown = shown_layers(layers);
  for (std::size_t curve = 0; curve < shown.size(); ++curve) {
    Series series{"layer " + std::to_string(shown[curve] + 1), layer_class(curve), {}};
    for (const ReportPoint& point : report.curve) {
      const std::vector<Value>& of_layers = point.*values;
      series.values.push_back(shown[curve] < of_layers.size() ? static_cast<double>(of_layers[shown[curve]])
                                                              : std::numeric_limits<double>::quiet_NaN());
    }
    chart.series.push_back(std::move(series));
  }
  return chart;
}

std::string chart_figure(const std::string& title, const Chart& chart) {
  return "<figure>\n" + element("h3", title) + "\n" + svg_of(chart) + "</figure>\n";
}

std::string layer_legend(std::size_t layers) {
  std::string entries;
  const std::vector<std::size_t> shown = shown_layers(layers);
  for (std::size_t curve = 0; curve < shown.size(); ++curve) {
    entries += legend_entry(layer_class(curve), "layer " + std::to_string(shown[curve] + 1));
  }
  return "<p class=\"legend\">" + entries + "</p>\n";
}

/// A curve for everything that the algorithm says of itself ("acceptance_rate").
std::string algorithm_figures(const Report& report) {
  std::set<std::string> names;
  for (const ReportPoint& point : report.curve) {
    for (const auto& [name, value] : point.diagnostics) names.insert(name);
  }
  std::string figures;
  for (const std::string& name : names) {
    std::string words = name;
    std::replace(words.begin(), words.end(), '_', ' ');
    Chart chart = chart_over_epochs(report, words, "", 3);
    Series series{words, "estimate", {}};
    for (const ReportPoint& point : report.curve) {
      const auto found = point.diagnostics.find(name);
      series.values.push_back(found != point.diagnostics.end() ? found->second
                                                               : std::numeric_limits<double>::quiet_NaN());
    }
    chart.series = {std::move(series)};
    words[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(words[0])));
    figures += chart_figure(words, chart);
  }
  return figures;
}

std::string diagnostics_section(const Report& report) {
  std::size_t layers = 0;
  bool mismatch = false;
  for (const ReportPoint& point : report.curve) {
    layers = std::max(layers, point.layer_kl.size());
    mismatch = mismatch || !point.layer_mismatch.empty();
  }
  if (layers == 0) return "";
  Chart sizes = chart_over_epochs(report, "samples", "", 2);
  Series effective{"effective sample size", "estimate", {}};
  for (const ReportPoint& point : report.curve) effective.values.push_back(point.effective_sample_size);
  sizes.series = {std::move(effective)};
  std::string figures =
      chart_figure("Kullback-Leibler divergence", layer_chart(chart_over_epochs(report, "nats", " nats", 2),
                                                              report, layers, &ReportPoint::layer_kl)) +
      chart_figure("Active units", layer_chart(chart_over_epochs(report, "units", "", 0), report, layers,
                                               &ReportPoint::active_units));
  if (mismatch) {
    figures += chart_figure("Mismatch of recognition and generation",
                            layer_chart(chart_over_epochs(report, "mean difference of probabilities", "", 4),
                                        report, layers, &ReportPoint::layer_mismatch));
  }
  figures += chart_figure("Effective sample size, of K = " + with_commas(report.samples), sizes);
  return section("Diagnostics",
                 element("p",
                         "By hidden layer, counted from the data upward: the divergence of the recognition "
                         "model's states from the generative model's, which is what a layer carries; active "
                         "units, on in 1 % to 99 % of the samples, that is neither almost always off nor "
                         "almost always on, whether they carry anything or not; and how far apart the two "
                         "models' probabilities of a unit lie.") +
                     "\n" + layer_legend(layers) + "<div class=\"charts\">\n" + figures +
                     algorithm_figures(report) + "</div>\n");
}

// -------------------------------------------------------------------------------- tables and pictures

std::string layers_section(const Report& report) {
  if (report.layers.empty()) return "";
  std::string rows;
  std::int64_t parameters = 0;
  for (const ReportLayer& layer : report.layers) {
    parameters += layer.parameters;
    rows += "<tr>" + element("td", layer.name) + element("td", layer.shape) +
            number_cell(with_commas(layer.parameters)) +
            number_cell(std::isnan(layer.kl) ? absent : typeset_number(layer.kl, 2)) +
            number_cell(layer.active < 0 ? absent : with_commas(layer.active)) +
            number_cell(std::isnan(layer.mismatch) ? absent : typeset_number(layer.mismatch, 4)) + "</tr>\n";
  }
  rows += "<tr class=\"total\"><td>all</td><td></td>" + number_cell(with_commas(parameters)) +
          "<td></td><td></td><td></td></tr>\n";
  return section("Layers",
                 "<div class=\"scroll\"><table>\n<thead><tr><th>layer</th><th>weights</th>"
                 "<th class=\"number\">parameters</th><th class=\"number\">KL, nats</th>"
                 "<th class=\"number\">active units</th><th class=\"number\">mismatch</th></tr></thead>\n"
                 "<tbody>\n" +
                     rows + "</tbody></table></div>\n");
}

/// How many times a picture is enlarged on the page: whole times, so that its pixels stay square.
std::int64_t enlargement(const Picture& picture) {
  constexpr std::int64_t comfortable_width = 600, comfortable_height = 600, most = 12;
  return std::clamp(std::min(comfortable_width / picture.width, comfortable_height / picture.height),
                    std::int64_t{1}, most);
}

std::string figure(const ReportPicture& entry) {
  std::string html = "<figure class=\"picture\">\n" + element("h3", entry.title) + "\n";
  const Picture& picture = entry.picture;
  if (picture.width > 0 && picture.height > 0) {
    const std::int64_t times = enlargement(picture);
    html += "<img width=\"" + std::to_string(picture.width * times) + "\" height=\"" +
            std::to_string(picture.height * times) + "\" alt=\"" + escape_html(entry.title) +
            "\" src=\"data:image/png;base64," + base64(png_bytes(picture)) + "\">\n";
  } else {
    html += element("p", "There was nothing to draw.") + "\n";
  }
  return html + element("figcaption", entry.caption) + "\n</figure>\n";
}

std::string pictures_section(const Report& report) {
  if (report.pictures.empty()) return "";
  std::string figures;
  for (const ReportPicture& picture : report.pictures) figures += figure(picture);
  return section("Pictures", "<div class=\"pictures\">\n" + figures + "</div>\n");
}

std::string settings_section(const Report& report) {
  if (report.settings.empty()) return "";
  std::string rows;
  for (const auto& [name, value] : report.settings) {
    rows += "<tr><th scope=\"row\">" + escape_html(name) + "</th>" + element("td", value) + "</tr>\n";
  }
  return section("Settings", "<div class=\"scroll\"><table class=\"settings\"><tbody>\n" + rows +
                                 "</tbody></table></div>\n<p class=\"note\">Learning rates multiply the mean "
                                 "gradient over the batch.</p>\n");
}

}  // namespace

std::string render(const Report& report) {
  const std::string title = escape_html(report.title);
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
         title + " \xC2\xB7 wakesleep</title>\n<style>" + report_style +
         "</style>\n</head>\n<body>\n<main>\n" + "<h1><small>wakesleep run</small>" + title + "</h1>\n" +
         facts_section(report) + curves_section(report) + diagnostics_section(report) +
         layers_section(report) + pictures_section(report) + settings_section(report) +
         "</main>\n</body>\n</html>\n";
}

}  // namespace wakesleep::command
