#include "command/chart.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>

#include "command/html.hpp"
#include "command/progress.hpp"

namespace wakesleep::command {
namespace {

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

// ---------------------------------------------------------------------------------------------- drawing

// The drawing's own units; the page scales it to the column's width.
constexpr double chart_width = 560, chart_height = 330;
constexpr double plot_left = 64, plot_right = 494, plot_top = 16, plot_bottom = 276;
constexpr double label_height = 15;
constexpr std::size_t most_markers = 60;

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
      svg += svg_text(plot_left - 8, y(tick) + 4, "tick end", typeset_number(tick, vertical_.digits));
    }
    for (const double tick : ticks_of(horizontal_)) {
      svg += svg_line(x(tick), plot_bottom, x(tick), plot_bottom + 5, "axis");
      svg += svg_text(x(tick), plot_bottom + 20, "tick middle", typeset_number(tick, horizontal_.digits));
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
    return series.name + ": " + typeset_number(series.values[i], chart_.digits + 1) + chart_.unit + " at " +
           typeset_number(chart_.horizontal[i], 1) + " " + chart_.horizontal_unit;
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
                          "last " + series.css_class, typeset_number(series.values[*last], chart_.digits)});
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

}  // namespace

std::string svg_of(const Chart& chart) { return ChartDrawing(chart).svg(); }

}  // namespace wakesleep::command
