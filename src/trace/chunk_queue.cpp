#include "trace/chunk_queue.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "trace/filters.h"

namespace deltacal::trace {

void ChunkQueue::write(h5::Dataset& to, h5::Shape offset, std::vector<std::byte> data, size_t element_bytes) {
  const size_t most = std::clamp<size_t>(std::thread::hardware_concurrency(), 1, 16);
  const auto is_ready = [](const Chunk& chunk) {
    return chunk.filtered.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  };
  while (!chunks_.empty() && (chunks_.size() >= most || is_ready(chunks_.front()))) write_oldest(to);
  chunks_.push_back(
      {std::move(offset), std::async(std::launch::async, [data = std::move(data), element_bytes] {
         return filtered(data, element_bytes);
       })});
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
