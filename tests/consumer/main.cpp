// Trains a tiny machine for two steps through the public headers alone, prints the hash of what it learned, and
// evaluates the model and has it dream, from its file.
#include <cstdint>
#include <exception>
#include <iostream>
#include <vector>

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

    wakesleep::save_model("consumer.safetensors", finished(trainer.snapshot()));
    const wakesleep::Model model = wakesleep::load_model("consumer.safetensors");
    const wakesleep::Machine machine = machine_of(*ops, model);
    const wakesleep::Evaluation evaluation = wakesleep::evaluate(machine, some_images(), {.samples = 10});
    const std::vector<float> dreams = wakesleep::dream(machine, 4, 1);
    const bool is_whole = trainer.step() == 2 && model.optimizer.empty() && evaluation.rows == 64 &&
                          evaluation.log_likelihood < 0 && dreams.size() == 4 * 15;
    return is_whole ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
