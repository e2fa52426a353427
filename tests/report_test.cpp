// Pictures, the report page, progress, and the wording of numbers and suggestions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "command/html.hpp"
#include "command/pictures.hpp"
#include "command/progress.hpp"
#include "command/report.hpp"
#include "nearest.hpp"
#include "wakesleep/error.hpp"

// An independent decoder: what the pictures' encoder wrote must be a PNG to others.
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#include <stb/stb_image.h>

namespace wakesleep::command {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

// ---------------------------------------------------------------------------------------------- PNG

Picture decoded(const std::vector<std::uint8_t>& file) {
  int width = 0, height = 0, channels = 0;
  const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
      stbi_load_from_memory(file.data(), static_cast<int>(file.size()), &width, &height, &channels, 0),
      stbi_image_free);
  if (pixels == nullptr) {
    ADD_FAILURE() << "not a PNG: " << stbi_failure_reason();
    return {};
  }
  EXPECT_EQ(channels, 1);
  const auto count = static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
  return {width, height, std::vector<std::uint8_t>(pixels.get(), pixels.get() + count)};
}

TEST(Png, DecodesToTheSamePixels) {
  const std::vector<std::pair<int, int>> shapes = {{1, 1}, {1, 33}, {31, 1}, {3, 5}, {28, 28}, {257, 129}};
  for (const auto& [width, height] : shapes) {
    SCOPED_TRACE(std::to_string(width) + " x " + std::to_string(height));
    Picture picture{width, height, {}};
    std::uint32_t state = 7;
    for (int i = 0; i < width * height; ++i) {
      state = state * 1664525u + 1013904223u;
      picture.grey.push_back(static_cast<std::uint8_t>(state >> 24));
    }
    const Picture back = decoded(png_bytes(picture));
    EXPECT_EQ(back.width, width);
    EXPECT_EQ(back.height, height);
    EXPECT_THAT(back.grey, ElementsAreArray(picture.grey));
  }
}

TEST(Png, RefusesAnEmptyPictureAndOneWhoseSizeIsWrong) {
  EXPECT_THROW(png_bytes({}), InternalError);
  EXPECT_THROW(png_bytes({2, 2, {1, 2, 3}}), InternalError);
}

// ---------------------------------------------------------------------------------------------- grids

TEST(ImageGrid, PlacesImagesRowByRowWithOneGreyPixelBetween) {
  // Three images of 1 x 2 in two columns: the fourth place stays grey.
  const std::vector<float> values = {0.0f, 1.0f, 0.2f, 0.4f, 0.6f, 0.8f};
  const Picture picture = image_grid(values.data(), 3, 1, 2, 2);
  EXPECT_EQ(picture.width, 5);
  EXPECT_EQ(picture.height, 3);
  EXPECT_THAT(picture.grey, ElementsAre(0, 255, 128, 51, 102,     //
                                        128, 128, 128, 128, 128,  //
                                        153, 204, 128, 128, 128));
}

TEST(ImageGrid, ReadsAnImageRowByRow) {
  const std::vector<float> values = {0.0f, 0.2f, 0.4f, 0.6f, 0.8f, 1.0f};
  const Picture picture = image_grid(values.data(), 1, 3, 2);
  EXPECT_EQ(picture.width, 2);
  EXPECT_EQ(picture.height, 3);
  EXPECT_THAT(picture.grey, ElementsAre(0, 51, 102, 153, 204, 255));
}

TEST(ImageGrid, ClampsAndRoundsToTheNearestGrey) {
  const std::vector<float> values = {-0.5f, 1.5f, 0.49f / 255.0f, 0.51f / 255.0f, std::nanf("")};
  EXPECT_THAT(image_grid(values.data(), 1, 1, 5).grey, ElementsAre(0, 255, 0, 1, 0));
}

TEST(ImageGrid, EnlargesEveryPixel) {
  const std::vector<float> values = {0.0f, 1.0f};
  const Picture picture = image_grid(values.data(), 2, 1, 1, 2, 2);
  EXPECT_EQ(picture.width, 6);
  EXPECT_EQ(picture.height, 2);
  EXPECT_THAT(picture.grey, ElementsAre(0, 0, 128, 128, 255, 255, 0, 0, 128, 128, 255, 255));
}

