// Grids of threads on one host thread. The threads of a block run as fibers: a thread runs until it ends or
// reaches a barrier, and then another does. A fiber whose thread has ended takes the next thread that has not
// begun, so that kernels without barriers need one. Orders are reversed from round to round and block to
// block, which shows missing barriers and results that depend on the order of blocks. Blocks run one after
// the other, but those of a cooperative launch are all there at once: a block runs until it can go no
// further, and then another does.
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

struct Block {
  dim3 number;
  std::vector<Thread> threads;
  std::vector<unsigned int> ready;  ///< threads that have passed a barrier, the last of which goes on first
  std::vector<unsigned int> at_warp_barrier;
  std::vector<std::uint64_t> words;  ///< that lanes exchange, by thread
  std::vector<emulation::Words> several_words;
  std::vector<uint4> memory;  ///< shared, of a cooperative launch
  unsigned int at_block_barrier = 0;
  unsigned int begun = 0;
  unsigned int ended = 0;
  bool last_begins = false;  ///< threads begin in reverse order
  bool last_goes_on = false;

  unsigned int count() const { return static_cast<unsigned int>(threads.size()); }
  bool can_go_on() const { return !ready.empty() || begun < count(); }
};

std::vector<Block> blocks;  ///< that are there now
Block* running_block = nullptr;
const emulation::Work* work = nullptr;
std::size_t at_grid_barrier = 0;
std::uint64_t passed_grid_barriers = 0;
Context scheduler;
std::vector<std::unique_ptr<Fiber>> fibers;
std::vector<Fiber*> idle;
Fiber* running_fiber = nullptr;
unsigned int running_thread = 0;
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
  running_block->threads[thread].fiber = running_fiber;
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
    // A thread may have let other blocks run; its own is the running one whenever it goes on.
    while (running_block->begun < running_block->count()) {
      const unsigned int next = running_block->begun++;
      become(running_block->last_begins ? running_block->count() - 1 - next : next);
      (*work)();
      ++running_block->ended;
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

/// Threads [first, first + count) of a block have all reached a barrier. Forwards and backwards in turn.
void release(Block& block, unsigned int first, unsigned int count) {
  block.last_goes_on = !block.last_goes_on;
  for (unsigned int i = 0; i < count; ++i) {
    block.ready.push_back(block.last_goes_on ? first + i : first + count - 1 - i);
  }
}

void wait_for_warp() {
  Block& block = *running_block;
  const unsigned int warp = running_thread / warp_threads;
  if ((warp + 1) * warp_threads > block.count()) {
    emulation::fail("a warp without all of its lanes exchanges words");
  }
  if (++block.at_warp_barrier[warp] == warp_threads) {
    block.at_warp_barrier[warp] = 0;
    release(block, warp * warp_threads, warp_threads);
  }
  to_scheduler();
}

void prepare(Block& block, dim3 number, bool last_begins, std::size_t memory_bytes) {
  const unsigned int count = blockDim.x * blockDim.y * blockDim.z;
  block.number = number;
  block.threads.assign(count, Thread{});
  block.at_warp_barrier.assign((count + warp_threads - 1) / warp_threads, 0);
  block.words.resize(count);
  block.several_words.resize(count);
  block.memory.assign((memory_bytes + sizeof(uint4) - 1) / sizeof(uint4),
                      {0xA5A5A5A5u, 0xA5A5A5A5u, 0xA5A5A5A5u, 0xA5A5A5A5u});
  block.at_block_barrier = 0;
  block.begun = 0;
  block.ended = 0;
  block.last_begins = last_begins;
}

/// Runs a block until all of its threads have ended or wait.
void go_on(Block& block) {
  running_block = &block;
  blockIdx = block.number;
  while (block.can_go_on()) {
    if (block.ready.empty()) {
      switch_to(idle_fiber());
      continue;
    }
    const unsigned int thread = block.ready.back();
    block.ready.pop_back();
    running_fiber = block.threads[thread].fiber;
    become(thread);
    switch_to(*running_fiber);
  }
}

void check_end(const Block& block) {
  if (block.ended < block.count()) {
    emulation::fail("some threads wait at a barrier that the others never reach");
  }
  for (const Thread& thread : block.threads) {
    if (thread.block_barriers != block.threads[0].block_barriers) {
      emulation::fail("threads of a block passed different numbers of barriers");
    }
  }
}

void begin_grid(dim3 grid, dim3 threads, const emulation::Work& thread) {
  if (running_a_grid) emulation::fail("a kernel was launched by a kernel");
  if (threads.x * threads.y * threads.z > most_threads || threads.x > 1024 || threads.y > 1024 ||
      threads.z > 64) {
    emulation::fail("a block has more threads than a GPU allows");
  }
  if (grid.x > 2147483647u || grid.y > 65535u || grid.z > 65535u) {
    emulation::fail("a grid has more blocks in one direction than a GPU allows");
  }
  running_a_grid = true;
  gridDim = grid;
  blockDim = threads;
  work = &thread;
  at_grid_barrier = 0;
}

}  // namespace

