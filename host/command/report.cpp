#include "command/report.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <limits>
#include <optional>
#include <set>

#include "command/progress.hpp"

namespace wakesleep::command {
namespace {

// ---------------------------------------------------------------------------------------------- text

constexpr const char* replacement_character = "\xEF\xBF\xBD";  // U+FFFD
constexpr const char* minus_sign = "\xE2\x88\x92";             // U+2212
constexpr const char* absent = "\xE2\x80\x93";                 // an en dash: does not apply

std::uint8_t byte_at(const std::string& text, std::size_t place) {
  return place < text.size() ? static_cast<std::uint8_t>(text[place]) : 0;
}

/// Length of the UTF-8 character at `place`, 0 if there is no valid and printable one (Unicode 15, table
/// 3-7).
std::size_t printable_length(const std::string& text, std::size_t place) {
  const auto continues = [&](std::size_t offset) { return (byte_at(text, place + offset) & 0xC0) == 0x80; };
  const std::uint8_t lead = byte_at(text, place);
  const std::uint8_t second = byte_at(text, place + 1);
  if (lead < 0x80) return lead >= 0x20 && lead != 0x7F ? 1 : 0;
  if (lead < 0xC2 || lead > 0xF4 || !continues(1)) return 0;
  if (lead < 0xE0) return lead == 0xC2 && second < 0xA0 ? 0 : 2;  // U+0080 .. U+009F are controls
  if (lead < 0xF0) {
    const bool overlong = lead == 0xE0 && second < 0xA0;
    const bool surrogate = lead == 0xED && second > 0x9F;
    return continues(2) && !overlong && !surrogate ? 3 : 0;
  }
  const bool overlong = lead == 0xF0 && second < 0x90;
  const bool beyond_unicode = lead == 0xF4 && second > 0x8F;
  return continues(2) && continues(3) && !overlong && !beyond_unicode ? 4 : 0;
}

/// A number as people read it, with a true minus sign.
std::string number_text(double value, int digits) {
  std::string text = decimals(value, digits);
  if (text.front() == '-') text.replace(0, 1, minus_sign);
  return text;
}

std::string base64(const std::vector<std::uint8_t>& bytes) {
  static constexpr char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t available = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t j = 0; j < 3; ++j) group = group << 8 | (j < available ? bytes[i + j] : 0u);
    for (std::size_t j = 0; j < 4; ++j) {
      text += j <= available ? alphabet[group >> (18 - 6 * j) & 63u] : '=';
    }
  }
  return text;
}

// ---------------------------------------------------------------------------------------------- axes

/// What a chart can show: finite and of a magnitude that axes can label.
bool drawable(double value) { return std::abs(value) < 1e12; }

struct Axis {
  double low = 0;
  double high = 1;
  double step = 0.5;
  int digits = 1;

  double share(double value) const { return (value - low) / (high - low); }
};

/// The smallest of 1, 2, 5, 10, 20, ... times a power of ten that is at least `least`.
double round_step(double least) {
  const double power = std::pow(10.0, std::floor(std::log10(least)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= least) return factor * power;
  }
  return 10.0 * power;
}

void set_ticks(Axis& axis, int ticks, double least_step) {
  axis.step = std::max(round_step((axis.high - axis.low) / ticks), least_step);
  axis.digits = std::clamp(static_cast<int>(-std::floor(std::log10(axis.step) + 1e-9)), 0, 12);
}

