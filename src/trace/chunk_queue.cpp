#include "trace/chunk_queue.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <system_error>
#include <thread>

#include "trace/filters.h"

namespace deltacal::trace {

namespace {
size_t most_threads() {
  return std::clamp<size_t>(std::thread::hardware_concurrency(), 1, 16);
}
}  // namespace

FilterThreads::FilterThreads() : free_(std::make_shared<Free>()) {
  free_->n = most_threads();
}

void FilterThreads::Free::take() {
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return n > 0; });
  --n;
}

void FilterThreads::Free::give_back() {
  {
    const std::scoped_lock lock(mutex);
    ++n;
  }
  changed.notify_one();
}

std::future<std::vector<std::byte>> FilterThreads::start(std::vector<std::byte> data, size_t element_bytes) {
  free_->take();
  // Given back when the work is done, or was never begun.
  std::shared_ptr<Free> place(free_.get(), [free = free_](Free*) { free->give_back(); });
  try {
    return std::async(std::launch::async,
                      [place = std::move(place), data = std::move(data), element_bytes]() mutable {
                        const auto until_done = std::move(place);
                        return filtered(data, element_bytes);
                      });
  } catch (const std::system_error& error) {
    throw h5::Fault(std::string("no thread can be started to compress it: ") + error.what());
  }
}

void ChunkQueue::write(h5::Dataset& to, h5::Shape offset, std::vector<std::byte> data, size_t element_bytes) {
  const size_t most = most_threads();
  const auto is_ready = [](const Chunk& chunk) {
    return chunk.filtered.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  };
  while (!chunks_.empty() && (chunks_.size() >= most || is_ready(chunks_.front()))) write_oldest(to);
  chunks_.push_back({std::move(offset), threads_.start(std::move(data), element_bytes)});
}

void ChunkQueue::write_oldest(h5::Dataset& to) {
  Chunk oldest = std::move(chunks_.front());
  chunks_.pop_front();
  to.write_filtered(oldest.offset, oldest.filtered.get());
}

void ChunkQueue::finish(h5::Dataset& to) {
  while (!chunks_.empty()) write_oldest(to);
}

}  // namespace deltacal::trace
