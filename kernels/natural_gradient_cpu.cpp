// Natural gradients of one receiving unit. Sums run over the rows of symmetric matrices, so that the
// innermost loop goes along one, whatever the vectors' length, and every sum is made in ascending order.
#include "kernels/cpu/instructions.hpp"

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

namespace {

void diagonal(const float* inverse, std::int64_t sending, const Rates& rates, const std::int32_t* gradient,
              std::int32_t bias_gradient, float* natural, float* natural_bias) {
  for (std::int64_t j = 0; j < sending; ++j) natural[j] = inverse[j] * mean_gradient(gradient[j], rates);
  *natural_bias = inverse[sending] * mean_gradient(bias_gradient, rates);
}

void dense(const float* inverse, std::int64_t sending, const Rates& rates, const std::int32_t* gradient,
           std::int32_t bias_gradient, float* natural, float* natural_bias) {
  for (std::int64_t j = 0; j < sending; ++j) natural[j] = 0.0f;
  *natural_bias = 0.0f;
  for (std::int64_t k = 0; k <= sending; ++k) {
    const float g = mean_gradient(k < sending ? gradient[k] : bias_gradient, rates);
    const float* row = inverse + k * (sending + 1);
    for (std::int64_t j = 0; j < sending; ++j) natural[j] += g * row[j];
    *natural_bias += g * row[sending];
  }
}

/// (g - A^T Q A g) / damping.
void woodbury(const FisherInverse& inverse, const float* q, std::int64_t sending, const Rates& rates,
              const std::int32_t* gradient, std::int32_t bias_gradient, float* natural, float* natural_bias) {
  const std::int64_t rows = inverse.rows.rows;
  float solved[max_fisher_order] = {};  // Q A g
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::uint8_t* states = inverse.rows.row(r);
    std::int64_t sum = bias_gradient;
    for (std::int64_t j = 0; j < sending; ++j) sum += states[j] * gradient[j];
    const float projected = static_cast<float>(sum) * rates.mean;
    for (std::int64_t k = 0; k < rows; ++k) solved[k] += projected * q[r * rows + k];
  }
  for (std::int64_t j = 0; j < sending; ++j) natural[j] = 0.0f;
  *natural_bias = 0.0f;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::uint8_t* states = inverse.rows.row(r);
    for (std::int64_t j = 0; j < sending; ++j) natural[j] += static_cast<float>(states[j]) * solved[r];
    *natural_bias += solved[r];
  }
  for (std::int64_t j = 0; j < sending; ++j) {
    natural[j] = (mean_gradient(gradient[j], rates) - natural[j]) / inverse.damping;
  }
  *natural_bias = (mean_gradient(bias_gradient, rates) - *natural_bias) / inverse.damping;
}

}  // namespace

void natural_gradient(const FisherInverse& inverse, std::int64_t unit, std::int64_t sending,
                      const Rates& rates, const std::int32_t* gradient, std::int32_t bias_gradient,
                      float* natural, float* natural_bias) {
  const std::int64_t d = sending + 1;
  switch (inverse.form) {
    case FisherForm::diagonal:
      diagonal(inverse.blocks + unit * d, sending, rates, gradient, bias_gradient, natural, natural_bias);
      break;
    case FisherForm::dense:
      dense(inverse.blocks + unit * d * d, sending, rates, gradient, bias_gradient, natural, natural_bias);
      break;
    case FisherForm::woodbury:
      woodbury(inverse, inverse.blocks + unit * inverse.rows.rows * inverse.rows.rows, sending, rates,
               gradient, bias_gradient, natural, natural_bias);
      break;
  }
}

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
