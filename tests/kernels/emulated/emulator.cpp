// Fibers, barriers, and the part of the CUDA runtime that the kernels' tests use, on a CPU (x86-64).
#include "emulator.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 gridDim;

// Saves the registers that a function keeps and the stack pointer at *from, and goes on with those at `to`.
extern "C" void deltacal_switch(void** from, void* to);
asm(R"(
.text
.globl deltacal_switch
deltacal_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

namespace emulator {
namespace {

constexpr size_t stack_bytes = 256 * 1024, guard_bytes = 1024;

struct Barrier {
  unsigned mask = 0, generation = 0;
  int arrived = 0;
};
struct Warp {
  Barrier barriers[8];  // of different lanes at a time
  uint64_t words[32 * 8] = {}, other_words[32 * 8] = {};
};
struct Fiber {
  void* stack = nullptr;
  bool done = false;
  const unsigned* waits_for = nullptr;  // a generation to end
  unsigned generation = 0;
  bool can_run() const { return !done && !(waits_for && *waits_for == generation); }
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  int alive = 0, arrived = 0;
  unsigned generation = 0;
  char* shared = nullptr;
} block;
std::vector<char*> stacks;
void* scheduler = nullptr;
const std::function<void()>* body = nullptr;
bool capturing = false;
std::vector<std::function<void()>> graph;

Fiber& self() {
  return block.fibers[threadIdx.x];
}

void wait_for(const unsigned& generation) {
  self().waits_for = &generation, self().generation = generation;
  while (generation == self().generation) yield();
  self().waits_for = nullptr;
}

void release_block() {
  if (block.alive > 0 && block.arrived == block.alive) block.arrived = 0, ++block.generation;
}

void run_fiber() {
  (*body)();
  self().done = true, --block.alive;
  release_block();
  yield();
  std::abort();
}

void start(int n_threads) {
  block.fibers.assign(size_t(n_threads), {}), block.warps.assign(size_t(n_threads + 31) / 32, {});
  block.alive = n_threads, block.arrived = 0;
  while (int(stacks.size()) < n_threads)
    stacks.push_back(static_cast<char*>(
        mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
  for (int t = 0; t < n_threads; ++t) {
    void** top = reinterpret_cast<void**>(stacks[size_t(t)] + stack_bytes - 64);
    *--top = nullptr;  // where a return of run_fiber would go; keeps the stack aligned as a call leaves it
    *--top = reinterpret_cast<void*>(run_fiber);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    block.fibers[size_t(t)].stack = top;
  }
}

// Warps in bursts of different length, so that they drift apart.
void run_block(int n_threads) {
  start(n_threads);
  uint32_t random = blockIdx.x * 7919u + blockIdx.y + 1;
  for (int idle = 0; block.alive > 0;) {
    random = random * 1664525u + 1013904223u;
    const int warp = int((random >> 8) % uint32_t(block.warps.size())), burst = 1 + int(random >> 28);
    bool any = false;
    for (int i = 0; i < burst; ++i) {
      for (int t = warp * 32; t < std::min(n_threads, warp * 32 + 32); ++t) {
        threadIdx = {unsigned(t), 0, 0};
        if (!self().can_run()) continue;
        any = true;
        deltacal_switch(&scheduler, self().stack);
      }
    }
    idle = any ? 0 : idle + 1;
    if (idle > 100000) fail("all threads wait");
  }
}

void run(dim3 grid, int n_threads, size_t shared_bytes, const std::function<void()>& kernel) {
  body = &kernel, gridDim = grid;
  std::vector<char> memory(shared_bytes + 2 * guard_bytes);  // the first to align it
  block.shared =
      reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(memory.data()) + 1023) & ~uintptr_t(1023));
  for (unsigned y = 0; y < grid.y; ++y) {
    for (unsigned x = 0; x < grid.x; ++x) {
      blockIdx = {x, y, 0};
      std::memset(block.shared, 0xff, shared_bytes + guard_bytes);
      run_block(n_threads);
      const char* guard = block.shared + shared_bytes;
      if (std::any_of(guard, guard + guard_bytes, [](char c) { return c != char(0xff); }))
        fail("a block wrote past its shared memory");
    }
  }
}

}  // namespace

bool deferred_copies = std::getenv("DELTACAL_EMULATOR_DEFERS") != nullptr;

void fail(const char* what) {
  std::fprintf(stderr, "emulator: %s (block %u, %u, thread %u)\n", what, blockIdx.x, blockIdx.y, threadIdx.x);
  std::abort();
}
void yield() {
  deltacal_switch(&self().stack, scheduler);
}
char* shared_memory() {
  return block.shared;
}
int lane() {
  return int(threadIdx.x % 32);
}
uint64_t* words() {
  return block.warps[threadIdx.x / 32].words;
}
uint64_t* other_words() {
  return block.warps[threadIdx.x / 32].other_words;
}

void meet_lanes(unsigned mask) {
  if (!(mask >> lane() & 1)) fail("a lane meets others under a mask without it");
  Warp& warp = block.warps[threadIdx.x / 32];
  Barrier* barrier = nullptr;
  for (Barrier& b : warp.barriers)
    if (b.arrived > 0 && b.mask == mask) barrier = &b;
  for (Barrier& b : warp.barriers)
    if (!barrier && b.arrived == 0) barrier = &b;
  if (!barrier) fail("too many barriers in a warp");
  barrier->mask = mask;
  if (++barrier->arrived < __builtin_popcount(mask)) return wait_for(barrier->generation);
  barrier->arrived = 0, ++barrier->generation;
}
void meet_block() {
  if (++block.arrived < block.alive) return wait_for(block.generation);
  release_block();
}

void launch(dim3 grid, int n_threads, size_t shared, const std::function<void()>& kernel) {
  const auto call = [=] { run(grid, n_threads, shared, kernel); };
  if (!capturing) return call();
  graph.push_back(call);
}

}  // namespace emulator

extern "C" {
cudaError_t cudaMalloc(void** to, size_t n) {
  *to = std::aligned_alloc(256, (n + 511) / 256 * 256);
  return *to ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFree(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaMemset(void* to, int value, size_t n) {
  std::memset(to, value, n);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t n, cudaMemcpyKind) {
  std::memcpy(to, from, n);
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* id) {
  *id = 0;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* n) {
  *n = 1;
  return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t) {
  return "an error of the emulator";
}
// A device of compute capability 9.0; fewer SMs than a real one make blocks take more items each.
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr what, int) {
  const char* sms = std::getenv("DELTACAL_EMULATOR_SMS");
  *value = what == cudaDevAttrMultiProcessorCount      ? (sms ? std::atoi(sms) : 12)
           : what == cudaDevAttrComputeCapabilityMajor ? EMULATED_MAJOR
           : what == cudaDevAttrComputeCapabilityMinor ? 0
                                                       : 227 * 1024;
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  *stream = nullptr;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t) {
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  emulator::capturing = true, emulator::graph.clear();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t*) {
  emulator::capturing = false;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t*, cudaGraph_t, unsigned long long) {
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t) {
  for (const auto& call : emulator::graph) call();
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t) {
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t) {
  return cudaSuccess;
}
}
