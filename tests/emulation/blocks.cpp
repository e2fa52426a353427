// Grids of threads on one host thread. The threads of a block run as fibers: a thread runs until it ends or
// reaches a barrier, and then another does. A fiber whose thread has ended takes the next thread that has not
// begun, so that kernels without barriers need one. Orders are reversed from round to round and block to
// block, which shows missing barriers and results that depend on the order of blocks.
#include <setjmp.h>
#include <ucontext.h>

#include <memory>
#include <vector>

#include "cuda_runtime.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace {

constexpr std::size_t stack_bytes = 256 * 1024;
constexpr unsigned int most_threads = 1024;
constexpr unsigned int warp_threads = 32;

/// A place where the host thread's execution can be left and taken up again.
struct Context {
  jmp_buf place;
  const void* stack = nullptr;
  std::size_t bytes = 0;
  void* shadow = nullptr;
};

struct Fiber {
  Context context;
  std::unique_ptr<char[]> memory{new char[stack_bytes]};
  bool begun = false;
};

struct Thread {
  Fiber* fiber = nullptr;
  unsigned int block_barriers = 0;
};

/// The block that runs now.
struct Block {
  const emulation::Work* work = nullptr;
  std::vector<Thread> threads;
  std::vector<unsigned int> ready;  ///< threads that have passed a barrier, the last of which goes on first
  std::vector<unsigned int> at_warp_barrier;
  unsigned int at_block_barrier = 0;
  unsigned int begun = 0;
  unsigned int ended = 0;
  bool last_begins = false;  ///< threads begin in reverse order
  bool last_goes_on = false;
};

Block block;
Context scheduler;
std::vector<std::unique_ptr<Fiber>> fibers;
std::vector<Fiber*> idle;
Fiber* running_fiber = nullptr;
unsigned int running_thread = 0;
std::uint64_t words[most_threads];
bool running_a_grid = false;

void leave(Context& from, [[maybe_unused]] const Context& to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.shadow, to.stack, to.bytes);
#else
  (void)from;
#endif
}
void arrive([[maybe_unused]] Context& at, [[maybe_unused]] bool from_scheduler) {
#if defined(__SANITIZE_ADDRESS__)
  const void* stack = nullptr;
  std::size_t bytes = 0;
  __sanitizer_finish_switch_fiber(at.shadow, &stack, &bytes);
  if (from_scheduler) {
    scheduler.stack = stack;
    scheduler.bytes = bytes;
  }
#endif
}

void become(unsigned int thread) {
  running_thread = thread;
  threadIdx = dim3(thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / blockDim.x / blockDim.y);
  block.threads[thread].fiber = running_fiber;
}

void to_scheduler() {
  Fiber& fiber = *running_fiber;
  if (_setjmp(fiber.context.place) == 0) {
    leave(fiber.context, scheduler);
    _longjmp(scheduler.place, 1);
  }
  arrive(fiber.context, true);
}

void fiber_main() {
  arrive(running_fiber->context, true);
  for (;;) {
    while (block.begun < block.threads.size()) {
      const unsigned int count = static_cast<unsigned int>(block.threads.size());
      const unsigned int next = block.begun++;
      become(block.last_begins ? count - 1 - next : next);
      (*block.work)();
      ++block.ended;
    }
    idle.push_back(running_fiber);
    to_scheduler();
  }
}

void switch_to(Fiber& fiber) {
  running_fiber = &fiber;
  if (_setjmp(scheduler.place) == 0) {
    leave(scheduler, fiber.context);
    if (fiber.begun) _longjmp(fiber.context.place, 1);
    fiber.begun = true;
    ucontext_t start;
    getcontext(&start);
    start.uc_stack.ss_sp = fiber.memory.get();
    start.uc_stack.ss_size = stack_bytes;
    start.uc_link = nullptr;
    makecontext(&start, fiber_main, 0);
    setcontext(&start);
  }
  arrive(scheduler, false);
}

