// Writes small GGUF files for tests, sound ones and, by its raw entries, odd ones.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace deltacal::test {

class GgufWriter {
 public:
  explicit GgufWriter(uint32_t version = 3, uint32_t alignment = 32);  // alignment is written only if not 32

  void set(const std::string& key, uint32_t value);
  void set(const std::string& key, int32_t value);
  void set(const std::string& key, uint64_t value);
  void set(const std::string& key, float value);
  void set(const std::string& key, bool value);
  void set(const std::string& key, std::string_view value);
  void set(const std::string& key, const char* value) { set(key, std::string_view(value)); }
  void set(const std::string& key, const std::vector<std::string>& values);
  void set(const std::string& key, const std::vector<int32_t>& values);
  void set(const std::string& key, const std::vector<float>& values);
  // Any value type with its bytes as they are.
  void set_raw(const std::string& key, uint32_t type, std::string_view bytes);

  // `shape` in GGUF's order: shape[0] is contiguous.
  void add(const std::string& name, const std::vector<uint64_t>& shape, std::span<const float> values);
  void add_raw(const std::string& name, const std::vector<uint64_t>& shape, uint32_t type,
               std::string_view bytes);

  std::string bytes() const;
  size_t header_bytes() const;  // everything before the padding and the tensors' data
  void write(const std::string& path) const;

 private:
  uint32_t version_, alignment_;
  uint64_t n_values_ = 0, n_tensors_ = 0;
  std::string values_, infos_, data_;
};

// Little-endian bytes of a number, for raw entries.
template <class T>
std::string bytes_of(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}
std::string gguf_string(std::string_view text);  // length (u64) and bytes

}  // namespace deltacal::test