TEST(ImageGrid, ChoosesColumnsThatMakeThePictureNearlySquare) {
  const std::vector<float> values(100 * 784, 0.0f);
  const Picture squares = image_grid(values.data(), 100, 28, 28);
  EXPECT_EQ(squares.width, 10 * 29 - 1);
  EXPECT_EQ(squares.height, 10 * 29 - 1);
  const Picture lines = image_grid(values.data(), 7, 1, 37);
  EXPECT_EQ(lines.width, 37);
  EXPECT_EQ(lines.height, 2 * 7 - 1);
  const Picture columns = image_grid(values.data(), 3, 40, 1);
  EXPECT_EQ(columns.width, 2 * 3 - 1);
  EXPECT_EQ(columns.height, 40);
}

TEST(ImageGrid, HasNoEmptyColumnsAndNoImagesNoPixels) {
  const std::vector<float> values(4, 0.0f);
  EXPECT_EQ(image_grid(values.data(), 1, 2, 2, 10).width, 2);
  EXPECT_TRUE(image_grid(values.data(), 0, 2, 2).grey.empty());
}

TEST(ReceptiveFields, ScalesEachFieldByItsOwnLargestMagnitudeAboutMiddleGrey) {
  const std::vector<float> weights = {-2.0f,  0.0f, 1.0f,     // scaled by 2
                                      0.001f, 0.0f, -0.001f,  // scaled by 0.001
                                      0.0f,   0.0f, 0.0f};
  const Picture picture = receptive_fields(weights.data(), 3, 1, 3, 1);
  ASSERT_EQ(picture.width, 3);
  ASSERT_EQ(picture.height, 5);
  const auto row = [&](std::size_t y) {
    return std::vector<int>(picture.grey.begin() + static_cast<std::ptrdiff_t>(3 * y),
                            picture.grey.begin() + static_cast<std::ptrdiff_t>(3 * y + 3));
  };
  EXPECT_THAT(row(0), ElementsAre(0, 128, 191));
  EXPECT_THAT(row(2), ElementsAre(255, 128, 0));
  EXPECT_THAT(row(4), ElementsAre(128, 128, 128));
  for (const int gap : row(1)) EXPECT_NE(gap, 128) << "the gap must not look like a zero weight";
}

TEST(PictureShape, IsTheGivenOneElseASquareElseARow) {
  const auto shape = [](std::int64_t units, std::int64_t height, std::int64_t width) {
    picture_shape(units, height, width);
    return std::vector<std::int64_t>{height, width};
  };
  EXPECT_THAT(shape(12, 3, 4), ElementsAre(3, 4));
  EXPECT_THAT(shape(784, 0, 0), ElementsAre(28, 28));
  EXPECT_THAT(shape(37, 0, 0), ElementsAre(1, 37));
  EXPECT_THAT(shape(9, 2, 4), ElementsAre(3, 3)) << "a given shape that does not hold the units is not used";
  EXPECT_THAT(shape(1, 0, 0), ElementsAre(1, 1));
}

// ---------------------------------------------------------------------------------------------- page

TEST(EscapeHtml, EscapesMarkupAndKeepsText) {
  EXPECT_EQ(escape_html("a<b> & \"c\" 'd'"), "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;");
  EXPECT_EQ(escape_html(""), "");
  EXPECT_EQ(escape_html("G\xC3\xB6"
                        "del \xE2\x82\xAC \xF0\x9F\x98\x80"),
            "G\xC3\xB6"
            "del \xE2\x82\xAC \xF0\x9F\x98\x80");
}

TEST(EscapeHtml, ShowsControlCharactersAndInvalidUtf8AsReplacementCharacters) {
  const std::string shown = "\xEF\xBF\xBD";
  EXPECT_EQ(escape_html(std::string("a\0b", 3)), "a" + shown + "b");
  EXPECT_EQ(escape_html("\n\x1B\x7F"), shown + shown + shown);
  EXPECT_EQ(escape_html("\xC2\x85"), shown + shown);                          // a control of the second block
  EXPECT_EQ(escape_html("\xFF<"), shown + "&lt;");                            // no lead byte
  EXPECT_EQ(escape_html("\xC3"), shown);                                      // cut off at the end
  EXPECT_EQ(escape_html("\xE2\x82<"), shown + shown + "&lt;");                // cut off by markup
  EXPECT_EQ(escape_html("\xC0\xAF"), shown + shown);                          // overlong
  EXPECT_EQ(escape_html("\xED\xA0\x80"), shown + shown + shown);              // a surrogate
  EXPECT_EQ(escape_html("\xF4\x90\x80\x80"), shown + shown + shown + shown);  // above U+10FFFF
}

