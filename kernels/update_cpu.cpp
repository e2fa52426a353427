// One optimiser step over a stretch of parameters.
#include "kernels/cpu/instructions.hpp"

namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS {

namespace {

// The optimiser is a constant of the loop, so that each of the three becomes a straight vector loop.
template <OptimizerKind kind, bool decayed, class Gradient>
bool update_all(float* parameters, float* first, float* second, const Gradient* gradient, std::int64_t count,
                Optimizer optimizer, const Rates rates) {
  optimizer.kind = kind;
  std::uint32_t not_finite = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    float m = kind == OptimizerKind::sgd ? 0.0f : first[i];
    float v = kind == OptimizerKind::adam ? second[i] : 0.0f;
    const float updated = updated_parameter(parameters[i], gradient[i], decayed, optimizer, rates, m, v);
    parameters[i] = updated;
    if constexpr (kind != OptimizerKind::sgd) first[i] = m;
    if constexpr (kind == OptimizerKind::adam) second[i] = v;
    not_finite |= is_finite(updated) ? 0u : 1u;
  }
  return not_finite == 0;
}

template <bool decayed, class Gradient>
bool update_as(float* parameters, float* first, float* second, const Gradient* gradient, std::int64_t count,
               const Optimizer& optimizer, const Rates& rates) {
  switch (optimizer.kind) {
    case OptimizerKind::sgd:
      return update_all<OptimizerKind::sgd, decayed>(parameters, first, second, gradient, count, optimizer,
                                                     rates);
    case OptimizerKind::momentum:
      return update_all<OptimizerKind::momentum, decayed>(parameters, first, second, gradient, count,
                                                          optimizer, rates);
    case OptimizerKind::adam:
      break;
  }
  return update_all<OptimizerKind::adam, decayed>(parameters, first, second, gradient, count, optimizer,
                                                  rates);
}

template <class Gradient>
bool update_any(float* parameters, float* first, float* second, const Gradient* gradient, std::int64_t count,
                bool decayed, const Optimizer& optimizer, const Rates& rates) {
  return decayed ? update_as<true>(parameters, first, second, gradient, count, optimizer, rates)
                 : update_as<false>(parameters, first, second, gradient, count, optimizer, rates);
}

}  // namespace

bool update(float* parameters, float* first, float* second, const std::int32_t* gradient, std::int64_t count,
            bool decayed, const Optimizer& optimizer, const Rates& rates) {
  return update_any(parameters, first, second, gradient, count, decayed, optimizer, rates);
}

bool update_along(float* parameters, float* first, float* second, const float* gradient, std::int64_t count,
                  bool decayed, const Optimizer& optimizer, const Rates& rates) {
  return update_any(parameters, first, second, gradient, count, decayed, optimizer, rates);
}

}  // namespace wakesleep::cpu::WAKESLEEP_INSTRUCTIONS
