// SIGINT and SIGTERM: the first one is noted, so that the step can be finished and saved; a second one ends
// the process.
#pragma once

#include <signal.h>

#include <csignal>

namespace wakesleep::command {

/// Restores what stood before when it goes. One at a time. A signal that the caller ignores (nohup) stays
/// ignored.
class SignalWatch {
 public:
  SignalWatch() {
    caught_ = 0;
    watch(SIGINT, interrupt_before_);
    watch(SIGTERM, terminate_before_);
  }
  ~SignalWatch() {
    ::sigaction(SIGINT, &interrupt_before_, nullptr);
    ::sigaction(SIGTERM, &terminate_before_, nullptr);
  }
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

  /// The signal that came, 0 when none did.
  static int caught() { return caught_; }

 private:
  // Only what is allowed in a handler: sets a flag, and gives the next signal its usual effect.
  static void handle(int number) {
    caught_ = number;
    struct sigaction usual = {};
    usual.sa_handler = SIG_DFL;
    ::sigaction(SIGINT, &usual, nullptr);
    ::sigaction(SIGTERM, &usual, nullptr);
  }

  static void watch(int number, struct sigaction& before) {
    ::sigaction(number, nullptr, &before);
    if (before.sa_handler == SIG_IGN) return;
    struct sigaction noted = {};
    noted.sa_handler = handle;
    noted.sa_flags = SA_RESTART;
    ::sigaction(number, &noted, nullptr);
  }

  static inline volatile std::sig_atomic_t caught_ = 0;
  struct sigaction interrupt_before_ = {};
  struct sigaction terminate_before_ = {};
};

}  // namespace wakesleep::command
