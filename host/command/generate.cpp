// `wakesleep sample`, `wakesleep encode`, `wakesleep reconstruct`: reading a model out.
#include "wakesleep/generate.hpp"

#include <algorithm>
#include <cstdio>

#include "command/commands.hpp"
#include "command/model_input.hpp"
#include "command/npy.hpp"
#include "command/pictures.hpp"
#include "command/progress.hpp"
#include "command/values.hpp"
#include "file.hpp"

namespace wakesleep::command {
namespace {

constexpr std::int64_t pictured_rows = 20;     ///< of a reconstruction, unless --limit says otherwise
constexpr std::int64_t pictured_columns = 10;  ///< pairs of original and reconstruction side by side

enum class Format { png, npy };

Format format_of(const std::string& path) {
  if (path.ends_with(".png")) return Format::png;
  if (path.ends_with(".npy")) return Format::npy;
  throw UsageError("option --out has the value '" + path + "'; expected a name that ends in .png or .npy");
}

/// The place of the output, looked at before anything is computed.
std::string output_path(const Arguments& arguments) {
  const std::string path = arguments.required("out");
  format_of(path);
  check_writable(path);
  return path;
}

void write_bytes(const std::string& path, const std::vector<std::uint8_t>& bytes) {
  write_file_atomically(path, bytes.data(), bytes.size());
}

void report_written(const std::string& path, const std::string& what) {
  std::printf("%s: %s\n", path.c_str(), what.c_str());
}

void say_device(const Arguments& arguments, const Device& device) {
  if (arguments.flag("quiet")) return;
  std::fprintf(stderr, "device: %s: %s\n", device.reason.c_str(), device.ops->description().c_str());
}

struct Shape {
  std::int64_t height = 0;
  std::int64_t width = 0;
};

Shape image_shape(const Model& model) {
  Shape shape = {model.height, model.width};
  picture_shape(model.sizes.front(), shape.height, shape.width);
  return shape;
}

std::string shape_text(std::int64_t rows, std::int64_t columns, const std::string& what) {
  return what + " [" + std::to_string(rows) + ", " + std::to_string(columns) + "]";
}

/// Lines of originals, each above the line of its reconstructions; the last ones filled up with black images.
std::vector<float> interleaved(const std::vector<float>& originals, const std::vector<float>& reconstructions,
                               std::int64_t rows, std::int64_t units, std::int64_t columns) {
  std::vector<float> grid;
  for (std::int64_t first = 0; first < rows; first += columns) {
    const std::int64_t count = std::min(columns, rows - first);
    for (const std::vector<float>* values : {&originals, &reconstructions}) {
      grid.insert(grid.end(), values->begin() + first * units, values->begin() + (first + count) * units);
      grid.insert(grid.end(), static_cast<std::size_t>((columns - count) * units), 0.0f);
    }
  }
  return grid;
}

/// Refuses pairs that make too large a picture, before anything is computed.
void check_pairs(const Model& model, std::int64_t rows) {
  const std::int64_t columns = std::min(pictured_columns, rows);
  const std::int64_t images = 2 * ((rows + columns - 1) / columns * columns);
  const Shape shape = image_shape(model);
  check_picture(grid_extent(images, shape.height, shape.width, columns));
}

Picture pairs_picture(const Model& model, const DataSet& data, const std::vector<float>& reconstructions) {
  const std::int64_t columns = std::min(pictured_columns, data.rows);
  const std::vector<float> grid =
      interleaved(values_of(data), reconstructions, data.rows, data.units, columns);
  const Shape shape = image_shape(model);
  const auto images = static_cast<std::int64_t>(grid.size()) / data.units;
  return image_grid(grid.data(), images, shape.height, shape.width, columns);
}

std::int64_t reconstructed_rows(const Arguments& arguments, Format format) {
  if (arguments.given("limit")) return arguments.whole("limit");
  return format == Format::png ? pictured_rows : 0;
}

int encoded_layer(const Arguments& arguments, const Model& model) {
  const auto top = static_cast<std::int64_t>(model.sizes.size()) - 1;
  const std::int64_t layer = arguments.whole("layer");
  if (layer > top) {
    throw UsageError("option --layer has the value '" + std::to_string(layer) +
                     "'; the model has hidden layers 1 to " + std::to_string(top));
  }
  return static_cast<int>(layer == 0 ? top : layer);
}

OptionSpec out_option(const std::string& help) {
  return call("out", Kind::text, "FILE", "", "Output", help + " (required)");
}

}  // namespace

const CommandSpec& sample_spec() {
  static const CommandSpec spec = {
      "sample",
      "Lets MODEL dream: states from the prior downward.",
      {model_positional()},
      joined({{call("count", Kind::whole, "N", "100", "Output", "number of samples", {1, 16777216}),
               out_option("FILE.png (a picture) or FILE.npy (float32 visible probabilities, or means)")},
              {seed_option("the samples")},
              computing_options(Role::call)})};
  return spec;
}

const CommandSpec& encode_spec() {
  static const CommandSpec spec = {
      "encode",
      "Writes a hidden layer's probabilities given sampled states below it.",
      {model_positional(), data_positional()},
      joined({{out_option("FILE.npy: float32 probabilities [rows, units]"),
               flag("states", "Output", "write sampled states, uint8 0 or 1, instead"),
               call("layer", Kind::whole, "L", "0", "Output", "hidden layer, from 1 upward; 0: the top layer",
                    at_least_zero),
               limit_option("0", "use the first rows only; 0: all")},
              data_shape_options(Role::call),
              {seed_option("the sampled states")},
              computing_options(Role::call)})};
  return spec;
}

const CommandSpec& reconstruct_spec() {
  static const CommandSpec spec = {
      "reconstruct",
      "Sends DATA up to the top layer of MODEL and down again.",
      {model_positional(), data_positional()},
      joined(
          {{out_option(
                "FILE.png (originals above reconstructions) or FILE.npy (float32 visible probabilities, or "
                "means)"),
            limit_option("", "use the first rows only; 0: all (default: all, " +
                                 std::to_string(pictured_rows) + " for a picture)")},
           data_shape_options(Role::call),
           {seed_option("the sampled states")},
           computing_options(Role::call)})};
  return spec;
}

int sample(const Arguments& arguments) {
  const std::string path = output_path(arguments);
  const OpenModel open(arguments);
  say_device(arguments, open.device);
  const std::int64_t count = arguments.whole("count");
  const std::int64_t units = open.model.sizes.front();
  const Shape shape = image_shape(open.model);
  if (format_of(path) == Format::png) check_picture(grid_extent(count, shape.height, shape.width));
  const std::vector<float> values = dream(open.machine, count, arguments.seed("seed"));
  if (format_of(path) == Format::npy) {
    write_bytes(path, npy_bytes(values, count, units));
    report_written(path, shape_text(count, units,
                                    "float32 " + visible_values_name(open.model.settings) + " of samples"));
  } else {
    write_bytes(path, png_bytes(image_grid(values.data(), count, shape.height, shape.width)));
    report_written(path, "picture of " + counted(count, "sample"));
  }
  return 0;
}

int encode(const Arguments& arguments) {
  const std::string path = output_path(arguments);
  if (format_of(path) != Format::npy) {
    throw UsageError("option --out has the value '" + path +
                     "'; `wakesleep encode` writes codes to a name that ends in .npy");
  }
  const OpenModel open(arguments);
  const int layer = encoded_layer(arguments, open.model);
  const DataSet data = read_data_for(open, arguments, arguments.whole("limit"));
  say_device(arguments, open.device);
  const std::int64_t units = open.model.sizes[static_cast<std::size_t>(layer)];
  const std::uint64_t seed = arguments.seed("seed");
  const std::string what = " of layer " + std::to_string(layer);
  if (arguments.flag("states")) {
    write_bytes(path, npy_bytes(encode_states(open.machine, data, layer, seed), data.rows, units));
    report_written(path, shape_text(data.rows, units, "uint8 states" + what));
  } else {
    write_bytes(path, npy_bytes(wakesleep::encode(open.machine, data, layer, seed), data.rows, units));
    report_written(path, shape_text(data.rows, units, "float32 probabilities" + what));
  }
  return 0;
}

int reconstruct(const Arguments& arguments) {
  const std::string path = output_path(arguments);
  const Format format = format_of(path);
  const OpenModel open(arguments);
  const DataSet data = read_data_for(open, arguments, reconstructed_rows(arguments, format));
  if (format == Format::png) check_pairs(open.model, data.rows);
  say_device(arguments, open.device);
  const std::vector<float> values = wakesleep::reconstruct(open.machine, data, arguments.seed("seed"));
  if (format == Format::npy) {
    write_bytes(path, npy_bytes(values, data.rows, data.units));
    report_written(path,
                   shape_text(data.rows, data.units,
                              "float32 " + visible_values_name(open.model.settings) + " of reconstructions"));
  } else {
    write_bytes(path, png_bytes(pairs_picture(open.model, data, values)));
    report_written(path, "picture of " + counted(data.rows, "original") + " above " +
                             (data.rows == 1 ? "its reconstruction" : "their reconstructions"));
  }
  return 0;
}

}  // namespace wakesleep::command
