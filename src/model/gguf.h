// GGUF files, versions 2 and 3: metadata and tensor bytes, nothing of transformers. Every count, length and
// offset is checked against the file's size before it is used. Memory-mapped.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace deltacal::model {

enum class TensorType : uint32_t {  // GGML's numbers
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  bf16 = 30,
};

struct GgufTensor {
  std::string name;
  uint32_t type = 0;                 // may be one that is not supported: only its use is refused
  std::vector<int64_t> shape;        // GGUF's order: shape[0] is contiguous
  std::span<const std::byte> bytes;  // in the mapped file
  int64_t n_elements() const;
};

using GgufValue = std::variant<uint64_t, int64_t, double, bool, std::string, std::vector<int64_t>,
                               std::vector<double>, std::vector<std::string>>;

class Gguf {
 public:
  // bad_input: not GGUF, unsupported version, truncated, corrupt (what and where).
  explicit Gguf(const std::string& path);
  ~Gguf();
  Gguf(Gguf&&) noexcept;
  const std::string& path() const;
  int version() const;

  const std::map<std::string, GgufValue>& metadata() const;
  bool has(const std::string& key) const;
  // bad_input, naming file and key, if the key is missing or holds another kind of value.
  int64_t integer(const std::string& key) const;
  double number(const std::string& key) const;
  bool flag(const std::string& key) const;
  const std::string& string(const std::string& key) const;
  const std::vector<std::string>& strings(const std::string& key) const;
  const std::vector<int64_t>& integers(const std::string& key) const;

  const std::map<std::string, GgufTensor>& tensors() const;
  const GgufTensor& tensor(const std::string& name) const;  // bad_input if there is none

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Name of a GGML tensor type, also of those not supported ("iq2_xs", "type 99").
std::string type_name(uint32_t type);

// Values of a tensor as f32, out [n_elements]; bad_input naming tensor and type where that is not supported.
// Uses all threads.
void dequantize(const GgufTensor&, std::span<float> out);

}  // namespace deltacal::model
