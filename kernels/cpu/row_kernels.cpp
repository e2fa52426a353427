// The table of row kernels of one instruction set.
#include "kernels/cpu/instructions.hpp"

#define WAKESLEEP_NAME_OF(text) #text
#define WAKESLEEP_NAME(text) WAKESLEEP_NAME_OF(text)

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

extern const RowKernels table;
const RowKernels table = {
    .name = WAKESLEEP_NAME(WAKESLEEP_INSTRUCTIONS),
    .gather_bits = gather_bits,
    .gather_grey = gather_grey,
    .gather_fixed_point = gather_fixed_point,
    .pack_bits = pack_bits,
    .sample = sample,
    .sample_in_order = sample_in_order,
    .delta = delta,
    .round_errors = round_errors,
    .shared_delta = shared_delta,
    .shared_coefficient_delta = shared_coefficient_delta,
    .logits = logits,
    .score = score,
    .probabilities = probabilities,
    .sum_columns = sum_columns,
    .count_columns = count_columns,
    .largest_integer = largest_integer,
    .update = update,
    .update_along = update_along,
    .natural_gradient = natural_gradient,
    .draw_weights = draw_weights,
    .largest_magnitude = largest_magnitude,
    .quantize_limbs = quantize_limbs,
    .quantize_words = quantize_words,
    .quantize_floats = quantize_floats,
};

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
