#include "command/values.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "number_text.hpp"

namespace wakesleep::command {
namespace {

template <class T>
bool parse_all(const std::string& text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

bool within(const Range& range, double value) {
  if (!std::isfinite(value)) return false;
  const bool above = range.open_minimum ? value > range.minimum : value >= range.minimum;
  const bool below = range.open_maximum ? value < range.maximum : value <= range.maximum;
  return above && below;
}

std::string range_text(const OptionSpec& spec) {
  const auto bound = [&](double value) {
    return spec.kind == Kind::whole ? std::to_string(static_cast<std::int64_t>(value)) : number_text(value);
  };
  const Range& range = spec.range;
  const bool above = std::isfinite(range.minimum);
  const bool below = std::isfinite(range.maximum);
  if (above && below && !range.open_minimum && !range.open_maximum) {
    return " from " + bound(range.minimum) + " to " + bound(range.maximum);
  }
  std::string text;
  if (above) text += (range.open_minimum ? " above " : " of at least ") + bound(range.minimum);
  if (below) {
    text += std::string(above ? " and" : "") + (range.open_maximum ? " below " : " of at most ") +
            bound(range.maximum);
  }
  return text;
}

}  // namespace

bool parse_whole(const std::string& text, std::int64_t& value) { return parse_all(text, value); }
bool parse_number(const std::string& text, double& value) { return parse_all(text, value); }
bool parse_seed(const std::string& text, std::uint64_t& value) { return parse_all(text, value); }

bool parse_widths(const std::string& text, std::vector<std::int64_t>& widths) {
  std::string compact = text;
  compact.erase(std::remove(compact.begin(), compact.end(), ' '), compact.end());
  for (std::size_t begin = 0; begin <= compact.size();) {
    const std::size_t end = std::min(compact.find(',', begin), compact.size());
    std::int64_t width = 0;
    if (!parse_all(compact.substr(begin, end - begin), width) || width < 1) return false;
    widths.push_back(width);
    begin = end + 1;
  }
  return true;
}

std::string joined_widths(const std::vector<std::int64_t>& widths) { return numbers_text(widths); }

std::string likelihood_name(const TrainingSettings& settings) {
  return settings.visible == Visible::gaussian ? "log-density" : "log-likelihood";
}

std::string visible_values_name(const TrainingSettings& settings) {
  return settings.visible == Visible::gaussian ? "visible means" : "visible probabilities";
}

bool parse_shape(const std::string& text, std::int64_t& height, std::int64_t& width) {
  const std::size_t cross = text.find('x');
  return cross != std::string::npos && parse_all(text.substr(0, cross), height) &&
         parse_all(text.substr(cross + 1), width) && height >= 1 && width >= 1;
}

bool parse_device(const std::string& text, int& ordinal) {
  ordinal = -1;
  if (text == "auto" || text == "cpu") return true;
  if (text == "cuda")
    ordinal = 0;
  else if (text.rfind("cuda:", 0) != 0 || !parse_all(text.substr(5), ordinal))
    return false;
  return ordinal >= 0;
}

bool acceptable(const OptionSpec& spec, const std::string& text) {
  std::int64_t whole = 0;
  std::int64_t second = 0;
  std::uint64_t seed = 0;
  double number = 0;
  int ordinal = 0;
  std::vector<std::int64_t> widths;
  switch (spec.kind) {
    case Kind::flag:
      return text == "true" || text == "false";
    case Kind::whole:
      return parse_all(text, whole) && within(spec.range, static_cast<double>(whole));
    case Kind::number:
      return parse_all(text, number) && within(spec.range, number);
    case Kind::seed:
      return parse_all(text, seed);
    case Kind::text:
      return !text.empty();
    case Kind::choice:
      return std::find(spec.choices.begin(), spec.choices.end(), text) != spec.choices.end();
    case Kind::layers:
      return parse_widths(text, widths);
    case Kind::shape:
      return parse_shape(text, whole, second);
    case Kind::device:
      return parse_device(text, ordinal);
  }
  return false;
}

std::string expected_text(const OptionSpec& spec) {
  switch (spec.kind) {
    case Kind::flag:
      return "true or false";
    case Kind::whole:
      return "a whole number" + range_text(spec);
    case Kind::number:
      return "a number" + range_text(spec);
    case Kind::seed:
      return "a whole number from 0 to 18446744073709551615";
    case Kind::text:
      return "a text that is not empty";
    case Kind::choice:
      return listed(spec.choices);
    case Kind::layers:
      return "widths of at least 1 separated by commas, such as 200,200,200";
    case Kind::shape:
      return "height and width, such as 28x28";
    case Kind::device:
      return "auto, cpu, cuda or cuda:N";
  }
  return "";
}

}  // namespace wakesleep::command
