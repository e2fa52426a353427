#pragma once

#include <cfenv>

namespace wakesleep {

/// The default floating-point environment (nearest even, subnormals kept) while the library computes on the
/// host; the caller's is restored.
class FloatingPointScope {
 public:
  FloatingPointScope() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~FloatingPointScope() { std::fesetenv(&saved_); }
  FloatingPointScope(const FloatingPointScope&) = delete;
  FloatingPointScope& operator=(const FloatingPointScope&) = delete;

 private:
  std::fenv_t saved_;
};

}  // namespace wakesleep
