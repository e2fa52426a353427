// Memory, streams, events and graphs. What is queued runs only when somebody waits for it, and then in an
// order that the streams allow but that nobody should count on: at each turn any stream may be next, and so
// may any node of a graph whose predecessors have run.
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cuda_runtime.h"

namespace {

constexpr std::size_t all_bytes = std::size_t{16} << 30;
constexpr std::size_t page = 4096;
constexpr int cache_bytes = 12 << 20;
constexpr int devices = 2;  ///< which differ in nothing

struct Node {
  emulation::Work work;
  std::set<std::size_t> after;
};
using Nodes = std::vector<Node>;

struct CaptureState {
  cudaStream_t origin = nullptr;
  std::set<cudaStream_t> streams;
  Nodes nodes;
  bool invalid = false;
};
using SharedCapture = std::shared_ptr<CaptureState>;

struct EventState {
  std::uint64_t recorded = 0;  ///< times it was queued
  std::uint64_t reached = 0;   ///< the latest of these that has run
  std::uint64_t time = 0;
  SharedCapture capture;  ///< in which it was recorded last; null outside
  std::set<std::size_t> after;
};
using SharedEvent = std::shared_ptr<EventState>;

struct Item {
  emulation::Work work;
  SharedEvent waits_for;
  std::uint64_t occasion = 0;
};

std::vector<cudaStream_t> streams;
SharedCapture captured_by_this_thread;
std::uint64_t now = 0;
cudaError_t last_error = cudaSuccess;
int current_device = 0;
std::set<int> contexts_opened;

cudaError_t result(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

/// Numbers nobody can count on, the same in every run; WAKESLEEP_EMULATION_SEED gives others.
std::uint64_t any_below(std::uint64_t limit) {
  static std::uint64_t state = [] {
    const char* seed = std::getenv("WAKESLEEP_EMULATION_SEED");
    return seed == nullptr ? std::uint64_t{1} : std::strtoull(seed, nullptr, 10);
  }();
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (state >> 33) % limit;
}

/// True, and the capture is lost, where a call is forbidden because the thread captures.
bool forbidden_in_capture() {
  if (captured_by_this_thread == nullptr) return false;
  captured_by_this_thread->invalid = true;
  return true;
}

}  // namespace

struct CUstream_st {
  std::deque<Item> items;
  SharedCapture capture;
  std::set<std::size_t> last;  ///< nodes that what is captured next runs after
};
struct CUevent_st {
  SharedEvent state = std::make_shared<EventState>();
};
struct CUgraph_st {
  Nodes nodes;
};
struct CUgraphExec_st {
  std::shared_ptr<const Nodes> nodes;
};

namespace {

bool can_run(const CUstream_st& stream) {
  if (stream.items.empty()) return false;
  const Item& item = stream.items.front();
  return item.waits_for == nullptr || item.waits_for->reached >= item.occasion;
}

template <class Condition>
void run_until(const Condition& reached) {
  while (!reached()) {
    std::vector<cudaStream_t> able;
    for (const cudaStream_t stream : streams) {
      if (can_run(*stream)) able.push_back(stream);
    }
    if (able.empty()) emulation::fail("streams wait for each other in a circle");
    CUstream_st& stream = *able[any_below(able.size())];
    for (std::uint64_t turns = 1 + any_below(12); turns > 0 && can_run(stream); --turns) {
      Item item = std::move(stream.items.front());
      stream.items.pop_front();
      ++now;
      if (item.work) item.work();
    }
  }
}

void run_everything() {
  run_until([] {
    return std::all_of(streams.begin(), streams.end(), [](cudaStream_t s) { return s->items.empty(); });
  });
}

void run_nodes(const Nodes& nodes) {
  std::vector<std::size_t> waiting(nodes.size());
  std::vector<std::vector<std::size_t>> followers(nodes.size());
  std::vector<std::size_t> able;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    waiting[i] = nodes[i].after.size();
    for (const std::size_t before : nodes[i].after) followers[before].push_back(i);
    if (waiting[i] == 0) able.push_back(i);
  }
  while (!able.empty()) {
    std::swap(able[any_below(able.size())], able.back());
    const std::size_t next = able.back();
    able.pop_back();
    ++now;
    nodes[next].work();
    for (const std::size_t follower : followers[next]) {
      if (--waiting[follower] == 0) able.push_back(follower);
    }
  }
}

/// Whether every node runs before the end of the stream that the capture began with.
bool all_joined(const CaptureState& capture) {
  std::set<std::size_t> joined = capture.origin->last;
  for (std::size_t i = capture.nodes.size(); i-- > 0;) {
    if (joined.contains(i)) joined.insert(capture.nodes[i].after.begin(), capture.nodes[i].after.end());
  }
  return joined.size() == capture.nodes.size();
}

void insert(std::set<std::size_t>& into, const std::set<std::size_t>& numbers) {
  into.insert(numbers.begin(), numbers.end());
}

// -------------------------------------------------------------------------------- memory
// The end of each piece touches a page that may not be touched, and so does, nearly, its beginning.

struct Piece {
  void* pages = nullptr;
  std::size_t all = 0;
  std::size_t bytes = 0;
  bool on_device = false;
};
std::map<void*, Piece> pieces;
std::size_t held = 0;

cudaError_t allocate(void** memory, std::size_t bytes, bool on_device) {
  contexts_opened.insert(current_device);
  if (forbidden_in_capture()) return result(cudaErrorStreamCaptureUnsupported);
  if (on_device && bytes > all_bytes - held) return result(cudaErrorMemoryAllocation);
  const std::size_t rounded = (bytes + 15) / 16 * 16;  // a GPU aligns to 256 bytes
  const std::size_t used = (rounded + page - 1) / page * page;
  void* pages = mmap(nullptr, used + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) return result(cudaErrorMemoryAllocation);
  char* first = static_cast<char*>(pages) + page;
  if (mprotect(first, used, PROT_READ | PROT_WRITE) != 0) return result(cudaErrorMemoryAllocation);
  *memory = first + used - rounded;
  std::memset(*memory, 0xA5, rounded);  // what no program has put there
  pieces[*memory] = {pages, used + 2 * page, bytes, on_device};
  if (on_device) held += bytes;
  return cudaSuccess;
}

cudaError_t release(void* memory) {
  contexts_opened.insert(current_device);
  if (memory == nullptr) return cudaSuccess;
  if (forbidden_in_capture()) return result(cudaErrorStreamCaptureUnsupported);
  run_everything();
  const auto found = pieces.find(memory);
  if (found == pieces.end()) emulation::fail("memory was freed that was not allocated, or freed twice");
  if (found->second.on_device) held -= found->second.bytes;
  munmap(found->second.pages, found->second.all);
  pieces.erase(found);
  return cudaSuccess;
}

}  // namespace

