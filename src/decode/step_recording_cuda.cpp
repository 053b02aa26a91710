#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "core/error.h"
#include "decode/step_recording.h"

namespace deltacal::decode {

namespace gpu = kernels::cuda;

StepRecording::StepRecording(const ModelInfo& model, int n_rows, int max_pages, bool group_mass,
                             const c10::Stream& copies)
    : n_layers_(model.n_layers),
      n_rows_(n_rows),
      n_heads_(model.n_heads),
      n_kv_heads_(model.n_kv_heads),
      n_pages_(max_pages),
      group_mass_(group_mass),
      n_values_(size_t(n_layers_) * size_t(n_rows) * size_t(max_pages)),
      copies_stream_(copies),
      copies_(
          static_cast<cudaStream_t>(c10::impl::VirtualGuardImpl(at::kCUDA).getStreamNativeHandle(copies))) {
  const size_t n = n_values_ * size_t(2 + (group_mass ? n_kv_heads_ : 0));
  // Rows that are idle keep what they have: numbers, from the beginning.
  maps_ = at::zeros({int64_t(n)}, at::TensorOptions(at::kFloat).device(at::kCUDA));
  for (Slot& slot : slots_) slot.numbers = std::make_unique<gpu::Pinned<float>>(n);
}

void StepRecording::score(int layer, const gpu::PageLogits& logits, const int32_t* length,
                          const gpu::Launch& on) const {
  const size_t first = size_t(layer) * size_t(n_rows_) * size_t(n_pages_);
  gpu::page_score::Params p;
  p.n_rows = n_rows_;
  p.n_heads = n_heads_;
  p.n_kv_heads = n_kv_heads_;
  p.logits = logits;
  p.length = length;
  p.out_pages = n_pages_;
  p.score = score_at() + first;
  p.mass = mass_at() + first;
  if (group_mass_) p.group_mass = group_mass_at() + first * size_t(n_kv_heads_);
  gpu::page_score::run(p, on);
}

void StepRecording::before(cudaStream_t stream) const {
  if (n_recorded_ - n_taken_ == n_slots)
    throw failure("the maps of {} recorded steps wait to be taken. This is a mistake in deltacal.", n_slots);
  if (n_recorded_ > 0) slots_[(n_recorded_ - 1) % n_slots].copied.hold(stream);
}

void StepRecording::after(cudaStream_t stream) {
  Slot& slot = slots_[n_recorded_++ % n_slots];
  done_.record(stream);
  done_.hold(copies_);
  gpu::copy_to_host(slot.numbers->get(), score_at(), size_t(maps_.numel()), copies_);
  slot.copied.record(copies_);
}

StepMaps StepRecording::take() {
  if (n_taken_ == n_recorded_) throw failure("no recorded step waits. This is a mistake in deltacal.");
  const Slot& slot = slots_[n_taken_++ % n_slots];
  slot.copied.wait();
  const float* score = slot.numbers->get();
  const float* mass = score + n_values_;
  return {n_layers_, n_rows_, n_kv_heads_, n_pages_, score, mass, group_mass_ ? mass + n_values_ : nullptr};
}

void StepRecording::wait() const {
  gpu::wait_for(copies_);
}

}  // namespace deltacal::decode