Fiber& idle_fiber() {
  if (idle.empty()) {
    fibers.push_back(std::make_unique<Fiber>());
    fibers.back()->context.stack = fibers.back()->memory.get();
    fibers.back()->context.bytes = stack_bytes;
    idle.push_back(fibers.back().get());
  }
  Fiber& fiber = *idle.back();
  idle.pop_back();
  return fiber;
}

/// Threads [first, first + count) have all reached a barrier. Forwards and backwards in turn.
void release(unsigned int first, unsigned int count) {
  block.last_goes_on = !block.last_goes_on;
  for (unsigned int i = 0; i < count; ++i) {
    block.ready.push_back(block.last_goes_on ? first + i : first + count - 1 - i);
  }
}

void wait_for_warp() {
  const unsigned int warp = running_thread / warp_threads;
  if ((warp + 1) * warp_threads > block.threads.size()) {
    emulation::fail("a warp without all of its lanes exchanges words");
  }
  if (++block.at_warp_barrier[warp] == warp_threads) {
    block.at_warp_barrier[warp] = 0;
    release(warp * warp_threads, warp_threads);
  }
  to_scheduler();
}

void run_block() {
  const unsigned int count = blockDim.x * blockDim.y * blockDim.z;
  block.threads.assign(count, Thread{});
  block.at_warp_barrier.assign((count + warp_threads - 1) / warp_threads, 0);
  block.at_block_barrier = 0;
  block.begun = 0;
  block.ended = 0;
  while (block.ended < count) {
    if (!block.ready.empty()) {
      const unsigned int thread = block.ready.back();
      block.ready.pop_back();
      running_fiber = block.threads[thread].fiber;
      become(thread);
      switch_to(*running_fiber);
    } else if (block.begun < count) {
      switch_to(idle_fiber());
    } else {
      emulation::fail("some threads of a block wait at a barrier that the others never reach");
    }
  }
  for (const Thread& thread : block.threads) {
    if (thread.block_barriers != block.threads[0].block_barriers) {
      emulation::fail("threads of a block passed different numbers of barriers");
    }
  }
}

}  // namespace

void __syncthreads() {
  ++block.threads[running_thread].block_barriers;
  const unsigned int count = static_cast<unsigned int>(block.threads.size());
  if (++block.at_block_barrier == count) {
    block.at_block_barrier = 0;
    release(0, count);
  }
  to_scheduler();
}

namespace emulation {

unsigned int lane() { return running_thread % warp_threads; }

std::uint64_t exchange(std::uint64_t word, unsigned int other) {
  words[running_thread] = word;
  wait_for_warp();
  const std::uint64_t given = words[running_thread / warp_threads * warp_threads + other];
  wait_for_warp();
  return given;
}

void run_grid(dim3 grid, dim3 threads, const Work& thread) {
  if (running_a_grid) fail("a kernel was launched by a kernel");
  if (threads.x * threads.y * threads.z > most_threads || threads.x > 1024 || threads.y > 1024 ||
      threads.z > 64) {
    fail("a block has more threads than a GPU allows");
  }
  if (grid.x > 2147483647u || grid.y > 65535u || grid.z > 65535u) {
    fail("a grid has more blocks in one direction than a GPU allows");
  }
  running_a_grid = true;
  gridDim = grid;
  blockDim = threads;
  block.work = &thread;
  static bool last_block_first = false;
  last_block_first = !last_block_first;
  const std::uint64_t blocks = std::uint64_t{grid.x} * grid.y * grid.z;
  for (std::uint64_t i = 0; i < blocks; ++i) {
    const std::uint64_t number = last_block_first ? blocks - 1 - i : i;
    blockIdx =
        dim3(static_cast<unsigned int>(number % grid.x), static_cast<unsigned int>(number / grid.x % grid.y),
             static_cast<unsigned int>(number / grid.x / grid.y));
    block.last_begins = number % 2 == 1;
    run_block();
  }
  running_a_grid = false;
}

}  // namespace emulation
