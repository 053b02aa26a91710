#include "kernels/cuda/launch.h"

#include <map>
#include <mutex>

#include "core/error.h"
#include "core/pages.h"

namespace deltacal::kernels::cuda {
namespace {

static_assert(page_size == deltacal::page_size);

int attribute(cudaDeviceAttr what, int id) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, what, id), "cudaDeviceGetAttribute");
  return value;
}

Device read_device(int id) {
  Device d;
  d.id = id;
  d.n_sms = attribute(cudaDevAttrMultiProcessorCount, id);
  d.capability = 10 * attribute(cudaDevAttrComputeCapabilityMajor, id) +
                 attribute(cudaDevAttrComputeCapabilityMinor, id);
  d.l2_bytes = attribute(cudaDevAttrL2CacheSize, id);
  d.shared_a_block = size_t(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, id));
  return d;
}

constexpr const char* no_device = "no CUDA device: none is present, or its driver does not answer";

std::string why_not(const Device& d) {
  if (d.capability >= 80 && d.capability <= 90 && d.shared_a_block >= size_t(163) * 1024) return "";
  return fmt::format(
      "CUDA device {} has compute capability {}.{} and blocks of {} KB: kernels are for 8.0 and 9.0, and for "
      "blocks of 163 KB",
      d.id, d.capability / 10, d.capability % 10, d.shared_a_block / 1024);
}

}  // namespace

int device_count() {
  int n = 0;
  return cudaGetDeviceCount(&n) == cudaSuccess ? n : 0;
}

const Device& current_device() {
  static std::mutex mutex;
  static std::map<int, Device> known;
  int id = 0;
  if (cudaGetDevice(&id) != cudaSuccess || device_count() == 0) throw bad_input("{}", no_device);
  const std::lock_guard lock(mutex);
  const auto found = known.find(id);
  if (found != known.end()) return found->second;
  const Device device = read_device(id);
  const std::string why = why_not(device);
  if (!why.empty()) throw bad_input("{}", why);
  return known.emplace(id, device).first->second;
}

std::string why_no_kernels() {
  int id = 0;
  if (cudaGetDevice(&id) != cudaSuccess || device_count() == 0) return no_device;
  return why_not(read_device(id));
}

void refuse(const std::string& message) {
  throw bad_input("{}", message);
}

void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw failure("CUDA, {}: {}", what, cudaGetErrorString(error));
}

void check_cache(const char* kernel, const PagedKv& kv, int n_heads) {
  require(has_head_dim(kv.head_dim), kernel, "kv.head_dim", kv.head_dim,
          "64, 96, 128 or 256: there is no other kernel");
  require_type(kernel, "kv.type", kv.type);
  require(kv.n_kv_heads >= 1, kernel, "kv.n_kv_heads", kv.n_kv_heads, "at least 1");
  require(kv.n_pages >= 1, kernel, "kv.n_pages", kv.n_pages, "at least 1");
  require(long(kv.n_pages) * kv.n_kv_heads < (1L << 31), kernel, "kv.n_pages", kv.n_pages,
          "fewer than 2^31 blocks over all key/value heads");
  require(kv.max_pages >= 1, kernel, "kv.max_pages", kv.max_pages, "at least 1");
  require_aligned(kernel, "kv.keys", kv.keys, 16);
  require_aligned(kernel, "kv.values", kv.values, 16);
  require_pointer(kernel, "kv.page_table", kv.page_table);
  require(n_heads >= 1 && n_heads % kv.n_kv_heads == 0, kernel, "n_heads", n_heads,
          "a multiple of kv.n_kv_heads = " + std::to_string(kv.n_kv_heads));
}

}  // namespace deltacal::kernels::cuda
