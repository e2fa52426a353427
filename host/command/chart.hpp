// Charts: curves over a horizontal axis from zero, as SVG. The style sheet of the page gives their classes
// colours.
#pragma once

#include <string>
#include <vector>

namespace wakesleep::command {

/// A curve.
struct Series {
  std::string name;
  std::string css_class;
  std::vector<double> values;  ///< one for each horizontal place; NaN: no point
};

struct Chart {
  std::string vertical_title;
  std::string unit;  ///< after a value: " nats"
  int digits = 1;    ///< of a curve's last value; one more where the pointer rests on a point
  std::string horizontal_title;
  std::string horizontal_unit;     ///< after a number: "s"
  double least_step = 0;           ///< between two horizontal ticks
  std::vector<double> horizontal;  ///< places
  std::vector<Series> series;
};

/// Points that cannot be drawn, such as infinite ones, are left out, and the line is broken there.
std::string svg_of(const Chart& chart);

}  // namespace wakesleep::command
