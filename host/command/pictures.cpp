#include "command/pictures.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>

#include "wakesleep/error.hpp"

// Only the encoder to memory is wanted, and only in this file.
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#include <stb/stb_image_write.h>

namespace wakesleep::command {
namespace {

constexpr std::uint8_t middle_grey = 128;
/// Darker than middle grey, which in a receptive field means zero.
constexpr std::uint8_t receptive_field_gap = 64;

/// The PNG encoder counts bytes in int and doubles its buffers.
constexpr std::int64_t max_png_pixels = std::int64_t{1} << 29;

/// [0, 1] to 0..255, to the nearest. What lies outside is clamped; NaN is drawn black.
std::uint8_t grey_of(float value) {
  if (!(value > 0.0f)) return 0;
  return static_cast<std::uint8_t>(std::lround(std::min(value, 1.0f) * 255.0f));
}

/// As many columns as make the whole picture, not the number of images, nearest to a square.
std::int64_t square_columns(std::int64_t count, std::int64_t height, std::int64_t width) {
  const double ideal =
      std::sqrt(static_cast<double>(count) * static_cast<double>(height) / static_cast<double>(width));
  return std::clamp(static_cast<std::int64_t>(std::ceil(ideal)), std::int64_t{1}, count);
}

std::int64_t columns_of(std::int64_t count, std::int64_t height, std::int64_t width, std::int64_t columns) {
  return columns > 0 ? std::min(columns, count) : square_columns(count, height, width);
}

std::string size_text(const Extent& extent) {
  return std::to_string(extent.width) + " x " + std::to_string(extent.height) + " pixels";
}

Picture enlarged(const Picture& picture, std::int64_t zoom) {
  Picture result{picture.width * zoom, picture.height * zoom, {}};
  result.grey.reserve(static_cast<std::size_t>(result.width * result.height));
  for (std::int64_t y = 0; y < result.height; ++y) {
    const std::uint8_t* row = picture.grey.data() + y / zoom * picture.width;
    for (std::int64_t x = 0; x < result.width; ++x) result.grey.push_back(row[x / zoom]);
  }
  return result;
}

/// Lays `count` images out in a grid; `pixel(image, offset)` is the grey of one of their pixels.
template <class Pixel>
Picture grid(std::int64_t count, std::int64_t height, std::int64_t width, std::int64_t columns,
             std::int64_t zoom, std::uint8_t gap, const Pixel& pixel) {
  if (count <= 0 || height <= 0 || width <= 0) return {};
  columns = columns_of(count, height, width, columns);
  const Extent extent = grid_extent(count, height, width, columns);

  Picture picture{extent.width, extent.height, {}};
  picture.grey.assign(static_cast<std::size_t>(picture.width * picture.height), gap);
  for (std::int64_t image = 0; image < count; ++image) {
    const std::int64_t top = image / columns * (height + 1);
    const std::int64_t left = image % columns * (width + 1);
    for (std::int64_t offset = 0; offset < height * width; ++offset) {
      const std::int64_t y = top + offset / width;
      const std::int64_t x = left + offset % width;
      picture.grey[static_cast<std::size_t>(y * picture.width + x)] = pixel(image, offset);
    }
  }
  return zoom > 1 ? enlarged(picture, zoom) : picture;
}

float largest_magnitude(const float* values, std::int64_t count) {
  float largest = 0.0f;
  for (std::int64_t i = 0; i < count; ++i) {
    if (std::isfinite(values[i])) largest = std::max(largest, std::abs(values[i]));
  }
  return largest;
}

void append_bytes(void* context, void* data, int size) {
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  auto& file = *static_cast<std::vector<std::uint8_t>*>(context);
  file.insert(file.end(), bytes, bytes + size);
}

}  // namespace

Picture image_grid(const float* values, std::int64_t count, std::int64_t height, std::int64_t width,
                   std::int64_t columns, std::int64_t zoom) {
  return grid(count, height, width, columns, zoom, middle_grey, [&](std::int64_t image, std::int64_t offset) {
    return grey_of(values[image * height * width + offset]);
  });
}

Picture receptive_fields(const float* weights, std::int64_t count, std::int64_t height, std::int64_t width,
                         std::int64_t columns, std::int64_t zoom) {
  const std::int64_t units = height * width;
  std::vector<float> largest;
  for (std::int64_t field = 0; field < count; ++field) {
    largest.push_back(largest_magnitude(weights + field * units, units));
  }
  return grid(count, height, width, columns, zoom, receptive_field_gap,
              [&](std::int64_t field, std::int64_t offset) {
                const float scale = largest[static_cast<std::size_t>(field)];
                const float weight = weights[field * units + offset];
                return scale > 0.0f ? grey_of(0.5f + 0.5f * (weight / scale)) : middle_grey;
              });
}

Extent grid_extent(std::int64_t count, std::int64_t height, std::int64_t width, std::int64_t columns) {
  columns = columns_of(count, height, width, columns);
  const std::int64_t grid_rows = (count + columns - 1) / columns;
  return {columns * (width + 1) - 1, grid_rows * (height + 1) - 1};
}

void check_picture(const Extent& extent) {
  if (extent.width * extent.height <= max_png_pixels) return;
  throw UsageError("A picture of " + size_text(extent) + " is too large for a PNG file (the limit is " +
                   std::to_string(max_png_pixels) + " pixels in all); ask for fewer images or write NPY.");
}

void picture_shape(std::int64_t units, std::int64_t& height, std::int64_t& width) {
  if (height > 0 && width > 0 && height * width == units) return;
  const auto side = static_cast<std::int64_t>(std::lround(std::sqrt(static_cast<double>(units))));
  height = side * side == units ? side : 1;
  width = side * side == units ? side : units;
}

std::vector<std::uint8_t> png_bytes(const Picture& picture) {
  const std::string size = size_text({picture.width, picture.height});
  if (picture.width <= 0 || picture.height <= 0 ||
      static_cast<std::int64_t>(picture.grey.size()) != picture.width * picture.height) {
    throw InternalError("A picture of " + size + " with " + std::to_string(picture.grey.size()) +
                        " values cannot be written as PNG; please report this as a bug.");
  }
  check_picture({picture.width, picture.height});
  std::vector<std::uint8_t> file;
  const int width = static_cast<int>(picture.width);
  if (stbi_write_png_to_func(append_bytes, &file, width, static_cast<int>(picture.height), 1,
                             picture.grey.data(), width) == 0) {
    throw InternalError("A picture of " + size +
                        " could not be encoded as PNG: the encoder ran out of memory.");
  }
  return file;
}

}  // namespace wakesleep::command
