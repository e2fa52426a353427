#include "kernels/cpu/threads.hpp"

#include <dlfcn.h>
#include <sched.h>

#include <algorithm>
#include <string>
#include <system_error>
#include <utility>

#include "wakesleep/error.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace wakesleep::cpu {

Range part_of(std::int64_t count, int index, int parts, std::int64_t grain) {
  const std::int64_t grains = (count + grain - 1) / grain;
  const std::int64_t begin = grains * index / parts * grain;
  const std::int64_t end = grains * (index + 1) / parts * grain;
  return {begin < count ? begin : count, end < count ? end : count};
}

namespace {

int available_processors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
  const unsigned hardware = std::thread::hardware_concurrency();
  return hardware > 0 ? static_cast<int>(hardware) : 1;
}

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

/// Spins between two looks at a thing waited for: from a few hundred nanoseconds to a few hundred
/// microseconds.
constexpr int least_spins = 16;
constexpr int most_spins = 8192;

// oneDNN divides its work by OpenMP, but here the work is divided already. Which OpenMP runtime it brought,
// if any, is known only at run time, so its two functions are looked up there.
struct OpenMp {
  int (*get_max_threads)() = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "omp_get_max_threads"));
  void (*set_num_threads)(int) = reinterpret_cast<void (*)(int)>(dlsym(RTLD_DEFAULT, "omp_set_num_threads"));
};
const OpenMp& open_mp() {
  static const OpenMp runtime;
  return runtime;
}

}  // namespace

template <class Ready>
bool Team::Patience::spin(bool helps, const Ready& ready) {
  for (int spin = 0; helps && spin < spins_; ++spin) {
    if (ready()) {
      spins_ = std::min(2 * spins_, most_spins);
      return true;
    }
    pause();
  }
  spins_ = std::max(spins_ / 2, least_spins);
  return ready();
}

Team::Team(int threads) {
  const int processors = available_processors();
  size_ = threads > 0 ? threads : processors;
  spinning_helps_ = size_ <= processors;
  shares_ = std::vector<Share>(static_cast<std::size_t>(size_));
  threads_.reserve(
      static_cast<std::size_t>(size_ - 1));  // before any thread runs that would have to be joined
  try {
    for (int index = 1; index < size_; ++index) threads_.emplace_back([this, index] { serve(index); });
  } catch (const std::system_error& error) {
    stop();
    throw DeviceError("cannot start " + std::to_string(size_) + " threads: " + error.what() +
                      "; use fewer (--threads)");
  }
}

Team::~Team() { stop(); }

void Team::stop() {
  stopping_.store(true, std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

/// Two callers would give each other's work to the team.
class Team::Turn {
 public:
  explicit Turn(std::atomic<bool>& called) : called_(called) {
    if (called.exchange(true, std::memory_order_acquire)) {
      throw UsageError(
          "two threads call the same Ops at once, directly or by machines, trainers or estimates that were "
          "made with it; give each thread an Ops of its own");
    }
  }
  ~Turn() { called_.store(false, std::memory_order_release); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  std::atomic<bool>& called_;
};

void Team::run(Call call, const void* context) {
  const Turn turn(called_);
  call_ = call;
  context_ = context;
  const std::uint32_t round = round_.load(std::memory_order_relaxed) + 1;
  if (size_ > 1) {
    unfinished_.store(static_cast<std::uint32_t>(size_ - 1), std::memory_order_relaxed);
    round_.store(round, std::memory_order_release);
    round_.notify_all();
  }
  work(0);
  for (int index = 1; index < size_; ++index) {
    if (!claim(index, round)) continue;
    work(index);
    unfinished_.fetch_sub(1, std::memory_order_relaxed);
  }
  if (size_ > 1 && !callers_patience_.spin(
                       spinning_helps_, [&] { return unfinished_.load(std::memory_order_acquire) == 0; })) {
    for (std::uint32_t left; (left = unfinished_.load(std::memory_order_acquire)) != 0;) {
      unfinished_.wait(left, std::memory_order_acquire);
    }
  }
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

/// True for the one who is to do the share. A round does not end before each of its shares was claimed, so
/// that a thread that comes late finds its share of the round it has seen claimed, and so does no harm.
bool Team::claim(int index, std::uint32_t round) {
  std::atomic<std::uint32_t>& begun = shares_[static_cast<std::size_t>(index)].begun;
  std::uint32_t before = round - 1;
  return begun.load(std::memory_order_relaxed) == before &&
         begun.compare_exchange_strong(before, round, std::memory_order_acquire, std::memory_order_relaxed);
}

void Team::work(int index) {
  try {
    call_(context_, index);
  } catch (...) {
    const std::lock_guard<std::mutex> lock(failure_mutex_);
    if (!failure_) failure_ = std::current_exception();
  }
}

void Team::serve(int index) {
  const ArithmeticScope scope;
  Patience patience;
  for (std::uint32_t seen = 0;;) {
    patience.spin(spinning_helps_, [&] { return round_.load(std::memory_order_acquire) != seen; });
    round_.wait(seen, std::memory_order_acquire);  // returns at once when the round has changed
    seen = round_.load(std::memory_order_acquire);
    if (stopping_.load(std::memory_order_relaxed)) return;
    if (!claim(index, seen)) continue;
    work(index);
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
  }
}

ArithmeticScope::ArithmeticScope() {
#if defined(__x86_64__)
  saved_control_ = _mm_getcsr();
  _mm_setcsr(0x1F80);  // round to nearest even, subnormals kept, exceptions masked
#else
  std::fegetenv(&saved_environment_);
  std::fesetenv(FE_DFL_ENV);
#endif
  saved_openmp_threads_ = open_mp().get_max_threads != nullptr ? open_mp().get_max_threads() : 1;
  if (saved_openmp_threads_ != 1 && open_mp().set_num_threads != nullptr) open_mp().set_num_threads(1);
}

ArithmeticScope::~ArithmeticScope() {
#if defined(__x86_64__)
  _mm_setcsr(saved_control_);
#else
  std::fesetenv(&saved_environment_);
#endif
  if (saved_openmp_threads_ != 1 && open_mp().set_num_threads != nullptr) {
    open_mp().set_num_threads(saved_openmp_threads_);
  }
}

}  // namespace wakesleep::cpu
