// Pictures of rows of values in [0, 1]: grids of images as grey PNG.
#pragma once

#include <cstdint>
#include <vector>

namespace wakesleep::command {

struct Picture {
  std::int64_t width = 0;
  std::int64_t height = 0;
  std::vector<std::uint8_t> grey;  ///< [height x width], 0 black .. 255 white
};

/// Pixels of a picture.
struct Extent {
  std::int64_t width = 0;
  std::int64_t height = 0;
};

/// Of the grid that image_grid makes, without enlargement.
Extent grid_extent(std::int64_t count, std::int64_t height, std::int64_t width, std::int64_t columns = 0);

/// Throws UsageError where a picture is too large for a PNG file.
void check_picture(const Extent& extent);

/// `count` images of height x width (values [count x height * width] in [0, 1]) side by side, `columns` a row
/// (0: chosen near a square), one grey pixel between them, each pixel enlarged `zoom` times.
Picture image_grid(const float* values, std::int64_t count, std::int64_t height, std::int64_t width,
                   std::int64_t columns = 0, std::int64_t zoom = 1);

/// Receptive fields: row i of `weights` [count x height * width] as an image, scaled symmetrically by its own
/// largest magnitude, so that zero is middle grey.
Picture receptive_fields(const float* weights, std::int64_t count, std::int64_t height, std::int64_t width,
                         std::int64_t columns = 0, std::int64_t zoom = 1);

/// The shape to draw rows of `units` values in: the given one, a square where units is one, else a single
/// row.
void picture_shape(std::int64_t units, std::int64_t& height, std::int64_t& width);

std::vector<std::uint8_t> png_bytes(const Picture& picture);

}  // namespace wakesleep::command
