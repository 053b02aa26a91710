#include <ATen/ATen.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <functional>

#include "core/error.h"
#include "decode/device_info.h"
#include "kernels/bandwidth/bandwidth.h"
#include "kernels/cuda/graph.h"

namespace deltacal::decode {
namespace {

namespace gpu = kernels::cuda;

constexpr size_t array_bytes = bandwidth_bytes / 2;
constexpr int passes = 4;  // between two events: what an event costs is then nothing

// Seconds of one pass, in each repeat.
std::vector<double> seconds_of(int repeats, const std::function<void(int)>& pass) {
  gpu::Event from(true), to(true);
  std::vector<double> seconds;
  for (int i = -1; i < repeats; ++i) {
    from.record(nullptr);
    for (int p = 0; p < passes; ++p) pass(p);
    to.record(nullptr);
    to.wait();
    if (i >= 0) seconds.push_back(to.seconds_since(from) / passes);
  }
  return seconds;
}

double median(std::vector<double> x) {
  std::ranges::sort(x);
  return x[x.size() / 2];
}

std::vector<double> gigabytes_a_second(std::vector<double> seconds, double bytes) {
  for (double& x : seconds) x = 1e-9 * bytes / x;
  return seconds;
}

// Bytes that LibTorch's allocator holds and gives back where a request needs them: blocks that nothing uses,
// but for the rest of one that something does.
size_t kept_unused() {
  c10::DeviceAllocator& allocator = *c10::getDeviceAllocator(at::kCUDA);
  if (!allocator.initialized()) return 0;
  const auto stats = allocator.getDeviceStats(static_cast<c10::DeviceIndex>(gpu::current_device().id));
  const auto now = [](const c10::CachingAllocator::StatArray& of) { return of[0].current; };  // of both pools
  const int64_t unused =
      now(stats.reserved_bytes) - now(stats.active_bytes) - now(stats.inactive_split_bytes);
  return static_cast<size_t>(std::max<int64_t>(0, unused));
}

}  // namespace

DeviceInfo device_info() {
  const gpu::DeviceMemory memory = gpu::device_memory();
  return {gpu::device_name(), memory.free + kept_unused(), memory.total};
}

void give_back_unused_memory() {
  c10::DeviceAllocator& allocator = *c10::getDeviceAllocator(at::kCUDA);
  if (allocator.initialized()) allocator.emptyCache();
}

DeviceBandwidth measure_bandwidth(int repeats) {
  const c10::InferenceMode inference;
  const auto options = at::TensorOptions(at::kByte).device(at::kCUDA);
  at::Tensor arrays, never;
  try {
    arrays = at::zeros({2, int64_t(array_bytes)}, options);
    never = at::zeros({16}, options);
  } catch (const c10::OutOfMemoryError&) {
    throw failure("no device memory for the 2 arrays of 1 GiB that its bandwidth is measured with");
  }
  char* at = static_cast<char*>(arrays.mutable_data_ptr());
  auto* unused = static_cast<uint32_t*>(never.mutable_data_ptr());
  DeviceBandwidth out;
  for (const int blocks_an_sm : {2, 4, 8, 16}) {
    const auto read =
        gigabytes_a_second(seconds_of(repeats,
                                      [&](int i) {
                                        gpu::bandwidth::read(at + size_t(i % 2) * array_bytes, array_bytes,
                                                             unused, blocks_an_sm, {});
                                      }),
                           double(array_bytes));
    if (out.read.empty() || median(read) > median(out.read)) out.read = read;
  }
  out.copy = gigabytes_a_second(seconds_of(repeats,
                                           [&](int i) {
                                             gpu::bandwidth::copy(at + size_t(i % 2) * array_bytes,
                                                                  at + size_t((i + 1) % 2) * array_bytes,
                                                                  array_bytes, {});
                                           }),
                                2 * double(array_bytes));
  return out;
}

bool suits_cudnn(int n_rows, int n_keys, int head_dim) {
  constexpr int of_plan = 1024, keys_that_gain = 4096;
  return n_rows % of_plan == 0 && n_keys % of_plan == 0 && n_keys >= keys_that_gain && head_dim <= 128 &&
         gpu::current_device().capability >= 90 && at::globalContext().hasCuDNN();
}

void wait_for_device() {
  if (gpu::device_count() > 0) gpu::wait_for(nullptr);
}

}  // namespace deltacal::decode
