// A fixed team of threads that divide one operation at a time between them.
#pragma once

#include <atomic>
#include <cfenv>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace wakesleep::cpu {

/// Part `index` of `parts` of the range [0, count), in whole multiples of `grain` where that is possible.
struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};
Range part_of(std::int64_t count, int index, int parts, std::int64_t grain = 1);

/// The caller is thread 0. Operations follow each other within microseconds, so idle threads spin for a while
/// before they sleep; with more threads than processors they sleep at once. A share of the work that its
/// thread has not begun when the caller is done with its own, because it sleeps or because another process
/// has its processor, is done by the caller: on a busy machine nobody waits for a thread that does not run.
class Team {
 public:
  /// `threads` = 0: as many as this process may run on.
  explicit Team(int threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const { return size_; }

  /// Calls work(index) once for every index 0 .. size() - 1, at the same time as far as the threads are free,
  /// and returns when all have returned; what one of them throws is thrown here. Throws UsageError while
  /// another thread's call lasts.
  template <class Work>
  void run(const Work& work) {
    run([](const void* context, int index) { (*static_cast<const Work*>(context))(index); }, &work);
  }

 private:
  using Call = void (*)(const void* context, int index);
  void run(Call call, const void* context);
  void serve(int index);
  bool claim(int index, std::uint32_t round);
  void work(int index);
  void stop();

  class Turn;
  class Patience {
   public:
    /// True as soon as ready() is; false when patience ends first.
    template <class Ready>
    bool spin(bool helps, const Ready& ready);

   private:
    int spins_ = 1024;
  };

  /// The latest round whose share somebody has begun.
  struct alignas(64) Share {
    std::atomic<std::uint32_t> begun{0};
  };

  int size_ = 1;
  std::atomic<bool> called_{false};
  bool spinning_helps_ = false;
  Patience callers_patience_;
  Call call_ = nullptr;
  const void* context_ = nullptr;
  alignas(64) std::atomic<std::uint32_t> round_{0};       ///< counts the calls of run()
  alignas(64) std::atomic<std::uint32_t> unfinished_{0};  ///< shares of this round that are not done
  std::vector<Share> shares_;
  std::atomic<bool> stopping_{false};
  std::mutex failure_mutex_;
  std::exception_ptr failure_;
  std::vector<std::thread> threads_;
};

/// The floating-point environment of the contract (nearest even, no flushing of subnormals) and one OpenMP
/// thread for the library behind the products, for the time of one operation; the caller's is restored.
class ArithmeticScope {
 public:
  ArithmeticScope();
  ~ArithmeticScope();
  ArithmeticScope(const ArithmeticScope&) = delete;
  ArithmeticScope& operator=(const ArithmeticScope&) = delete;

 private:
#if defined(__x86_64__)
  unsigned saved_control_;
#else
  std::fenv_t saved_environment_;
#endif
  int saved_openmp_threads_;
};

}  // namespace wakesleep::cpu