void __syncthreads() {
  Block& block = *running_block;
  ++block.threads[running_thread].block_barriers;
  if (++block.at_block_barrier == block.count()) {
    block.at_block_barrier = 0;
    release(block, 0, block.count());
  }
  to_scheduler();
}

namespace emulation {

unsigned int lane() { return running_thread % warp_threads; }

std::uint64_t exchange(std::uint64_t word, unsigned int other) {
  running_block->words[running_thread] = word;
  wait_for_warp();
  const std::uint64_t given = running_block->words[running_thread / warp_threads * warp_threads + other];
  wait_for_warp();
  return given;
}

void exchange(const Words& own, const std::function<void(const Words* of_lane)>& use) {
  running_block->several_words[running_thread] = own;
  wait_for_warp();
  use(&running_block->several_words[running_thread / warp_threads * warp_threads]);
  wait_for_warp();
}

void* block_memory() { return running_block->memory.data(); }

void grid_barrier() {
  if (++at_grid_barrier == blocks.size() * running_block->count()) {
    at_grid_barrier = 0;
    ++passed_grid_barriers;
    for (Block& block : blocks) release(block, 0, block.count());
  }
  to_scheduler();
}

std::uint64_t grid_barriers_passed() { return passed_grid_barriers; }

void run_grid(dim3 grid, dim3 threads, const Work& thread) {
  begin_grid(grid, threads, thread);
  static bool last_block_first = false;
  last_block_first = !last_block_first;
  const std::uint64_t count = std::uint64_t{grid.x} * grid.y * grid.z;
  blocks.resize(1);
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t number = last_block_first ? count - 1 - i : i;
    prepare(
        blocks[0],
        dim3(static_cast<unsigned int>(number % grid.x), static_cast<unsigned int>(number / grid.x % grid.y),
             static_cast<unsigned int>(number / grid.x / grid.y)),
        number % 2 == 1, 0);
    go_on(blocks[0]);
    check_end(blocks[0]);
  }
  running_a_grid = false;
}

void run_cooperative_grid(unsigned int grid, dim3 threads, std::size_t memory_bytes, const Work& thread) {
  begin_grid(dim3(grid), threads, thread);
  if (grid > multiprocessors) fail("a cooperative launch has more blocks than can run at the same time");
  blocks.resize(grid);
  for (unsigned int number = 0; number < grid; ++number) {
    prepare(blocks[number], dim3(number), number % 2 == 1, memory_bytes);
  }
  bool last_block_first = false;
  for (bool any = true; any;) {
    any = false;
    last_block_first = !last_block_first;
    for (unsigned int i = 0; i < grid; ++i) {
      Block& block = blocks[last_block_first ? grid - 1 - i : i];
      if (!block.can_go_on()) continue;
      go_on(block);
      any = true;
    }
  }
  for (const Block& block : blocks) check_end(block);
  running_a_grid = false;
}

}  // namespace emulation
