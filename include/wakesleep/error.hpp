// The exceptions that the library throws. Each carries one clear sentence: what was wrong, where, what was
// expected, what to do. The command line prints it and exits with exit_code(), which follows sysexits.h.
#pragma once

#include <stdexcept>
#include <string>

namespace wakesleep {

class Error : public std::runtime_error {
 public:
  Error(const std::string& message, int exit_code) : std::runtime_error(message), exit_code_(exit_code) {}
  int exit_code() const { return exit_code_; }

 private:
  int exit_code_;
};

/// An option, key or argument that cannot be used as given.
struct UsageError : Error {
  explicit UsageError(const std::string& message) : Error(message, 64) {}
};
/// Data or a model file that cannot be read, or that does not fit what it is used with.
struct DataError : Error {
  explicit DataError(const std::string& message) : Error(message, 65) {}
};
/// The device that was asked for is missing, too old, or has not enough memory.
struct DeviceError : Error {
  explicit DeviceError(const std::string& message) : Error(message, 69) {}
};
/// Something that should be impossible, such as a product route that fails its exactness check.
struct InternalError : Error {
  explicit InternalError(const std::string& message) : Error(message, 70) {}
};
/// Training left the finite numbers; the message names the layer and the step.
struct DivergenceError : Error {
  explicit DivergenceError(const std::string& message) : Error(message, 70) {}
};
/// An output file or folder that cannot be created (or is held by another run).
struct CannotCreateError : Error {
  explicit CannotCreateError(const std::string& message) : Error(message, 73) {}
};
/// Writing failed on the way: disk full, quota, an input/output error.
struct OutputError : Error {
  explicit OutputError(const std::string& message) : Error(message, 74) {}
};

}  // namespace wakesleep
