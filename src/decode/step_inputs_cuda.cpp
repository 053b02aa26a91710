#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "decode/step_inputs.h"

namespace deltacal::decode {

StepInputs::StepInputs(KvCache& cache, int n_rows, int n_vocab)
    : cache_(cache), n_rows_(n_rows), n_vocab_(n_vocab) {
  std::vector<int32_t> idle(size_t(n_rows) * (3 + size_t(cache.max_pages())), 0);
  std::fill_n(idle.begin() + n_rows, n_rows, -1);
  numbers_ = at::from_blob(idle.data(), {std::ssize(idle)}, at::kInt).to(at::kCUDA);
  for (Slot& slot : slots_) slot.numbers = std::make_unique<kernels::cuda::PinnedInts>(idle.size());
}

void StepInputs::take(std::span<const int32_t> token, std::span<const int32_t> position,
                      cudaStream_t stream) {
  if (std::ssize(token) != n_rows_ || std::ssize(position) != n_rows_)
    throw bad_input("a step of {} tokens and {} positions: the graph has {} rows", token.size(),
                    position.size(), n_rows_);
  for (int r = 0; r < n_rows_; ++r) {
    if (position[r] < 0) continue;
    if (token[r] < 0 || token[r] >= n_vocab_)
      throw bad_input("token id {} is outside the model's vocabulary of {}", token[r], n_vocab_);
    cache_.reserve(r, position[r] + 1);
  }
  Slot& slot = slots_[n_steps_++ % n_slots];
  slot.uploaded.wait();
  int32_t* to = slot.numbers->get();
  for (int r = 0; r < n_rows_; ++r) {
    const bool idle = position[r] < 0;
    to[r] = idle ? 0 : token[r];
    to[n_rows_ + r] = idle ? -1 : position[r];
    to[2 * n_rows_ + r] = idle ? 0 : position[r] + 1;
  }
  size_t n = 3 * size_t(n_rows_);
  if (table_version_ != cache_.table_version()) {
    const auto table = cache_.page_table().first(size_t(n_rows_) * size_t(cache_.max_pages()));
    std::ranges::copy(table, to + n);
    n += table.size();
    table_version_ = cache_.table_version();
  }
  kernels::cuda::copy_to_device(numbers_.mutable_data_ptr<int32_t>(), to, n, stream);
  slot.uploaded.record(stream);
}

}  // namespace deltacal::decode
