// Values of GGML's block formats (ggml-common.h), plain scalar code over blocks; every product and sum is
// rounded to f32 in the order of the formula, so that the same file gives the same bits on every machine.
#include <fmt/ranges.h>
#include <array>
#include <bit>
#include <cstring>

#include "core/error.h"
#include "model/gguf.h"
#include "model/gguf_types.h"

namespace deltacal::model {
namespace {

// IEEE binary16 to binary32, exact, denormals, infinities and NaN payloads included.
float from_half(uint16_t half) {
  const uint32_t sign = (half & 0x8000u) << 16, exponent = (half >> 10) & 31u, mantissa = half & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;  // denormal or zero
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
}

template <class T>
T load(const std::byte* from) {  // tensors need not be aligned to more than a byte
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

float load_half(const std::byte* from) {
  return from_half(load<uint16_t>(from));
}
int low(std::byte b) {
  return static_cast<int>(b & std::byte{15});
}
int high(std::byte b) {
  return static_cast<int>(b >> 4);
}

void f32_block(const std::byte* in, float* out) {
  *out = load<float>(in);
}
void f16_block(const std::byte* in, float* out) {
  *out = load_half(in);
}
void bf16_block(const std::byte* in, float* out) {
  *out = std::bit_cast<float>(uint32_t{load<uint16_t>(in)} << 16);
}

// scale f16, 32 x 4 bits: elements 0..15 in the low halves, 16..31 in the high ones
void q4_0_block(const std::byte* in, float* out) {
  const float d = load_half(in);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(low(in[2 + i]) - 8);
    out[i + 16] = d * static_cast<float>(high(in[2 + i]) - 8);
  }
}

// scale f16, minimum f16, 32 x 4 bits
void q4_1_block(const std::byte* in, float* out) {
  const float d = load_half(in), m = load_half(in + 2);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(low(in[4 + i])) + m;
    out[i + 16] = d * static_cast<float>(high(in[4 + i])) + m;
  }
}

// scale f16, the fifth bits of 32 elements, 32 x 4 bits
void q5_0_block(const std::byte* in, float* out) {
  const float d = load_half(in);
  const auto fifth = load<uint32_t>(in + 2);
  for (int i = 0; i < 16; ++i) {
    const int a = low(in[6 + i]) | static_cast<int>(fifth >> i & 1) << 4;
    const int b = high(in[6 + i]) | static_cast<int>(fifth >> (i + 16) & 1) << 4;
    out[i] = d * static_cast<float>(a - 16);
    out[i + 16] = d * static_cast<float>(b - 16);
  }
}

// scale f16, minimum f16, fifth bits, 32 x 4 bits
void q5_1_block(const std::byte* in, float* out) {
  const float d = load_half(in), m = load_half(in + 2);
  const auto fifth = load<uint32_t>(in + 4);
  for (int i = 0; i < 16; ++i) {
    const int a = low(in[8 + i]) | static_cast<int>(fifth >> i & 1) << 4;
    const int b = high(in[8 + i]) | static_cast<int>(fifth >> (i + 16) & 1) << 4;
    out[i] = d * static_cast<float>(a) + m;
    out[i + 16] = d * static_cast<float>(b) + m;
  }
}

// scale f16, 32 x int8
void q8_0_block(const std::byte* in, float* out) {
  const float d = load_half(in);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(static_cast<int8_t>(in[2 + i]));
}

// The 6-bit scale and minimum of sub-block j (of 8, 32 elements each) in the 12 packed bytes of q4_k and
// q5_k.
struct ScaleMin {
  float scale, minimum;
};
ScaleMin scale_min(const std::byte* packed, int j) {
  const auto byte = [&](int i) { return static_cast<int>(packed[i]); };
  if (j < 4) return {static_cast<float>(byte(j) & 63), static_cast<float>(byte(j + 4) & 63)};
  return {static_cast<float>((byte(j + 4) & 15) | (byte(j - 4) >> 6) << 4),
          static_cast<float>((byte(j + 4) >> 4) | (byte(j) >> 6) << 4)};
}

// scale f16, minimum f16, 12 bytes of sub-scales, 256 x 4 bits in runs of 64 (low halves first)
void q4_k_block(const std::byte* in, float* out) {
  const float d = load_half(in), dmin = load_half(in + 2);
  for (int run = 0; run < 4; ++run) {
    const auto a = scale_min(in + 4, 2 * run), b = scale_min(in + 4, 2 * run + 1);
    const float da = d * a.scale, ma = dmin * a.minimum, db = d * b.scale, mb = dmin * b.minimum;
    const std::byte* q = in + 16 + 32 * run;
    for (int i = 0; i < 32; ++i) {
      out[64 * run + i] = da * static_cast<float>(low(q[i])) - ma;
      out[64 * run + 32 + i] = db * static_cast<float>(high(q[i])) - mb;
    }
  }
}

// as q4_k, with 32 bytes of fifth bits after the sub-scales: bit j of byte i is that of element 32 j + i
void q5_k_block(const std::byte* in, float* out) {
  const float d = load_half(in), dmin = load_half(in + 2);
  for (int run = 0; run < 4; ++run) {
    const auto a = scale_min(in + 4, 2 * run), b = scale_min(in + 4, 2 * run + 1);
    const float da = d * a.scale, ma = dmin * a.minimum, db = d * b.scale, mb = dmin * b.minimum;
    const std::byte *fifth = in + 16, *q = in + 48 + 32 * run;
    for (int i = 0; i < 32; ++i) {
      const int bits = static_cast<int>(fifth[i]) >> (2 * run);
      out[64 * run + i] = da * static_cast<float>(low(q[i]) | (bits & 1) << 4) - ma;
      out[64 * run + 32 + i] = db * static_cast<float>(high(q[i]) | (bits >> 1 & 1) << 4) - mb;
    }
  }
}

// 256 x low 4 bits, 256 x high 2 bits, 16 int8 scales of 16 elements each, scale f16
void q6_k_block(const std::byte* in, float* out) {
  const std::byte* scales = in + 192;
  const float d = load_half(in + 208);
  std::array<float, 16> scale;
  for (int i = 0; i < 16; ++i) scale[i] = d * static_cast<float>(static_cast<int8_t>(scales[i]));
  for (int half = 0; half < 2; ++half) {
    const std::byte *lows = in + 64 * half, *highs = in + 128 + 32 * half;
    for (int i = 0; i < 32; ++i) {
      const int bits = static_cast<int>(highs[i]);
      const int q[4] = {low(lows[i]) | (bits & 3) << 4, low(lows[i + 32]) | (bits >> 2 & 3) << 4,
                        high(lows[i]) | (bits >> 4 & 3) << 4, high(lows[i + 32]) | (bits >> 6 & 3) << 4};
      for (int quarter = 0; quarter < 4; ++quarter)
        out[128 * half + 32 * quarter + i] =
            scale[8 * half + 2 * quarter + i / 16] * static_cast<float>(q[quarter] - 32);
    }
  }
}

using DecodeBlock = void (*)(const std::byte* in, float* out);

// The call is resolved at compile time: blocks of one element are decoded in a plain loop.
template <DecodeBlock decode>
void decode_all(const std::byte* in, int64_t n_blocks, const BlockLayout& layout, float* out) {
  const int bytes = layout.bytes, elements = layout.elements;
#pragma omp parallel for schedule(static) if (n_blocks > 4096)
  for (int64_t b = 0; b < n_blocks; ++b) decode(in + b * bytes, out + b * elements);
}

}  // namespace

