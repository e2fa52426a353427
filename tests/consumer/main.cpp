// Trains a tiny machine for two steps through the public headers alone, and prints the hash of what it
// learned.
#include <cstdint>
#include <exception>
#include <iostream>

#include "wakesleep/wakesleep.hpp"

namespace {

/// 64 images of 3 x 5 binary pixels: the rows are the numbers from 0 to 63, spread over the bits.
wakesleep::DataSet some_images() {
  wakesleep::DataSet data;
  data.rows = 64;
  data.units = 15;
  data.row_bytes = 2;
  data.height = 3;
  data.width = 5;
  data.source = "some images";
  for (std::uint32_t row = 0; row < 64; ++row) {
    const std::uint32_t bits = row * 0x0421u & 0xFFFEu;  // the last bit of two bytes is padding
    data.bytes.push_back(static_cast<std::uint8_t>(bits >> 8));
    data.bytes.push_back(static_cast<std::uint8_t>(bits & 255u));
  }
  return data;
}

}  // namespace

int main() {
  try {
    wakesleep::TrainingSettings settings;
    settings.layers = {7, 3};
    settings.batch_size = 32;
    settings.epochs = 1;

    const auto ops = wakesleep::make_cpu_ops();
    wakesleep::Trainer trainer(*ops, some_images(), settings);
    trainer.run_epoch();
    std::cout << wakesleep::hash_of(trainer.machine().download()) << "\n";
    return trainer.step() == 2 ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
