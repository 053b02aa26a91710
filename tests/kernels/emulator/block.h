// The threads of one CUDA block, or of a cluster's blocks, as fibers on one CPU thread, for running kernels
// without a GPU: slow, but every index, barrier and fragment is the kernel's own. A fiber runs until it waits
// for others. What has no fixed order on a GPU has several here (Order), so that a missing barrier shows in
// one or another.
#pragma once
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

namespace emulator {

struct Order {
  bool reversed = false;      // the last block and the last thread first
  bool early_copies = false;  // asynchronous copies when they are issued, instead of when they are waited for
};
inline Order order;

// What the kernel before writes: done, once, when a thread of a kernel first waits for that one.
inline std::function<void()> previous_kernel;

// Shared memory of the running thread's block that the launch sized; NaN in every type when the block starts.
char* dynamic_shared();
constexpr size_t max_dynamic_shared = 227 * 1024;
constexpr int max_cluster = 8;
// Shared memory has 32-bit addresses of its own; static and dynamic one alike.
uint32_t shared_address(const void*);
void* shared_pointer(uint32_t address);
void* shared_pointer_of(int rank, uint32_t address);  // in another block of the cluster

// What the lanes of a warp bring to an instruction of the whole warp, and what they get.
struct Lanes {
  uint32_t in[32][8];
  uint32_t out[32][4];
};

class Block {
 public:
  // A block, or a cluster of them, with `shared` bytes of dynamic shared memory each. Throws if threads wait
  // for each other, or for a copy, for ever, leave a copy under way, or write past their memory.
  static void run(int n_threads, int cluster, size_t shared, const std::function<void()>& body);
  static Block& now() { return *running_; }

  int thread() const { return current_ % n_threads_; }
  int rank() const { return current_ / n_threads_; }  // of the block within its cluster
  int lane() const { return current_ % 32; }
  void sync_block();
  void arrive_in_cluster();
  void wait_for_cluster();
  // All lanes of `mask` meet. The last one to come computes the results of all.
  Lanes& meet(uint32_t mask, const uint32_t* in, int n_in, void (*compute)(Lanes&, uint32_t mask));

  // Copies of this thread that are under way, in groups; the last group is still open.
  void copy(std::function<void()>);
  void close_group();
  void wait_groups(size_t under_way);
  void wait_all_copies();

  // mbarriers, by address; copy_to: of another block of the cluster, which must not have ended.
  void init_barrier(uint32_t address, int arrivals);
  void arrive(uint32_t address, int bytes);
  void copy_at(uint32_t address, int bytes, std::function<void()> f) {
    copy_to(rank(), address, bytes, std::move(f));
  }
  void copy_to(int rank, uint32_t address, int bytes, std::function<void()>);
  void wait_barrier(uint32_t address, uint32_t parity);

 private:
  struct Fiber {
    void* stack_pointer = nullptr;
    std::unique_ptr<char[]> stack;
    std::deque<std::vector<std::function<void()>>> groups;
    std::vector<std::function<void()>> open;
    unsigned cluster_phase = 0;  // that it arrived in
    bool done = false;
  };
  struct Meeting {
    Lanes lanes;
    uint32_t mask = 0, here = 0;
    unsigned generation = 0;
  };
  struct Barrier {
    int arrivals = 0, missing = 0;
    long bytes = 0;  // that the phase waits for
    uint32_t phase = 0;
    std::deque<std::pair<int, std::function<void()>>> copies;
    void check_phase();
  };
  struct Threads {  // of one block of the cluster
    int at_barrier = 0, left = 0;
    unsigned generation = 0;
  };
  Block(int n_threads, int cluster, const std::function<void()>& body);
  static void enter();
  void require_copies_done() const;
  void one_round();
  void yield();

  static inline Block* running_ = nullptr;
  const std::function<void()>& body_;
  std::vector<Fiber> fibers_;
  std::vector<std::vector<std::unique_ptr<Meeting>>> warps_;  // meetings under way or over, by mask
  Barrier& barrier(int rank, uint32_t address);
  std::map<std::pair<int, uint32_t>, Barrier> barriers_;
  int n_threads_;
  std::vector<Threads> blocks_;
  int left_ = 0, in_cluster_ = 0;
  unsigned cluster_phase_ = 0;
  void* scheduler_ = nullptr;
  int current_ = 0;
  std::exception_ptr failed_;
  bool moved_ = false;  // some thread got on in this round
};

}  // namespace emulator
