// Initial weights of one receiving unit, by addressed draws.
#include "kernels/cpu/instructions.hpp"
#include "kernels/cpu/random_words.hpp"

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

void draw_weights(const RowAddress& address, float limit, std::int64_t count, float* weights) {
  WordBuffer random;
  for (std::int64_t first = 0; first < count; first += words_at_a_time) {
    const std::int64_t here = count - first < words_at_a_time ? count - first : words_at_a_time;
    random_words(address, first / 4, (here + 3) / 4, random);
    for (std::int64_t j = 0; j < here; ++j) weights[first + j] = symmetric_uniform(random.words[j]) * limit;
  }
}

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