ReportPoint point(double epoch, double log_likelihood, double bound) {
  ReportPoint p;
  p.epoch = epoch;
  p.seconds = 1.5 * epoch;
  p.log_likelihood = log_likelihood;
  p.bound = bound;
  return p;
}

Report small_report() {
  Report report;
  report.title = "a run";
  report.facts = {{"hash", "0123abcd"}};
  report.settings = {{"batch-size", "100"}};
  report.samples = 1000;
  report.evaluated_on = "validation, 1,000 rows";
  report.curve = {point(1, -150, -160), point(2, -130, -138), point(3, -120.25, -126.5)};
  report.layers = {{"recognition.1", "200 x 784", 157000, nan, -1},
                   {"generative.1", "784 x 200", 157584, 21.5, 187}};
  report.pictures = {{"Samples", "Dreams.", {1, 1, {77}}}};
  return report;
}

/// The SVG drawings of a page, joined.
std::string drawings(const std::string& page) {
  std::string svg;
  for (std::size_t at = page.find("<svg"); at != std::string::npos; at = page.find("<svg", at + 1)) {
    svg += page.substr(at, page.find("</svg>", at) - at);
  }
  return svg;
}

/// Every number of an SVG attribute lies within the drawing: no NaN, no infinity, nothing off the page.
void expect_drawable(const std::string& page) {
  const std::string svg = drawings(page);
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg, Not(HasSubstr("inf")));
  for (const std::string attribute :
       {" x=\"", " y=\"", " cx=\"", " cy=\"", " x1=\"", " y1=\"", " x2=\"", " y2=\""}) {
    for (std::size_t at = svg.find(attribute); at != std::string::npos; at = svg.find(attribute, at + 1)) {
      const double value = std::stod(svg.substr(at + attribute.size()));
      EXPECT_GE(value, 0.0);
      EXPECT_LE(value, 560.0);
    }
  }
}

std::size_t occurrences(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size()))
    ++count;
  return count;
}

TEST(ReportPage, IsOneSelfContainedDocument) {
  const std::string page = render(small_report());
  EXPECT_THAT(page, StartsWith("<!DOCTYPE html>"));
  EXPECT_THAT(page, HasSubstr("<meta charset=\"utf-8\">"));
  for (const char* foreign : {"<script", "http:", "https:", "<link", "@import", "url("}) {
    EXPECT_THAT(page, Not(HasSubstr(foreign)));
  }
}

TEST(ReportPage, ShowsWhatItIsGiven) {
  const std::string page = render(small_report());
  for (const char* expected :
       {"0123abcd", "batch-size", "validation, 1,000 rows", "K = 1,000", "log-likelihood estimate", "bound",
        "nats", "recognition.1", "200 x 784", "157,584", "21.50", "187", "Samples", "Dreams.", "314,584"}) {
    EXPECT_THAT(page, HasSubstr(expected));
  }
  // Both charts: two curves each, the last values of both written beside them.
  const std::string svg = drawings(page);
  EXPECT_EQ(occurrences(svg, "<path"), 4u + 2u) << "two curves in two charts, two swatches in the legend";
  EXPECT_EQ(occurrences(svg,
                        ">\xE2\x88\x92"
                        "120.3<") +
                occurrences(svg,
                            ">\xE2\x88\x92"
                            "120.2<"),
            2u);
  EXPECT_EQ(occurrences(svg,
                        ">\xE2\x88\x92"
                        "126.5<"),
            2u);
  EXPECT_THAT(svg, HasSubstr(">seconds of training<"));
  EXPECT_THAT(svg, HasSubstr(">epoch<"));
}

TEST(ReportPage, HoldsThePictureAsPng) {
  const std::string page = render(small_report());
  const std::string before = "data:image/png;base64,";
  const std::size_t at = page.find(before) + before.size();
  const std::string text = page.substr(at, page.find('"', at) - at);
  // Decoded here in the plainest way: six bits a character.
  const std::string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::vector<std::uint8_t> file;
  std::uint32_t bits = 0;
  int available = 0;
  for (const char c : text.substr(0, text.find('='))) {
    bits = bits << 6 | static_cast<std::uint32_t>(alphabet.find(c));
    available += 6;
    if (available >= 8) file.push_back(static_cast<std::uint8_t>(bits >> (available -= 8)));
  }
  EXPECT_EQ(text.size() % 4, 0u);
  EXPECT_THAT(decoded(file).grey, ElementsAre(77));
}

