// Where the tests find their files and the command: in the source and build folders that they were compiled
// in, unless the environment names others, so that built tests can be taken to another machine.
#pragma once

#include <cstdlib>
#include <string>

namespace wakesleep::testing {

inline std::string from_environment(const char* variable, const char* otherwise) {
  const char* value = std::getenv(variable);
  return value != nullptr ? value : otherwise;
}

/// A file below tests/, such as "golden/trainings.txt".
inline std::string test_file(const std::string& name) {
  return from_environment("WAKESLEEP_TEST_DATA", WAKESLEEP_TEST_DATA) + "/" + name;
}

/// The executable of the command line.
inline std::string command_path() { return from_environment("WAKESLEEP_COMMAND", WAKESLEEP_COMMAND); }

}  // namespace wakesleep::testing
