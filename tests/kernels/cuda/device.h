// What the tests of the CUDA kernels share: arrays in device memory, 16-bit types on the host, and a cache of
// random keys and values that lies on the device, and on the host for the references.
#pragma once
#include <cuda_fp16.h>

#include <catch2/catch_test_macros.hpp>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "../cache.h"
#include "kernels/cuda/launch.h"

namespace deltacal::kernels::cuda {

// First line of every test that runs kernels.
#define NEEDS_DEVICE \
  if (deltacal::kernels::cuda::device_count() == 0) SKIP("no CUDA device")

// Whether a kernel's run() refuses its parameters after a change, with a message that holds `text`.
template <class Params, class Change>
bool refused_with(const std::string& text, Params params, Change change) {
  change(params);
  try {
    run(params, Launch{});
  } catch (const std::exception& e) {
    CAPTURE(std::string(e.what()));
    return std::string(e.what()).find(text) != std::string::npos;
  }
  return false;
}

inline constexpr Type both_types[] = {Type::bf16, Type::f16};

// Largest relative error of one rounding to nearest: significands of 8 and 11 bits.
inline double roundoff(Type type) {
  return type == Type::bf16 ? 0x1p-8 : 0x1p-11;
}

inline uint16_t to_bits(Type type, float x) {
  if (type == Type::bf16) return to_bf16(x).bits;
  const __half_raw raw = __float2half_rn(x);
  return raw.x;
}
inline float from_bits(Type type, uint16_t bits) {
  if (type == Type::bf16) return kernels::to_float(kernels::bf16{bits});
  __half_raw raw;
  raw.x = bits;
  return __half2float(raw);
}
inline float rounded(Type type, float x) {
  return from_bits(type, to_bits(type, x));
}
inline std::vector<uint16_t> to_bits(Type type, std::span<const float> x) {
  std::vector<uint16_t> bits;
  for (const float y : x) bits.push_back(to_bits(type, y));
  return bits;
}
inline std::vector<float> from_bits(Type type, std::span<const uint16_t> bits) {
  std::vector<float> x;
  for (const uint16_t b : bits) x.push_back(from_bits(type, b));
  return x;
}
// Normal numbers that the type holds exactly.
inline std::vector<float> rounded_normals(Type type, size_t n, unsigned seed, float deviation = 1) {
  std::vector<float> x = normals(n, seed, deviation);
  for (float& y : x) y = rounded(type, y);
  return x;
}

template <class T>
class Array {
 public:
  explicit Array(size_t n, unsigned char byte = 0xff) : n_(n) {
    check(cudaMalloc(&data_, std::max<size_t>(n, 1) * sizeof(T)), "cudaMalloc");
    check(cudaMemset(data_, byte, n * sizeof(T)), "cudaMemset");
  }
  explicit Array(const std::vector<T>& x) : Array(x.size()) { set(x); }
  Array(const Array&) = delete;
  ~Array() { cudaFree(data_); }

  T* get() { return static_cast<T*>(data_); }
  void set(const std::vector<T>& x) {
    REQUIRE(x.size() == n_);
    check(cudaMemcpy(data_, x.data(), n_ * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  // Waits for everything on the device.
  std::vector<T> read() const {
    check(cudaDeviceSynchronize(), "a kernel");
    std::vector<T> x(n_);
    check(cudaMemcpy(x.data(), data_, n_ * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy");
    return x;
  }

 private:
  size_t n_;
  void* data_ = nullptr;
};

// Random keys and values, NaN wherever no position of a sequence was written.
class DeviceCache {
 public:
  DeviceCache(Type type, int n_kv_heads, int head_dim, const std::vector<int>& written, unsigned seed)
      : type_(type), written_(written), host_(KvType::f32, n_kv_heads, head_dim, written, seed) {
    round();
    upload();
  }

  // For the references.
  const kernels::PagedKv& host() const { return host_.kv(); }
  TestCache& host_cache() { return host_; }
  PagedKv kv() {
    const kernels::PagedKv& h = host_.kv();
    return {type_,        h.n_kv_heads,   h.head_dim,    h.n_pages,
            keys_->get(), values_->get(), table_->get(), h.max_pages};
  }
  Type type() const { return type_; }
  int blocks() const { return host_.kv().n_pages * host_.kv().n_kv_heads; }
  std::vector<uint16_t> keys() const { return keys_->read(); }
  std::vector<uint16_t> values() const { return values_->read(); }

  // The host's pages, as the type rounds them, to the device.
  void upload() {
    const kernels::PagedKv& h = host_.kv();
    const size_t n = size_t(blocks()) * h.page_elements();
    keys_ = std::make_unique<Array<uint16_t>>(to_device(h.keys, true));
    values_ = std::make_unique<Array<uint16_t>>(to_device(h.values, false));
    REQUIRE(keys_->read().size() == n);
    table_ = std::make_unique<Array<int32_t>>(
        std::vector<int32_t>(h.page_table, h.page_table + written_.size() * size_t(h.max_pages)));
  }
  // What an array of the host holds, in the layout of the device.
  std::vector<uint16_t> to_device(const void* array, bool dim_major) const {
    const kernels::PagedKv& h = host_.kv();
    std::vector<uint16_t> bits(size_t(blocks()) * h.page_elements());
    for (int block = 0; block < blocks(); ++block) {
      const size_t base = block_offset(h.head_dim, block);
      for (int i = 0; i < page_size; ++i) {
        for (int d = 0; d < h.head_dim; ++d) {
          const size_t from =
              dim_major ? size_t(d) * page_size + size_t(i) : size_t(i) * size_t(h.head_dim) + size_t(d);
          const float x = cache_element(h, array, base + from);
          bits[base + size_t(block_element(h.head_dim, i, d))] = to_bits(type_, x);
        }
      }
    }
    return bits;
  }

 private:
  void round() {
    const kernels::PagedKv& h = host_.kv();
    for (int s = 0; s < int(written_.size()); ++s)
      for (int t = 0; t < written_[size_t(s)]; ++t)
        for (int g = 0; g < h.n_kv_heads; ++g)
          for (int d = 0; d < h.head_dim; ++d) {
            host_.set_key(s, g, t, d, rounded(type_, key_at(h, s, g, t, d)));
            host_.set_value(s, g, t, d, rounded(type_, value_at(h, s, g, t, d)));
          }
  }

  Type type_;
  std::vector<int> written_;
  TestCache host_;
  std::unique_ptr<Array<uint16_t>> keys_, values_;
  std::unique_ptr<Array<int32_t>> table_;
};

}  // namespace deltacal::kernels::cuda
