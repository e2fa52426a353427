// Tensor files (docs/file-format.md) as model_file.cpp writes and reads them, beside the whole-file functions
// of wakesleep/model_file.hpp.
#pragma once

#include <map>
#include <string>

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

}  // namespace wakesleep
