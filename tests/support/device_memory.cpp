#include "support/device_memory.h"

#include <ATen/ATen.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <random>

#include "decode/device_info.h"
#include "model/shape.h"

namespace deltacal::test {
namespace {

c10::DeviceAllocator& allocator() {
  return *c10::getDeviceAllocator(at::kCUDA);
}
c10::CachingAllocator::Stat given_out() {
  return allocator().getDeviceStats(0).allocated_bytes[0];
}

}  // namespace

TakenMemory::TakenMemory() {
  decode::wait_for_device();
  decode::give_back_unused_memory();
  allocator().resetPeakStats(0);
  before_ = given_out().current;
}
size_t TakenMemory::most() const {
  decode::wait_for_device();
  return static_cast<size_t>(given_out().peak - before_);
}

OtherMemory::OtherMemory(size_t left) {
  decode::wait_for_device();
  decode::give_back_unused_memory();
  const size_t free = decode::device_info().free_bytes;
  if (free > left)
    held_ = std::make_shared<at::Tensor>(
        at::empty({int64_t(free - left)}, at::TensorOptions(at::kByte).device(at::kCUDA)));
}

model::Model four_layers(const char* shape) {
  decode::give_back_unused_memory();  // or the weights would hold a piece of what something else had
  model::Description d = model::read_shape(shape).description;
  d.info.n_layers = 4;
  return model::Model::random(d, model::Dtype::bf16, model::Device::cuda, 5);
}

decode::Policy delta_of_four(int k_pages) {
  using decode::Attend;
  decode::Policy policy = decode::full_policy(4);
  policy.layers[1] = {Attend::all_rank, k_pages, 4};
  policy.layers[2] = policy.layers[3] = {Attend::list, k_pages, 0};
  return policy;
}

std::vector<int32_t> random_ids(const model::Model& model, int n) {
  std::mt19937 random(9);
  std::vector<int32_t> ids(static_cast<size_t>(n));
  for (auto& id : ids) id = static_cast<int32_t>(random() % unsigned(model.description().n_vocab));
  return ids;
}

}  // namespace deltacal::test
