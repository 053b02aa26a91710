// Time of recording and of the sensitivity pass for one layer, by hand on a device: 256 rows spread over a
// sequence of the Qwen2.5-7B shape (28 query heads, 4 key/value heads, head dimension 128).
//
//   timing_record_cuda [n_keys = 32768] [n_rows = 256]
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <vector>

#include "core/error.h"
#include "kernels/record_scores/cuda.h"
#include "kernels/record_values/cuda.h"

namespace deltacal::kernels::cuda {
namespace {

constexpr int n_heads = 28, n_kv_heads = 4, head_dim = 128, n_layers = 28, n_gradients = 2;

// `n` random numbers near 1 in bf16 if T has two bytes, in float else.
template <class T>
const T* random_array(size_t n) {
  std::mt19937 random(1);
  std::vector<T> host(n);
  for (T& x : host) {
    const uint32_t r = random();
    if constexpr (sizeof(T) == 2)
      x = T((r & 0x8000u) | 0x3f00u | (r >> 16 & 0x7fu));
    else
      x = T(float(r) / 4e9f - 0.5f);
  }
  void* device = nullptr;
  check(cudaMalloc(&device, n * sizeof(T)), "cudaMalloc");
  check(cudaMemcpy(device, host.data(), n * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  return static_cast<const T*>(device);
}

template <class T>
T* array(size_t n) {
  void* device = nullptr;
  check(cudaMalloc(&device, n * sizeof(T)), "cudaMalloc");
  return static_cast<T*>(device);
}

// Milliseconds of one call: the median of 20 after 3.
template <class Run>
double median_ms(const Run& run) {
  cudaEvent_t start, end;
  check(cudaEventCreate(&start), "cudaEventCreate");
  check(cudaEventCreate(&end), "cudaEventCreate");
  std::vector<float> ms;
  for (int i = 0; i < 23; ++i) {
    check(cudaEventRecord(start), "cudaEventRecord");
    run();
    check(cudaEventRecord(end), "cudaEventRecord");
    check(cudaEventSynchronize(end), "a kernel");
    float x = 0;
    check(cudaEventElapsedTime(&x, start, end), "cudaEventElapsedTime");
    if (i >= 3) ms.push_back(x);
  }
  std::sort(ms.begin(), ms.end());
  return ms[ms.size() / 2];
}

void report(const char* what, double ms, double flops) {
  fmt::print("{:<34} {:8.1f} us a layer, {:6.1f} TFLOP/s, {:7.2f} ms for {} layers\n", what, ms * 1e3,
             flops / ms / 1e9, ms * n_layers, n_layers);
}

void time_all(int n_keys, int n_rows) {
  const size_t keys = size_t(n_keys) * n_kv_heads * head_dim, rows = size_t(n_rows) * n_heads;
  const int pages = pages_for(n_keys);
  std::vector<int32_t> position;
  double seen = 0;
  for (int i = 1; i <= n_rows; ++i) {
    position.push_back(int32_t(int64_t(n_keys) * i / n_rows) - 1);
    seen += position.back() + 1;
  }
  int32_t* device_position = array<int32_t>(position.size());
  check(cudaMemcpy(device_position, position.data(), position.size() * 4, cudaMemcpyHostToDevice),
        "cudaMemcpy");

  record_scores::Params s;
  s.n_rows = n_rows, s.n_heads = n_heads, s.n_kv_heads = n_kv_heads, s.head_dim = head_dim, s.n_keys = n_keys;
  s.scale = 0.0884f, s.key_token_stride = n_kv_heads * head_dim, s.key_head_stride = head_dim,
  s.out_pages = pages;
  s.q = random_array<uint16_t>(rows * head_dim), s.keys = random_array<uint16_t>(keys);
  s.lse = random_array<float>(rows), s.position = device_position;
  s.score = array<float>(size_t(n_rows) * size_t(pages)),
  s.mass = array<float>(size_t(n_rows) * size_t(pages));
  const double flops = 2.0 * seen * n_heads * head_dim;
  report("page scores and masses", median_ms([&] { record_scores::run(s, {}); }), flops);
  s.group_mass = array<float>(size_t(n_rows) * n_kv_heads * size_t(pages));
  report("... and masses by group", median_ms([&] { record_scores::run(s, {}); }), flops);

  record_values::Params v;
  v.n_rows = n_rows, v.n_heads = n_heads, v.n_kv_heads = n_kv_heads, v.head_dim = head_dim, v.n_keys = n_keys;
  v.scale = s.scale, v.token_stride = s.key_token_stride, v.head_stride = s.key_head_stride,
  v.out_pages = pages;
  v.q = s.q, v.keys = s.keys, v.lse = s.lse, v.position = s.position;
  v.values = random_array<uint16_t>(keys), v.gradient = random_array<float>(n_gradients * rows * head_dim);
  v.mass = array<float>(rows * size_t(pages)), v.value = array<float>(n_gradients * rows * size_t(pages));
  for (v.n_gradients = 1; v.n_gradients <= n_gradients; ++v.n_gradients)
    report(fmt::format("page values, {} gradient(s)", v.n_gradients).c_str(),
           median_ms([&] { record_values::run(v, {}); }), 3 * flops * v.n_gradients);
}

}  // namespace
}  // namespace deltacal::kernels::cuda

int main(int argc, char** argv) {
  try {
    deltacal::kernels::cuda::current_device();
    deltacal::kernels::cuda::time_all(argc > 1 ? std::atoi(argv[1]) : 32768,
                                      argc > 2 ? std::atoi(argv[2]) : 256);
  } catch (const deltacal::Error& e) {
    fmt::print(stderr, "{}\n", e.what());
    return int(e.status());
  }
}
