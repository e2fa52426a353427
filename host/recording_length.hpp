// How many steps are recorded together.
#pragma once

#include <algorithm>
#include <cstdint>

namespace wakesleep {

/// A recording of several steps saves the gaps between them; signals are answered behind its end. One of a
/// deep machine is kept to 512 conditionals, or one step: each makes a dozen operations a step.
inline std::int64_t steps_worth_recording(int conditionals) {
  constexpr std::int64_t most_steps = 8;
  constexpr std::int64_t most_conditionals = 512;
  return std::clamp<std::int64_t>(most_conditionals / conditionals, 1, most_steps);
}

}  // namespace wakesleep