/// An axis over the drawable ones of `values` with a little room around them and about `ticks` round ticks.
Axis axis_over(const std::vector<double>& values, int ticks) {
  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  for (const double value : values) {
    if (!drawable(value)) continue;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  if (low > high) return {};
  // Equal values still get an axis, wide enough that its ticks are different numbers.
  const double least_range = std::max(1e-6, std::max(std::abs(low), std::abs(high)) * 1e-6);
  const double room = high - low > least_range ? (high - low) * 0.06 : std::max(0.5, least_range);
  Axis axis{low - room, high + room, 0, 0};
  set_ticks(axis, ticks, 0);
  return axis;
}

/// An axis from zero, for what is counted from the start of the run; `least_step` 1 keeps whole numbers
/// whole.
Axis axis_from_zero(const std::vector<double>& values, int ticks, double least_step) {
  Axis axis{0, 0, 0, 0};
  for (const double value : values) {
    if (drawable(value)) axis.high = std::max(axis.high, value);
  }
  axis.high = std::max({axis.high, least_step, 1e-6});
  set_ticks(axis, ticks, least_step);
  return axis;
}

std::vector<double> ticks_of(const Axis& axis) {
  std::vector<double> ticks;
  const std::int64_t first = std::llround(std::ceil(axis.low / axis.step - 1e-9));
  const std::int64_t last = std::llround(std::floor(axis.high / axis.step + 1e-9));
  for (std::int64_t i = first; i <= last; ++i) ticks.push_back(static_cast<double>(i) * axis.step);
  return ticks;
}

// ---------------------------------------------------------------------------------------------- charts

// The drawing's own units; the page scales it to the column's width.
constexpr double chart_width = 560, chart_height = 330;
constexpr double plot_left = 64, plot_right = 494, plot_top = 16, plot_bottom = 276;
constexpr double label_height = 15;
constexpr std::size_t most_markers = 60;

struct Series {
  std::string name;
  std::string css_class;
  std::vector<double> values;
};

struct Chart {
  std::string vertical_title;
  std::string unit;  ///< after a value: " nats"
  int digits = 1;    ///< of a curve's last value; one more where the pointer rests on a point
  std::string horizontal_title;
  std::string horizontal_unit;  ///< after a number: "s"
  double least_step = 0;        ///< between two horizontal ticks
  std::vector<double> horizontal;
  std::vector<Series> series;
};

std::string coordinate(double value) { return decimals(value, 2); }

std::string svg_text(double x, double y, const std::string& css_class, const std::string& text) {
  return "<text x=\"" + coordinate(x) + "\" y=\"" + coordinate(y) + "\" class=\"" + css_class + "\">" +
         escape_html(text) + "</text>\n";
}

std::string svg_line(double x1, double y1, double x2, double y2, const std::string& css_class) {
  return "<line x1=\"" + coordinate(x1) + "\" y1=\"" + coordinate(y1) + "\" x2=\"" + coordinate(x2) +
         "\" y2=\"" + coordinate(y2) + "\" class=\"" + css_class + "\"/>\n";
}

/// One chart being drawn: the axes, and where values fall between them.
class ChartDrawing {
 public:
  explicit ChartDrawing(const Chart& chart)
      : chart_(chart), horizontal_(axis_from_zero(chart.horizontal, 6, chart.least_step)) {
    std::vector<double> all;
    for (const Series& series : chart.series)
      all.insert(all.end(), series.values.begin(), series.values.end());
    vertical_ = axis_over(all, 7);
  }

  std::string svg() const {
    std::string svg = "<svg viewBox=\"0 0 " + decimals(chart_width, 0) + " " + decimals(chart_height, 0) +
                      "\" role=\"img\" aria-label=\"" + escape_html(description()) + "\">\n" + axes();
    for (const Series& series : chart_.series) svg += curve(series);
    return svg + end_labels() + "</svg>\n";
  }

 private:
  double x(double value) const { return plot_left + horizontal_.share(value) * (plot_right - plot_left); }
  double y(double value) const { return plot_bottom - vertical_.share(value) * (plot_bottom - plot_top); }
  bool has_point(const Series& series, std::size_t i) const {
    return drawable(chart_.horizontal[i]) && chart_.horizontal[i] >= 0.0 && drawable(series.values[i]);
  }

  std::string description() const {
    std::string text;
    for (const Series& series : chart_.series) text += (text.empty() ? "" : " and ") + series.name;
    return text + ": " + chart_.vertical_title + " against " + chart_.horizontal_title;
  }

  std::string axes() const {
    std::string svg;
    for (const double tick : ticks_of(vertical_)) {
      svg += svg_line(plot_left, y(tick), plot_right, y(tick), "grid");
      svg += svg_text(plot_left - 8, y(tick) + 4, "tick end", number_text(tick, vertical_.digits));
    }
    for (const double tick : ticks_of(horizontal_)) {
      svg += svg_line(x(tick), plot_bottom, x(tick), plot_bottom + 5, "axis");
      svg += svg_text(x(tick), plot_bottom + 20, "tick middle", number_text(tick, horizontal_.digits));
    }
    svg += svg_line(plot_left, plot_bottom, plot_right, plot_bottom, "axis");
    svg += svg_text((plot_left + plot_right) / 2, plot_bottom + 42, "title middle", chart_.horizontal_title);
    const std::string height = coordinate((plot_top + plot_bottom) / 2);
    svg += "<text x=\"13\" y=\"" + height + "\" transform=\"rotate(-90 13 " + height +
           ")\" class=\"title middle\">" + escape_html(chart_.vertical_title) + "</text>\n";
    return svg;
  }

  /// The line, broken where a value cannot be drawn, and a marker at each point while they are few.
  std::string curve(const Series& series) const {
    std::string path, markers;
    bool pen_down = false;
    for (std::size_t i = 0; i < series.values.size(); ++i) {
      if (!has_point(series, i)) {
        pen_down = false;
        continue;
      }
      const std::string at_x = coordinate(x(chart_.horizontal[i])), at_y = coordinate(y(series.values[i]));
      path += (pen_down ? " L" : " M") + at_x + " " + at_y;
      pen_down = true;
      markers += "<circle cx=\"" + at_x + "\" cy=\"" + at_y + "\" r=\"3\" class=\"" + series.css_class +
                 "\"><title>" + escape_html(point_text(series, i)) + "</title></circle>\n";
    }
    if (path.empty()) return "";
    const std::string line = "<path d=\"" + path.substr(1) + "\" class=\"" + series.css_class + "\"/>\n";
    return series.values.size() <= most_markers ? line + markers : line;
  }

  std::string point_text(const Series& series, std::size_t i) const {
    return series.name + ": " + number_text(series.values[i], chart_.digits + 1) + chart_.unit + " at " +
           number_text(chart_.horizontal[i], 1) + " " + chart_.horizontal_unit;
  }

  std::optional<std::size_t> last_point(const Series& series) const {
    for (std::size_t i = series.values.size(); i-- > 0;) {
      if (has_point(series, i)) return i;
    }
    return std::nullopt;
  }

  /// Every curve's last value beside its end, the labels pushed apart where the curves meet.
  std::string end_labels() const {
    struct Label {
      double x, y;
      std::string css_class, text;
    };
    std::vector<Label> labels;
    for (const Series& series : chart_.series) {
      if (const auto last = last_point(series)) {
        labels.push_back({x(chart_.horizontal[*last]) + 9, y(series.values[*last]) + 4,
                          "last " + series.css_class, number_text(series.values[*last], chart_.digits)});
      }
    }
    std::sort(labels.begin(), labels.end(), [](const Label& a, const Label& b) { return a.y < b.y; });
    for (std::size_t i = 1; i < labels.size(); ++i) {
      labels[i].y = std::max(labels[i].y, labels[i - 1].y + label_height);
    }
    std::string svg;
    for (const Label& label : labels) svg += svg_text(label.x, label.y, label.css_class, label.text);
    return svg;
  }

  const Chart& chart_;
  Axis horizontal_;
  Axis vertical_;
};

// ---------------------------------------------------------------------------------------------- sections

std::string element(const std::string& name, const std::string& text) {
  return "<" + name + ">" + escape_html(text) + "</" + name + ">";
}

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
    rows += "<tr>" + number_cell(number_text(point.epoch, 0)) + number_cell(number_text(point.seconds, 1)) +
            number_cell(number_text(point.log_likelihood, 2)) + number_cell(number_text(point.bound, 2)) +
            number_cell(number_text(point.effective_sample_size, 1)) +
            number_cell(number_text(point.images_per_second, 0)) + "</tr>\n";
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
  body += "\n" + legend(report) + "<div class=\"charts\">\n<figure>" + ChartDrawing(by_epoch).svg() +
          "</figure>\n<figure>" + ChartDrawing(by_seconds).svg() + "</figure>\n</div>\n";
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
  return "<figure>\n" + element("h3", title) + "\n" + ChartDrawing(chart).svg() + "</figure>\n";
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

std::string layers_section(const Report& report) {
  if (report.layers.empty()) return "";
  std::string rows;
  std::int64_t parameters = 0;
  for (const ReportLayer& layer : report.layers) {
    parameters += layer.parameters;
    rows += "<tr>" + element("td", layer.name) + element("td", layer.shape) +
            number_cell(with_commas(layer.parameters)) +
            number_cell(std::isnan(layer.kl) ? absent : number_text(layer.kl, 2)) +
            number_cell(layer.active < 0 ? absent : with_commas(layer.active)) +
            number_cell(std::isnan(layer.mismatch) ? absent : number_text(layer.mismatch, 4)) + "</tr>\n";
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

// ---------------------------------------------------------------------------------------------- page

constexpr const char* style = R"css(
:root { color-scheme: light dark; --page: #f7f7f4; --card: #ffffff; --ink: #1f2328; --muted: #656c76;
        --rule: #e3e3dd; --estimate: #1c6ea8; --bound: #b8621b; --curve-2: #2f7d4f; --curve-3: #8d4a9e;
        --curve-4: #7a6a12; --curve-5: #b03a4b; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14171a; --card: #1b1f23; --ink: #e6e6e1; --muted: #9aa2ab; --rule: #30363c;
          --estimate: #6db3e8; --bound: #eba15c; --curve-2: #6cc48d; --curve-3: #c99ad6; --curve-4: #c9b655;
          --curve-5: #ef8a97; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 80rem; margin: 0 auto; padding: 3rem 1rem 4rem; }
h1 { font-size: 1.9rem; font-weight: 600; letter-spacing: -0.01em; line-height: 1.2; margin: 0 0 1.5rem;
     overflow-wrap: anywhere; }
h1 small { display: block; font-size: 0.85rem; font-weight: 400; letter-spacing: 0.02em; color: var(--muted);
           margin-bottom: 0.3rem; }
h2 { font-size: 1.2rem; font-weight: 600; margin: 0 0 0.75rem; }
h3 { font-size: 1rem; font-weight: 600; margin: 0 0 0.75rem; }
p { margin: 0 0 0.75rem; }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 1.5rem;
          margin-top: 1.5rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); gap: 1rem 2rem; margin: 0; }
.facts dt { font-size: 0.85rem; color: var(--muted); }
.facts dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.facts .wide { grid-column: 1 / -1; order: 1; }
.facts .wide dd { font-size: 1rem; }
.facts .code dd { font: 0.9rem/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1rem 2rem; }
figure { margin: 0; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 12.5px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; font-variant-numeric: tabular-nums; }
.tick, .title { fill: var(--muted); }
.end { text-anchor: end; }
.middle { text-anchor: middle; }
svg .last { font-weight: 600; }
.grid { stroke: var(--rule); stroke-width: 1; }
.axis { stroke: var(--muted); stroke-width: 1; }
path { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round; }
path.estimate { stroke: var(--estimate); }
path.bound { stroke: var(--bound); stroke-dasharray: 7 5; }
path.curve-0 { stroke: var(--estimate); }
path.curve-1 { stroke: var(--bound); stroke-dasharray: 7 5; }
path.curve-2 { stroke: var(--curve-2); stroke-dasharray: 2 4; }
path.curve-3 { stroke: var(--curve-3); stroke-dasharray: 11 4 2 4; }
path.curve-4 { stroke: var(--curve-4); stroke-dasharray: 14 4; }
path.curve-5 { stroke: var(--curve-5); stroke-dasharray: 5 3 2 3 2 3; }
circle { stroke: var(--card); stroke-width: 1; }
circle.estimate, text.estimate, circle.curve-0, text.curve-0 { fill: var(--estimate); }
circle.bound, text.bound, circle.curve-1, text.curve-1 { fill: var(--bound); }
circle.curve-2, text.curve-2 { fill: var(--curve-2); }
circle.curve-3, text.curve-3 { fill: var(--curve-3); }
circle.curve-4, text.curve-4 { fill: var(--curve-4); }
circle.curve-5, text.curve-5 { fill: var(--curve-5); }
.legend { display: flex; flex-wrap: wrap; gap: 0.3rem 1.75rem; font-size: 0.9rem; }
.key { display: inline-flex; align-items: center; gap: 0.6rem; }
.swatch { width: 28px; flex: none; }
table { border-collapse: collapse; font-size: 0.95rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.4rem 1.5rem 0.4rem 0; border-bottom: 1px solid var(--rule);
         vertical-align: baseline; }
th { font-weight: 500; color: var(--muted); }
tbody tr:last-child > * { border-bottom: 0; }
td.number, th.number { text-align: right; padding: 0.4rem 0 0.4rem 1.5rem; }
.total td { color: var(--muted); }
.settings td { overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
details { margin-top: 1rem; }
summary { cursor: pointer; color: var(--muted); font-size: 0.9rem; }
details .scroll { margin-top: 0.75rem; }
.pictures { display: flex; flex-wrap: wrap; gap: 2rem 1.5rem; }
.picture { max-width: 100%; }
.picture img { display: block; max-width: 100%; height: auto; image-rendering: pixelated; border-radius: 4px; }
figcaption, .note { color: var(--muted); font-size: 0.9rem; max-width: 36rem; }
figcaption { margin-top: 0.6rem; }
.note { margin: 1rem 0 0; }
)css";

}  // namespace

std::string escape_html(const std::string& text) {
  std::string escaped;
  escaped.reserve(text.size());
  for (std::size_t place = 0; place < text.size();) {
    const std::size_t length = printable_length(text, place);
    switch (text[place]) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        length > 0 ? escaped.append(text, place, length) : escaped.append(replacement_character);
    }
    place += std::max<std::size_t>(length, 1);
  }
  return escaped;
}

std::string render(const Report& report) {
  const std::string title = escape_html(report.title);
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
         title + " \xC2\xB7 wakesleep</title>\n<style>" + style + "</style>\n</head>\n<body>\n<main>\n" +
         "<h1><small>wakesleep run</small>" + title + "</h1>\n" + facts_section(report) +
         curves_section(report) + diagnostics_section(report) + layers_section(report) +
         pictures_section(report) + settings_section(report) + "</main>\n</body>\n</html>\n";
}

}  // namespace wakesleep::command
