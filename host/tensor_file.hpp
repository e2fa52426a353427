// Tensor files (docs/file-format.md) as model_file.cpp writes and reads them, beside the whole-file functions
// of wakesleep/model_file.hpp.
#pragma once

#include <map>
#include <string>

#include "wakesleep/error.hpp"
#include "wakesleep/model_file.hpp"

namespace wakesleep {

/// What is to be written, without a copy of the values.
struct TensorContent {
  std::map<std::string, const Tensor*> tensors;
  Metadata metadata;
};

/// As write_tensor_file.
void write_content(const std::string& path, const TensorContent& content);

/// The entry `name`. Throws DataError where there is none.
std::string found_in(const Metadata& metadata, const std::string& name);

/// Runs `work`; errors about the content of a file get the file's path in front of them.
template <class Work>
auto about(const std::string& path, const Work& work) {
  try {
    return work();
  } catch (const DataError& error) {
    throw DataError(path + ": " + error.what());
  } catch (const UsageError& error) {
    throw UsageError(path + ": " + error.what());
  }
}

}  // namespace wakesleep
