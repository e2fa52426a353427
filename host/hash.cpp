#include "hash.hpp"

#include <openssl/evp.h>

#include <array>

#include "wakesleep/error.hpp"

namespace wakesleep {
namespace {

void require(int succeeded) {
  if (succeeded != 1) {
    throw InternalError(
        "libcrypto refused to compute a SHA-256, without which no file can be written or trusted; check the "
        "OpenSSL installation and its configuration file");
  }
}

}  // namespace

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  require(state_->context != nullptr ? 1 : 0);
  require(EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr));
}

Sha256::~Sha256() = default;

void Sha256::add(const void* bytes, std::size_t size) {
  require(EVP_DigestUpdate(state_->context, bytes, size));
}

std::string Sha256::finish() {
  std::array<unsigned char, 32> digest;
  require(EVP_DigestFinal_ex(state_->context, digest.data(), nullptr));
  constexpr const char* digits = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : digest) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

}  // namespace wakesleep
