// Whole chunks on their way into one dataset. Other threads filter them (filters.h), which takes ten times as
// long as all else of a trace's writing; the caller's thread alone calls HDF5, in the order they came, so
// that a file is the same whatever the threads did.
#pragma once
#include <deque>
#include <future>
#include <vector>

#include "trace/hdf5.h"

namespace deltacal::trace {

class ChunkQueue {
 public:
  ChunkQueue() = default;
  ChunkQueue(ChunkQueue&&) = default;
  ChunkQueue& operator=(ChunkQueue&&) = default;

  // `data`: the whole chunk at `offset`, dense, of elements of `element_bytes`. Writes earlier ones that are
  // ready, and waits for the oldest where as many are on their way as there are cores. Throws what went wrong
  // with one of those: Fault, or failure.
  void write(h5::Dataset&, h5::Shape offset, std::vector<std::byte> data, size_t element_bytes);
  void finish(h5::Dataset&);  // writes all that are on their way

 private:
  struct Chunk {
    h5::Shape offset;
    std::future<std::vector<std::byte>> filtered;
  };
  void write_oldest(h5::Dataset&);
  std::deque<Chunk> chunks_;
};

}  // namespace deltacal::trace
