// Prints how long a cache line takes from one processor to another and back, in nanoseconds: what two threads
// of a training step that answer each other wait for. Some 50 ns where the two share a cache, several times
// as much where they do not; on a virtual machine that may change from minute to minute.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <thread>

int main() {
  constexpr int round_trips = 200'000;
  std::atomic<int> ball{0};  // odd: the other thread's turn
  std::thread other([&] {
    for (int trip = 0; trip < round_trips; ++trip) {
      while (ball.load(std::memory_order_acquire) != 2 * trip + 1) {
      }
      ball.store(2 * trip + 2, std::memory_order_release);
    }
  });
  const auto begin = std::chrono::steady_clock::now();
  for (int trip = 0; trip < round_trips; ++trip) {
    ball.store(2 * trip + 1, std::memory_order_release);
    while (ball.load(std::memory_order_acquire) != 2 * trip + 2) {
    }
  }
  const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - begin;
  other.join();
  std::printf("%.0f\n", spent.count() / round_trips);
}
