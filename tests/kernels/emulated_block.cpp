#include "emulated_block.h"

#include <algorithm>
#include <stdexcept>

namespace emulator {

constexpr size_t stack_bytes = 256 << 10;

Block::Block(int n_threads, const std::function<void()>& body)
    : body_(body), fibers_(size_t(n_threads)), warps_(size_t(n_threads / 32)), words_(size_t(n_threads) * 8) {
  for (Fiber& f : fibers_) {
    f.stack = std::make_unique<char[]>(stack_bytes);
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.get();
    f.context.uc_stack.ss_size = stack_bytes;
    f.context.uc_link = &scheduler_;
    makecontext(&f.context, &Block::enter, 0);
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
}

void Block::run(int n_threads, bool reversed, const std::function<void()>& body) {
  if (n_threads % 32 != 0) throw std::logic_error("emulator: whole warps only");
  Block block(n_threads, body);
  running_ = &block;
  for (int left = n_threads; left > 0;) {
    block.moved_ = false;
    for (int i = 0; i < n_threads; ++i) {
      block.current_ = reversed ? n_threads - 1 - i : i;
      Fiber& f = block.fibers_[size_t(block.current_)];
      if (f.done) continue;
      swapcontext(&block.scheduler_, &f.context);
      left -= f.done;
    }
    if (block.failed_) std::rethrow_exception(block.failed_);
    if (!block.moved_) throw std::logic_error("emulator: threads wait at different barriers");
  }
  running_ = nullptr;
}

void Block::meet(Meeting& m, int n_threads) {
  moved_ = true;
  const unsigned generation = m.generation;
  if (++m.arrived == n_threads) {
    m.arrived = 0, ++m.generation;
    return;
  }
  while (m.generation == generation) swapcontext(&fibers_[size_t(current_)].context, &scheduler_);
}

}  // namespace emulator