namespace emulation {

void fail(const char* what) {
  std::fprintf(stderr, "The emulated GPU stops: %s.\n", what);
  std::abort();
}

void spend(std::uint64_t microseconds) { now += microseconds; }

const std::set<int>& contexts() { return contexts_opened; }
void forget_contexts() {
  contexts_opened.clear();
  current_device = 0;
}

cudaError_t queue(cudaStream_t stream, Work work) {
  contexts_opened.insert(current_device);
  if (stream == nullptr) fail("something was queued on the default stream");
  if (stream->capture == nullptr) {
    stream->items.push_back({std::move(work), nullptr, 0});
    return cudaSuccess;
  }
  if (stream->capture->invalid) return result(cudaErrorStreamCaptureInvalidated);
  stream->capture->nodes.push_back({std::move(work), stream->last});
  stream->last = {stream->capture->nodes.size() - 1};
  return cudaSuccess;
}

}  // namespace emulation

// -------------------------------------------------------------------------------- the device

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorStreamCaptureMerge:
      return "cudaErrorStreamCaptureMerge";
    case cudaErrorStreamCaptureUnmatched:
      return "cudaErrorStreamCaptureUnmatched";
    case cudaErrorStreamCaptureUnjoined:
      return "cudaErrorStreamCaptureUnjoined";
    case cudaErrorStreamCaptureIsolation:
      return "cudaErrorStreamCaptureIsolation";
    case cudaErrorCapturedEvent:
      return "cudaErrorCapturedEvent";
    default:
      return "another error";
  }
}
const char* cudaGetErrorString(cudaError_t) { return "emulated on the CPU"; }
cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = devices;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* ordinal) {
  *ordinal = current_device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int ordinal) {
  if (ordinal < 0 || ordinal >= devices) return result(cudaErrorInvalidDevice);
  current_device = ordinal;
  contexts_opened.insert(ordinal);
  return cudaSuccess;
}
/// The driver's, which the backend looks up by its name.
extern "C" __attribute__((visibility("default"))) int cuDevicePrimaryCtxGetState(int ordinal,
                                                                                 unsigned int* flags,
                                                                                 int* active) {
  *flags = 0;
  *active = contexts_opened.contains(ordinal) ? 1 : 0;
  return 0;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {"no GPU but CUDA emulated on the CPU",        8,           0,
                 static_cast<int>(emulation::multiprocessors), cache_bytes, 1};
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }
cudaError_t cudaDeviceSynchronize() {
  if (forbidden_in_capture()) return result(cudaErrorStreamCaptureUnsupported);
  run_everything();
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total) {
  *free_bytes = all_bytes - held;
  *total = all_bytes;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** memory, std::size_t bytes) { return allocate(memory, bytes, true); }