TEST(ReportPage, EscapesEverythingThatComesFromOutside) {
  const std::string hostile = "<img src=x onerror='alert(1)'>\"&\xFF";
  Report report = small_report();
  report.title = report.evaluated_on = hostile;
  report.facts = report.settings = {{hostile, hostile}};
  report.layers = {{hostile, hostile, 1, 0, 0}};
  report.pictures[0].title = report.pictures[0].caption = hostile;
  const std::string page = render(report);
  EXPECT_THAT(page, Not(HasSubstr("<img src=x")));
  EXPECT_THAT(page, Not(HasSubstr("'alert")));
  EXPECT_THAT(page, Not(HasSubstr("\xFF")));
  EXPECT_THAT(page, HasSubstr("&lt;img src=x onerror=&#39;alert(1)&#39;&gt;&quot;&amp;\xEF\xBF\xBD"));
}

TEST(ReportPage, CanBeDrawnFromAnyCurve) {
  const std::vector<std::vector<ReportPoint>> curves = {
      {},
      {point(1, -100, -110)},
      {point(0, 0, 0)},
      {point(1, -100, -100), point(2, -100, -100)},  // equal values
      {point(1, nan, nan), point(2, nan, nan)},      // nothing to draw
      {point(1, -100, nan), point(2, infinity, -infinity), point(nan, -90, -95), point(4, -80, -85)},
      {point(1, -1e300, 1e300), point(2, -100, -101)},
      {point(1, -100, -100.0000001)},
      {point(1, 1e11, 1e11), point(1, 1e11, 1e11)},
      {point(-3, -100, -110), point(1e-9, -90, -91)},
  };
  for (std::size_t i = 0; i < curves.size(); ++i) {
    SCOPED_TRACE("curve " + std::to_string(i));
    Report report = small_report();
    report.curve = curves[i];
    const std::string page = render(report);
    expect_drawable(page);
    EXPECT_THAT(page, HasSubstr("</html>"));
  }
}

TEST(ReportPage, BreaksACurveWhereAValueIsMissing) {
  Report report = small_report();
  report.curve = {point(1, -100, -110), point(2, nan, -109), point(3, -90, -108)};
  const std::string svg = drawings(render(report));
  const std::size_t at = svg.find("<path", svg.find("epoch"));
  const std::string estimate = svg.substr(at, svg.find("/>", at) - at);
  EXPECT_EQ(occurrences(estimate, "M"), 2u);
  EXPECT_EQ(occurrences(estimate, "L"), 0u);
}

TEST(ReportPage, HigherValuesAreDrawnHigher) {
  Report report = small_report();
  report.curve = {point(1, -150, -160), point(2, -130, -140)};
  const std::string svg = drawings(render(report));
  std::vector<double> heights;
  for (std::size_t at = svg.find(" cy=\""); at != std::string::npos; at = svg.find(" cy=\"", at + 1)) {
    heights.push_back(std::stod(svg.substr(at + 5)));
  }
  ASSERT_EQ(heights.size(), 8u);  // estimate and bound, twice
  EXPECT_GT(heights[0], heights[1]);
  EXPECT_GT(heights[2], heights[3]);
  EXPECT_LT(heights[0], heights[2]);
}