void dequantize(const GgufTensor& tensor, std::span<float> out) {
  const BlockLayout* layout = block_layout(tensor.type);
  const auto refused = [&] {
    return bad_input(
        "tensor {} is of type {}, which is not supported: f32, f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, "
        "q4_k, q5_k and q6_k are. Convert the model to one of these.",
        tensor.name, type_name(tensor.type));
  };
  if (!layout) throw refused();
  const auto bytes = tensor_bytes(*layout, tensor.shape);
  if (!bytes)
    throw bad_input("tensor {} of shape [{}]: a row is no whole number of {} blocks of {}", tensor.name,
                    fmt::join(tensor.shape, ", "), layout->name, layout->elements);
  if (static_cast<uint64_t>(*bytes) != tensor.bytes.size())
    throw bad_input("tensor {} has {} bytes, its shape needs {}", tensor.name, tensor.bytes.size(), *bytes);
  const int64_t elements = tensor.n_elements(), n_blocks = elements / layout->elements;
  if (static_cast<uint64_t>(elements) != out.size())
    throw failure("tensor {} has {} elements, room was made for {}", tensor.name, elements, out.size());
  const std::byte* in = tensor.bytes.data();
  switch (static_cast<TensorType>(tensor.type)) {
    case TensorType::f32:
      return decode_all<f32_block>(in, n_blocks, *layout, out.data());
    case TensorType::f16:
      return decode_all<f16_block>(in, n_blocks, *layout, out.data());
    case TensorType::bf16:
      return decode_all<bf16_block>(in, n_blocks, *layout, out.data());
    case TensorType::q4_0:
      return decode_all<q4_0_block>(in, n_blocks, *layout, out.data());
    case TensorType::q4_1:
      return decode_all<q4_1_block>(in, n_blocks, *layout, out.data());
    case TensorType::q5_0:
      return decode_all<q5_0_block>(in, n_blocks, *layout, out.data());
    case TensorType::q5_1:
      return decode_all<q5_1_block>(in, n_blocks, *layout, out.data());
    case TensorType::q8_0:
      return decode_all<q8_0_block>(in, n_blocks, *layout, out.data());
    case TensorType::q4_k:
      return decode_all<q4_k_block>(in, n_blocks, *layout, out.data());
    case TensorType::q5_k:
      return decode_all<q5_k_block>(in, n_blocks, *layout, out.data());
    case TensorType::q6_k:
      return decode_all<q6_k_block>(in, n_blocks, *layout, out.data());
  }
  throw refused();
}

}  // namespace deltacal::model
