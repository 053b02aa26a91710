#include "side_by_side.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "decode/device_info.h"

namespace deltacal::tools {
namespace {

constexpr int threads_each = 4;  // a teacher-forced pass of 512 rows gains little from more

}  // namespace

size_t most_workers(size_t n, model::Device device) {
  const int most = device == model::Device::cuda ? 2 : std::max(1, model::n_threads() / threads_each);
  return std::min<size_t>(size_t(most), std::max<size_t>(n, 1));
}

size_t workers_for(size_t n, const model::Model& model, const decode::PrefillNeed& of_piece) {
  const size_t most = most_workers(n, model.device());
  if (model.device() != model::Device::cuda) return most;
  const auto memory = [&](int) { return decode::prefill_memory(model.description(), of_piece); };
  return size_t(decode::pieces_that_fit(int(most), 1, decode::device_info().free_bytes, memory).at_once);
}

void side_by_side(size_t n, size_t n_workers, const std::function<void(size_t)>& work) {
  const int n_threads = model::n_threads();
  if (n_workers <= 1) {
    for (size_t i = 0; i < n; ++i) work(i);
    return;
  }
  std::atomic<size_t> next{0};
  std::mutex mutex;
  std::exception_ptr error;
  const auto worker = [&] {
    model::set_threads(std::max(1, n_threads / static_cast<int>(n_workers)));
    for (size_t i = next++; i < n; i = next++) {
      try {
        work(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
        next = n;
      }
    }
  };
  std::vector<std::thread> workers;
  for (size_t w = 0; w < n_workers; ++w) workers.emplace_back(worker);
  for (auto& w : workers) w.join();
  if (error) std::rethrow_exception(error);
}

}  // namespace deltacal::tools
