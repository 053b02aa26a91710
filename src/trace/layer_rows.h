// Rows of one dataset [n_layers, S, row...] that come layer by layer in pieces: they are kept until a whole
// chunk of a layer is there, so that no chunk is compressed twice. At most one chunk a layer is in memory,
// and those on their way into the file (chunk_queue.h).
#pragma once
#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "trace/chunk_queue.h"
#include "trace/hdf5.h"

namespace deltacal::trace {

template <class T>
class LayerRows {
 public:
  LayerRows() = default;
  // `dataset` has the chunks (1, steps_in_chunk, row...).
  LayerRows(h5::Dataset dataset, const FilterThreads& threads)
      : dataset_(std::move(dataset)), chunk_(dataset_.chunk()), queue_(threads) {
    for (size_t d = 2; d < chunk_.size(); ++d) row_size_ *= static_cast<size_t>(chunk_[d]);
    layers_.resize(static_cast<size_t>(dataset_.shape()[0]));
  }

  int rows(int layer) const { return at(layer).n_written + at(layer).n_waiting; }
  size_t row_size() const { return row_size_; }

  // The layer's next row, all zero: [row_size], valid until the next call.
  T* append(int layer) {
    Layer& to = layers_[static_cast<size_t>(layer)];
    if (to.n_waiting == static_cast<int>(chunk_[1])) flush(layer);
    if (to.waiting.empty()) to.waiting.resize(static_cast<size_t>(chunk_[1]) * row_size_);
    T* row = to.waiting.data() + static_cast<size_t>(to.n_waiting++) * row_size_;
    std::fill(row, row + row_size_, T{});
    return row;
  }

  // Writes what waits and cuts the dataset to [n_layers, n_steps, row...].
  void finish(const h5::Shape& shape) {
    for (int layer = 0; layer < static_cast<int>(layers_.size()); ++layer) flush(layer);
    queue_.finish(dataset_);
    dataset_.shrink(shape);
  }

 private:
  struct Layer {
    std::vector<T> waiting;  // [steps_in_chunk, row_size]
    int n_waiting = 0, n_written = 0;
  };
  const Layer& at(int layer) const { return layers_[static_cast<size_t>(layer)]; }

  void flush(int layer) {
    Layer& from = layers_[static_cast<size_t>(layer)];
    if (from.n_waiting == 0) return;
    h5::Shape offset(chunk_.size(), 0);
    offset[0] = static_cast<hsize_t>(layer);
    offset[1] = static_cast<hsize_t>(from.n_written);
    // A chunk is written whole: rows that are not there are 0, as HDF5 fills them.
    std::vector<std::byte> bytes(from.waiting.size() * sizeof(T));
    std::memcpy(bytes.data(), from.waiting.data(),
                static_cast<size_t>(from.n_waiting) * row_size_ * sizeof(T));
    queue_.write(dataset_, std::move(offset), std::move(bytes), sizeof(T));
    from.n_written += std::exchange(from.n_waiting, 0);
  }

  h5::Dataset dataset_;
  h5::Shape chunk_;
  size_t row_size_ = 1;
  std::vector<Layer> layers_;
  ChunkQueue queue_;
};

}  // namespace deltacal::trace
