#include "decode/kv_cache.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <sys/mman.h>

#include <cassert>
#include <cstdlib>

#include "core/error.h"
#include "model/generator.h"

namespace deltacal::decode {
namespace {
kernels::KvType kv_type(model::Dtype dtype) {
  return dtype == model::Dtype::bf16 ? kernels::KvType::bf16 : kernels::KvType::f32;
}
size_t element_bytes(kernels::KvType type) {
  return type == kernels::KvType::bf16 ? 2 : 4;
}
constexpr size_t huge_page = size_t{2} << 20;

// Huge pages: a sparse list jumps through the cache, and small pages would cost a page walk for each jump.
// Null where there is no room.
std::shared_ptr<void> host_memory(size_t bytes) {
  const size_t alignment = bytes < huge_page ? 64 : huge_page;
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  std::shared_ptr<void> memory(std::aligned_alloc(alignment, rounded), std::free);
  if (memory && alignment == huge_page)
    ::madvise(memory.get(), rounded, MADV_HUGEPAGE);  // a hint: it may be refused
  return memory;
}

std::shared_ptr<void> device_memory(size_t bytes) {
  const c10::InferenceMode inference;
  try {
    const at::Tensor memory = at::empty({int64_t(bytes)}, at::TensorOptions(at::kByte).device(at::kCUDA));
    return {memory.data_ptr(), [memory](void*) {}};
  } catch (const c10::OutOfMemoryError&) {
    return nullptr;
  }
}
}  // namespace

size_t KvCache::bytes_per_position(const ModelInfo& model, model::Dtype dtype) {
  return size_t{2} * model.n_layers * model.n_kv_heads * model.head_dim * element_bytes(kv_type(dtype));
}

// An array of 10 MiB and more lies by itself in whole pieces of 2 MiB; smaller ones lie in segments of 20
// MiB, and those of up to 1 MiB in such of 2 MiB, as many as go in whole (c10/core/AllocatorConfig.h of
// LibTorch 2.11).
size_t KvCache::device_bytes(const ModelInfo& model, int n_sequences, int max_positions) {
  constexpr size_t mib = size_t{1} << 20;
  const size_t n_arrays = size_t{2} * size_t(model.n_layers),
               bytes = size_t(n_sequences) * size_t(pages_for(max_positions)) * page_size *
                       bytes_per_position(model, model::Dtype::bf16) / n_arrays;
  if (bytes == 0) return 0;
  if (bytes >= 10 * mib) return n_arrays * ((bytes + 2 * mib - 1) / (2 * mib) * 2 * mib);
  const size_t segment = bytes <= mib ? 2 * mib : 20 * mib, a_segment = segment / bytes;
  return (n_arrays + a_segment - 1) / a_segment * segment;
}

KvCache::KvCache(const model::Model& model, int n_sequences, int max_positions)
    : type_(kv_type(model.dtype())),
      n_layers_(model.info().n_layers),
      n_kv_heads_(model.info().n_kv_heads),
      head_dim_(model.info().head_dim),
      max_positions_(max_positions),
      max_pages_(pages_for(max_positions)),
      n_pages_(n_sequences * max_pages_),
      on_device_(model.device() == model::Device::cuda) {
  const size_t bytes = size_t(n_pages_) * n_kv_heads_ * page_size * head_dim_ * element_bytes(type_);
  for (auto* arrays : {&keys_, &values_})
    for (int layer = 0; layer < n_layers_; ++layer) {
      arrays->push_back(on_device_ ? device_memory(bytes) : host_memory(bytes));
      if (!arrays->back())
        throw failure("no {} for a KV cache of {} positions ({:.1f} GB): use fewer with --max-tokens",
                      on_device_ ? "device memory" : "memory", max_positions,
                      2e-9 * static_cast<double>(bytes) * n_layers_);
    }
  page_table_.assign(size_t(n_sequences) * max_pages_, -1);
  pages_held_.assign(n_sequences, 0);
  for (int page = n_pages_ - 1; page >= 0; --page) free_.push_back(page);
}

void KvCache::reserve(int sequence, int length) {
  if (length > max_positions_)
    throw bad_input("position {} is beyond the {} positions the KV cache was made for", length - 1,
                    max_positions_);
  int& held = pages_held_[sequence];
  for (; held < pages_for(length); ++held) {
    page_table_[size_t(sequence) * max_pages_ + held] = free_.back();
    free_.pop_back();
    ++table_version_;
  }
}

void KvCache::release(int sequence) {
  int& held = pages_held_[sequence];
  while (held > 0) free_.push_back(page_table_[size_t(sequence) * max_pages_ + --held]);
}

void KvCache::fill_random(uint64_t seed) {
  const c10::InferenceMode inference;
  assert(on_device_);
  const at::Generator generator = model::generator_on(model::Device::cuda, seed);
  for (const auto* arrays : {&keys_, &values_})
    for (const Memory& memory : *arrays)
      at::from_blob(memory.get(), {int64_t(n_pages_) * n_kv_heads_ * page_size * head_dim_},
                    at::TensorOptions(at::kBFloat16).device(at::kCUDA))
          .normal_(0, 1, generator);
}

kernels::PagedKv KvCache::layer(int layer) {
  assert(!on_device_);
  kernels::PagedKv kv;
  kv.type = type_;
  kv.n_kv_heads = n_kv_heads_;
  kv.head_dim = head_dim_;
  kv.n_pages = n_pages_;
  kv.keys = keys_[layer].get();
  kv.values = values_[layer].get();
  kv.page_table = page_table_.data();
  kv.max_pages = max_pages_;
  return kv;
}

}  // namespace deltacal::decode
