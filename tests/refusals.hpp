// What a refusal says.
#pragma once

#include <gtest/gtest.h>

#include <string>

namespace wakesleep::testing {

/// The message of the Expected error that `call` must throw.
template <class Expected, class Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const Expected& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was refused";
  return "";
}

}  // namespace wakesleep::testing