TEST(ReportPage, DrawsDiagnosticsByLayer) {
  Report report = small_report();
  EXPECT_THAT(render(report), Not(HasSubstr("<h2>Diagnostics</h2>")));
  for (std::size_t i = 0; i < report.curve.size(); ++i) {
    ReportPoint& p = report.curve[i];
    p.layer_kl = {12.5 + static_cast<double>(i), 3, 0.5};
    p.active_units = {200, 150 + static_cast<std::int64_t>(i), 7};
    if (i > 0) p.layer_mismatch = {0.25, 0.125, 0.0625};  // the first line was written before it was measured
    p.diagnostics = {{"acceptance_rate", 0.75}};
  }
  const std::string page = render(report);
  expect_drawable(page);
  for (const std::string text :
       {"<h2>Diagnostics</h2>", "layer 3: 0.500 nats at 3.0 epochs", "layer 2: 152.0 at 3.0 epochs",
        "layer 1: 0.25000 at 2.0 epochs", "<h3>Acceptance rate</h3>", "acceptance rate: 0.7500 at 1.0 epochs",
        "Effective sample size, of K = 1,000"}) {
    EXPECT_THAT(page, HasSubstr(text));
  }
  EXPECT_THAT(page, Not(HasSubstr("layer 1: 0.25000 at 1.0 epochs")));

  for (ReportPoint& p : report.curve) p.layer_kl.assign(100, 1.0);
  const std::string deep = render(report);
  expect_drawable(deep);
  EXPECT_THAT(deep, HasSubstr("class=\"curve-5\""));
  EXPECT_THAT(deep, HasSubstr("layer 100: 1.000 nats"));
  EXPECT_THAT(deep, Not(HasSubstr("curve-6")));
}

TEST(ReportPage, AnEmptyReportIsStillAPage) {
  const std::string page = render({});
  EXPECT_THAT(page, HasSubstr("no curve to draw"));
  expect_drawable(page);
  Report report;
  report.pictures = {{"Samples", "None.", {}}};
  EXPECT_THAT(render(report), HasSubstr("There was nothing to draw."));
}

// ---------------------------------------------------------------------------------------------- progress

std::string written(Verbosity verbosity, const std::function<void(Progress&)>& use) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), std::fclose);
  {
    Progress progress(file.get(), verbosity, "epoch 3", "images", 1000);
    use(progress);
  }
  std::string text(4096, '\0');
  std::rewind(file.get());
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  return text;
}

TEST(ProgressBar, WritesNothingUnlessItIsABar) {
  const auto use = [](Progress& progress) {
    for (const std::int64_t done : {0, 500, 1000}) progress.update(done);
    progress.clear();
  };
  EXPECT_EQ(written(Verbosity::quiet, use), "");
  EXPECT_EQ(written(Verbosity::lines, use), "");
  EXPECT_NE(written(Verbosity::bar, use), "");
}

TEST(ProgressBar, ShowsShareRateAndTimeLeftAndClearsItself) {
  const std::string text = written(Verbosity::bar, [](Progress& progress) { progress.update(500); });
  EXPECT_THAT(text, StartsWith("\repoch 3 [============            ] 50 %"));
  EXPECT_THAT(text, HasSubstr("images/s"));
  EXPECT_THAT(text, HasSubstr("left"));
  EXPECT_EQ(text.substr(text.size() - 4), "\r\033[K") << "what follows starts on a clean line";
}

TEST(ProgressBar, BearsCountsOutOfRange) {
  EXPECT_THAT(written(Verbosity::bar, [](Progress& progress) { progress.update(2000); }), HasSubstr("100 %"));
  EXPECT_THAT(written(Verbosity::bar, [](Progress& progress) { progress.update(-5); }), HasSubstr("0 %"));
  EXPECT_EQ(written(Verbosity::bar, [](Progress&) {}), "") << "a bar never drawn needs no clearing";
}

TEST(ProgressBar, IsOnlyForTerminals) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), std::fclose);
  EXPECT_EQ(verbosity_for(file.get(), false), Verbosity::lines);
  EXPECT_EQ(verbosity_for(file.get(), true), Verbosity::quiet);
}

// ---------------------------------------------------------------------------------------------- wording

TEST(Wording, Durations) {
  EXPECT_EQ(duration_text(0), "0 s");
  EXPECT_EQ(duration_text(-1), "0 s");
  EXPECT_EQ(duration_text(0.2), "< 1 s");
  EXPECT_EQ(duration_text(12), "12 s");
  EXPECT_EQ(duration_text(59.4), "59 s");
  EXPECT_EQ(duration_text(59.6), "1 min 00 s");
  EXPECT_EQ(duration_text(200), "3 min 20 s");
  EXPECT_EQ(duration_text(3599.7), "1 h 00 min");
  EXPECT_EQ(duration_text(7500), "2 h 05 min");
  EXPECT_EQ(duration_text(3 * 86400 + 4 * 3600), "3 d 04 h");
  EXPECT_EQ(duration_text(nan), "unknown");
  EXPECT_EQ(duration_text(infinity), "unknown");
}

