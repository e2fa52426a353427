// SHA-256 (FIPS 180-4), from libcrypto.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace wakesleep {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void add(const void* bytes, std::size_t size);
  /// 64 hexadecimal digits, lower case. Ends the object's use.
  std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace wakesleep