cudaError_t cudaFree(void* memory) { return release(memory); }
cudaError_t cudaMallocHost(void** memory, std::size_t bytes) { return allocate(memory, bytes, false); }
cudaError_t cudaFreeHost(void* memory) { return release(memory); }

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  return emulation::queue(stream, [=] { std::memcpy(to, from, bytes); });
}
cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t stream) {
  return emulation::queue(stream, [=] { std::memset(memory, value, bytes); });
}
cudaError_t cudaMemset2DAsync(void* memory, std::size_t pitch, int value, std::size_t width,
                              std::size_t height, cudaStream_t stream) {
  if (width > pitch) return result(cudaErrorInvalidValue);
  return emulation::queue(stream, [=] {
    for (std::size_t row = 0; row < height; ++row) {
      std::memset(static_cast<char*>(memory) + row * pitch, value, width);
    }
  });
}

// -------------------------------------------------------------------------------- streams and events

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int) {
  *stream = new CUstream_st;
  streams.push_back(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  run_until([&] { return stream->items.empty(); });
  std::erase(streams, stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (forbidden_in_capture()) return result(cudaErrorStreamCaptureUnsupported);
  run_until([&] { return stream->items.empty(); });
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
  const EventState& state = *event->state;
  if (state.capture == nullptr) {
    if (stream->capture != nullptr) {
      stream->capture->invalid = true;
      return result(cudaErrorStreamCaptureIsolation);
    }
    stream->items.push_back({{}, event->state, state.recorded});
    return cudaSuccess;
  }
  if (state.capture != captured_by_this_thread) return result(cudaErrorCapturedEvent);
  if (state.capture->invalid) return result(cudaErrorStreamCaptureInvalidated);
  if (stream->capture == nullptr) {
    stream->capture = state.capture;
    stream->capture->streams.insert(stream);
    stream->last.clear();
  }
  if (stream->capture != state.capture) return result(cudaErrorStreamCaptureMerge);
  insert(stream->last, state.after);
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (stream->capture != nullptr && stream->capture->invalid) {
    return result(cudaErrorStreamCaptureInvalidated);
  }
  const SharedEvent state = event->state;
  state->capture = stream->capture;
  if (stream->capture != nullptr) {
    state->after = stream->last;
    return cudaSuccess;
  }
  const std::uint64_t occasion = ++state->recorded;
  return emulation::queue(stream, [=] {
    state->reached = occasion;
    state->time = now;
  });
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (forbidden_in_capture()) return result(cudaErrorStreamCaptureUnsupported);
  const EventState& state = *event->state;
  if (state.capture != nullptr) return result(cudaErrorCapturedEvent);
  const std::uint64_t occasion = state.recorded;
  run_until([&] { return state.reached >= occasion; });
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  *milliseconds = static_cast<float>(end->state->time - begin->state->time) / 1000.0f;
  return cudaSuccess;
}

// -------------------------------------------------------------------------------- graphs

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (captured_by_this_thread != nullptr) emulation::fail("only one capture at a time is emulated");
  const SharedCapture capture = std::make_shared<CaptureState>();
  capture->origin = stream;
  capture->streams.insert(stream);
  stream->capture = capture;
  stream->last.clear();
  captured_by_this_thread = capture;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const SharedCapture capture = captured_by_this_thread;
  *graph = nullptr;
  if (capture == nullptr || capture->origin != stream) return result(cudaErrorStreamCaptureUnmatched);
  const bool joined = all_joined(*capture);
  for (const cudaStream_t each : capture->streams) {
    each->capture = nullptr;
    each->last.clear();
  }
  captured_by_this_thread = nullptr;
  if (capture->invalid) return result(cudaErrorStreamCaptureInvalidated);
  if (!joined) return result(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st{std::move(capture->nodes)};
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new CUgraphExec_st{std::make_shared<const Nodes>(graph->nodes)};
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (forbidden_in_capture()) return result(cudaErrorStreamCaptureUnsupported);
  return emulation::queue(stream, [nodes = executable->nodes] { run_nodes(*nodes); });
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
