#include "support/device_memory.h"

#include <ATen/ATen.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <random>
#include <stdexcept>

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
  if (free <= left) throw std::runtime_error("the device has less memory free than the test wants to leave");
  held_ = std::make_shared<at::Tensor>(
      at::empty({int64_t(free - left)}, at::TensorOptions(at::kByte).device(at::kCUDA)));
}

model::Model few_layers(const char* shape, int n_layers) {
  decode::give_back_unused_memory();  // or the weights would hold a piece of what something else had
  model::Description d = model::read_shape(shape).description;
  d.info.n_layers = n_layers;
  return model::Model::random(d, model::Dtype::bf16, model::Device::cuda, 5);
}

std::vector<int32_t> random_ids(const model::Model& model, int n) {
  std::mt19937 random(9);
  std::vector<int32_t> ids(static_cast<size_t>(n));
  for (auto& id : ids) id = static_cast<int32_t>(random() % unsigned(model.description().n_vocab));
  return ids;
}

}  // namespace deltacal::test
