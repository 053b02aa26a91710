// The threads of one CUDA block as fibers on one CPU thread, for running kernels without a GPU: slow, but every index,
// barrier and fragment is the kernel's own. A fiber runs until it waits; the order of the fibers is an argument, so that
// a missing barrier shows in one order or another.
#pragma once
#include <ucontext.h>

#include <exception>
#include <functional>
#include <memory>
#include <vector>

namespace emulator {

struct Dim {
  int x = 1, y = 1, z = 1;
  explicit Dim(int nx = 1, int ny = 1, int nz = 1) : x(nx), y(ny), z(nz) {}
};

class Block {
 public:
  // Throws if threads wait for each other for ever. `reversed`: the last thread runs first.
  static void run(int n_threads, bool reversed, const std::function<void()>& body);
  static Block& now() { return *running_; }

  int thread() const { return current_; }
  void sync_block() { meet(block_, int(fibers_.size())); }
  void sync_warp() { meet(warps_[size_t(current_ / 32)], 32); }
  // What the lanes of a warp show each other: 8 words each.
  unsigned* words(int lane) { return &words_[size_t(current_ / 32 * 32 + lane) * 8]; }
  // Work that this thread has begun and that is done when it waits for it.
  std::vector<std::function<void()>>& pending() { return fibers_[size_t(current_)].pending; }

 private:
  struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    std::vector<std::function<void()>> pending;
    bool done = false;
  };
  struct Meeting {
    int arrived = 0;
    unsigned generation = 0;
  };
  Block(int n_threads, const std::function<void()>& body);
  void meet(Meeting&, int n_threads);
  static void enter();

  inline static Block* running_ = nullptr;
  const std::function<void()>& body_;
  std::vector<Fiber> fibers_;
  std::vector<Meeting> warps_;
  Meeting block_;
  std::vector<unsigned> words_;  // [threads, 8]
  ucontext_t scheduler_;
  int current_ = 0;
  std::exception_ptr failed_;
  bool moved_ = false;  // some thread has met others or ended in this round
};

}  // namespace emulator
