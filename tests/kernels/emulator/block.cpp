#include "block.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>

// Saves the registers that calls keep and the stack pointer, and takes those of another fiber (System V ABI).
#ifndef __x86_64__
#error "the emulator switches fibers on x86-64 alone"
#endif
extern "C" void emulator_switch(void** save, void* to);
asm(R"(
.text
.globl emulator_switch
.type emulator_switch, @function
emulator_switch:
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
.size emulator_switch, .-emulator_switch
)");

namespace emulator {
namespace {

constexpr size_t stack_bytes = 128 << 10;
constexpr size_t guard_bytes = 1024;
alignas(1024) char dynamic[max_cluster][max_dynamic_shared + guard_bytes];

}  // namespace

char* dynamic_shared() {
  return dynamic[Block::now().rank()];
}
uint32_t shared_address(const void* p) {
  return uint32_t(int64_t(static_cast<const char*>(p) - dynamic_shared()) + (int64_t(1) << 31));
}
void* shared_pointer_of(int rank, uint32_t address) {
  return dynamic[rank] + (int64_t(address) - (int64_t(1) << 31));
}
void* shared_pointer(uint32_t address) {
  return shared_pointer_of(Block::now().rank(), address);
}

Block::Block(int n_threads, int cluster, const std::function<void()>& body)
    : body_(body),
      fibers_(size_t(n_threads * cluster)),
      warps_(fibers_.size() / 32),
      n_threads_(n_threads),
      blocks_(size_t(cluster), Threads{0, n_threads, 0}),
      left_(n_threads * cluster) {
  for (Fiber& f : fibers_) {
    f.stack = std::make_unique_for_overwrite<char[]>(stack_bytes);
    const auto top = (reinterpret_cast<uintptr_t>(f.stack.get()) + stack_bytes) & ~uintptr_t(15);
    void** frame = reinterpret_cast<void**>(top) - 8;  // six registers, the address to go to, and no caller
    std::memset(frame, 0, 8 * sizeof(void*));
    frame[6] = reinterpret_cast<void*>(&Block::enter);
    f.stack_pointer = frame;
  }
}

void Block::enter() {
  Block& block = *running_;
  try {
    block.body_();
  } catch (...) {
    block.failed_ = std::current_exception();
  }
  block.fibers_[size_t(block.current_)].done = true;
  block.moved_ = true;
  // Threads that have ended count as present.
  --block.left_;
  Threads& own = block.blocks_[size_t(block.rank())];
  if (--own.left > 0 && own.at_barrier == own.left) own.at_barrier = 0, ++own.generation;
  block.yield();  // for good
}

void Block::yield() {
  emulator_switch(&fibers_[size_t(current_)].stack_pointer, scheduler_);
}

void Block::one_round() {
  const int n_threads = int(fibers_.size());
  moved_ = false;
  for (int i = 0; i < n_threads && !failed_; ++i) {
    current_ = order.reversed ? n_threads - 1 - i : i;
    Fiber& f = fibers_[size_t(current_)];
    if (!f.done) emulator_switch(&scheduler_, f.stack_pointer);
  }
}

void Block::run(int n_threads, int cluster, size_t shared, const std::function<void()>& body) {
  if (n_threads % 32 != 0) throw std::logic_error("emulator: whole warps only");
  if (cluster < 1 || cluster > max_cluster) throw std::logic_error("emulator: a cluster of too many blocks");
  for (int rank = 0; rank < cluster; ++rank) std::memset(dynamic[rank], 0xff, shared + guard_bytes);
  Block block(n_threads, cluster, body);
  running_ = &block;
  while (block.left_ > 0 && !block.failed_) {
    block.one_round();
    if (!block.moved_ && !block.failed_)
      block.failed_ = std::make_exception_ptr(std::logic_error("emulator: threads wait for ever"));
  }
  running_ = nullptr;
  if (block.failed_) std::rethrow_exception(block.failed_);
  block.require_copies_done();
  for (int rank = 0; rank < cluster; ++rank)
    if (std::any_of(dynamic[rank] + shared, dynamic[rank] + shared + guard_bytes,
                    [](char c) { return c != char(0xff); }))
      throw std::logic_error("emulator: a block wrote past its shared memory");
}

// A block must not end while something is copied into its memory.
void Block::require_copies_done() const {
  bool done =
      std::all_of(barriers_.begin(), barriers_.end(), [](const auto& b) { return b.second.copies.empty(); });
  for (const Fiber& f : fibers_)
    for (const auto& group : f.groups) done = done && (group.empty() || order.early_copies);
  if (!done) throw std::logic_error("emulator: a copy that nobody waits for");
}

void Block::sync_block() {
  moved_ = true;
  Threads& own = blocks_[size_t(rank())];
  const unsigned generation = own.generation;
  if (++own.at_barrier == own.left) {
    own.at_barrier = 0, ++own.generation;
    return;
  }
  while (own.generation == generation) yield();
}

void Block::arrive_in_cluster() {
  moved_ = true;
  fibers_[size_t(current_)].cluster_phase = cluster_phase_;
  if (++in_cluster_ == int(fibers_.size())) in_cluster_ = 0, ++cluster_phase_;
}
void Block::wait_for_cluster() {
  while (fibers_[size_t(current_)].cluster_phase == cluster_phase_) yield();
  moved_ = true;
}

Lanes& Block::meet(uint32_t mask, const uint32_t* in, int n_in, void (*compute)(Lanes&, uint32_t)) {
  moved_ = true;
  const uint32_t own = 1u << lane();
  if (!(mask & own)) throw std::logic_error("emulator: a lane outside the mask it names");
  auto& meetings = warps_[size_t(current_ / 32)];
  auto found = std::find_if(meetings.begin(), meetings.end(), [&](const auto& m) { return m->mask == mask; });
  if (found == meetings.end()) {
    meetings.push_back(std::make_unique<Meeting>());
    meetings.back()->mask = mask;
    found = meetings.end() - 1;
  }
  Meeting& m = **found;
  std::copy_n(in, n_in, m.lanes.in[lane()]);
  m.here |= own;
  const unsigned generation = m.generation;
  if (m.here == mask) {
    if (compute) compute(m.lanes, mask);
    m.here = 0, ++m.generation;
  } else {
    while (m.generation == generation) yield();
  }
  return m.lanes;
}

void Block::copy(std::function<void()> f) {
  if (order.early_copies) f();
  fibers_[size_t(current_)].open.push_back(order.early_copies ? [] {} : std::move(f));
}
void Block::close_group() {
  Fiber& f = fibers_[size_t(current_)];
  f.groups.push_back(std::move(f.open));
  f.open.clear();
}
void Block::wait_groups(size_t under_way) {
  Fiber& f = fibers_[size_t(current_)];
  for (; f.groups.size() > under_way; f.groups.pop_front())
    for (const auto& copy : f.groups.front()) copy();
  // Empty groups at the end of a kernel hold nothing.
  while (!f.groups.empty() &&
         std::all_of(f.groups.begin(), f.groups.end(), [](const auto& g) { return g.empty(); }))
    f.groups.pop_front();
}
void Block::wait_all_copies() {
  close_group();
  wait_groups(0);
}

void Block::Barrier::check_phase() {
  if (missing == 0 && bytes == 0) ++phase, missing = arrivals;
}
Block::Barrier& Block::barrier(int rank, uint32_t address) {
  if (blocks_[size_t(rank)].left == 0)
    throw std::logic_error("emulator: a barrier of a block that has ended");
  return barriers_.at({rank, address});
}
void Block::init_barrier(uint32_t address, int arrivals) {
  if (address % 8 != 0) throw std::logic_error("emulator: a misaligned mbarrier");
  barriers_[{rank(), address}] = {arrivals, arrivals, 0, 0, {}};
}
void Block::arrive(uint32_t address, int bytes) {
  Barrier& b = barrier(rank(), address);
  if (b.missing == 0) throw std::logic_error("emulator: more arrivals than a phase has");
  b.bytes += bytes, --b.missing;
  b.check_phase();
}
void Block::copy_to(int rank, uint32_t address, int bytes, std::function<void()> f) {
  Barrier& b = barrier(rank, address);
  if (order.early_copies) {
    f();
    b.bytes -= bytes;
    b.check_phase();
  } else {
    b.copies.emplace_back(bytes, std::move(f));
  }
}
void Block::wait_barrier(uint32_t address, uint32_t parity) {
  Barrier& b = barrier(rank(), address);
  while ((b.phase & 1) == parity) {
    if (b.copies.empty()) {
      yield();
      continue;
    }
    moved_ = true;
    b.copies.front().second();
    b.bytes -= b.copies.front().first;
    b.copies.pop_front();
    b.check_phase();
  }
  moved_ = true;
}

}  // namespace emulator