TEST(Wording, Counts) {
  EXPECT_EQ(grouped(0), "0");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(grouped(-1000), "-1,000");
  EXPECT_EQ(grouped(12345), "12,345");
  EXPECT_EQ(grouped(99999), "99,999");
  EXPECT_EQ(grouped(103456), "103 k");
  EXPECT_EQ(grouped(999499), "999 k");
  EXPECT_EQ(grouped(999600), "1.0 M");
  EXPECT_EQ(grouped(1234567), "1.2 M");
  EXPECT_EQ(grouped(12000000000), "12.0 G");
  EXPECT_EQ(with_commas(100), "100");
  EXPECT_EQ(with_commas(-100), "-100");
  EXPECT_EQ(with_commas(1234567), "1,234,567");
  EXPECT_EQ(with_commas(std::numeric_limits<std::int64_t>::min()), "-9,223,372,036,854,775,808");
}

TEST(Wording, Bytes) {
  EXPECT_EQ(byte_text(0), "0 B");
  EXPECT_EQ(byte_text(999), "999 B");
  EXPECT_EQ(byte_text(1000), "1.0 KB");
  EXPECT_EQ(byte_text(345000), "345 KB");
  EXPECT_EQ(byte_text(1.9e6), "1.9 MB");
  EXPECT_EQ(byte_text(999.7e6), "1.0 GB");
  EXPECT_EQ(byte_text(5e18), "5000000 TB");
}

TEST(Wording, Decimals) {
  EXPECT_EQ(decimals(-114.0249, 2), "-114.02");
  EXPECT_EQ(decimals(2.5, 0), "2");
  EXPECT_EQ(decimals(1e-9, 3), "0.000");
  EXPECT_EQ(decimals(-1e-9, 3), "0.000");
  EXPECT_EQ(decimals(nan, 2), "nan");
  EXPECT_EQ(decimals(infinity, 2), "inf");
  EXPECT_EQ(decimals(-infinity, 2), "-inf");
  EXPECT_EQ(decimals(std::numeric_limits<double>::max(), 0).size(), 309u);
}

// ---------------------------------------------------------------------------------------------- suggestions

TEST(Nearest, FindsTheSmallestDistance) {
  const std::vector<std::string> options = {"epochs", "batch-size", "learning-rate",
                                            "generative-learning-rate", "seed"};
  EXPECT_EQ(nearest("epoch", options), "epochs");
  EXPECT_EQ(nearest("batch", options), "batch-size");       // half of it is missing
  EXPECT_EQ(nearest("bacth-size", options), "batch-size");  // a swap is one edit
  EXPECT_EQ(nearest("learnig-rate", options), "learning-rate");
  EXPECT_EQ(nearest("sede", options), "seed");
  EXPECT_EQ(nearest("batch_size", options), "batch-size");
  EXPECT_EQ(nearest("SEED", options), "seed");
  EXPECT_EQ(nearest("seed", options), "seed");
  EXPECT_EQ(nearest("generative-learn-rate", options), "generative-learning-rate");
}

TEST(Nearest, CountsASwapAsOneEdit) {
  // One swap away, or two substitutions: the swap wins even when it comes second.
  EXPECT_EQ(nearest("abcd", {"abxy", "abdc"}), "abdc");
}

TEST(Nearest, SuggestsNothingFarAway) {
  EXPECT_EQ(nearest("momentum", {"seed", "threads"}), "");
  EXPECT_EQ(nearest("sxxd", {"seed"}), "seed");                 // 2 edits are allowed for short words
  EXPECT_EQ(nearest("sxxx", {"seed"}), "");                     // 3 are not
  EXPECT_EQ(nearest("abcdefxyz", {"abcdefghi"}), "abcdefghi");  // a third of nine
  EXPECT_EQ(nearest("abcdewxyz", {"abcdefghi"}), "");
  EXPECT_EQ(nearest("xy", {"k", "ab"}), "");  // nothing in common
  EXPECT_EQ(nearest("", {"ab"}), "");
  EXPECT_EQ(nearest("word", {}), "");
}

TEST(Nearest, PrefersTheFirstOfEquals) { EXPECT_EQ(nearest("cat", {"bat", "hat"}), "bat"); }

}  // namespace
}  // namespace wakesleep::command
