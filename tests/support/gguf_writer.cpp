#include "support/gguf_writer.h"

#include "core/files.h"

namespace deltacal::test {
namespace {
void pad(std::string& text, size_t alignment) {
  text.resize((text.size() + alignment - 1) / alignment * alignment);
}
}  // namespace

std::string gguf_string(std::string_view text) {
  return bytes_of<uint64_t>(text.size()) + std::string(text);
}

GgufWriter::GgufWriter(uint32_t version, uint32_t alignment) : version_(version), alignment_(alignment) {
  if (alignment != 32) set("general.alignment", alignment);
}

void GgufWriter::set_raw(const std::string& key, uint32_t type, std::string_view bytes) {
  values_ += gguf_string(key) + bytes_of(type) + std::string(bytes);
  ++n_values_;
}

void GgufWriter::set(const std::string& key, uint32_t value) {
  set_raw(key, 4, bytes_of(value));
}
void GgufWriter::set(const std::string& key, int32_t value) {
  set_raw(key, 5, bytes_of(value));
}
void GgufWriter::set(const std::string& key, float value) {
  set_raw(key, 6, bytes_of(value));
}
void GgufWriter::set(const std::string& key, bool value) {
  set_raw(key, 7, bytes_of<uint8_t>(value));
}
void GgufWriter::set(const std::string& key, std::string_view value) {
  set_raw(key, 8, gguf_string(value));
}
void GgufWriter::set(const std::string& key, uint64_t value) {
  set_raw(key, 10, bytes_of(value));
}

void GgufWriter::set(const std::string& key, const std::vector<std::string>& values) {
  std::string raw = bytes_of<uint32_t>(8) + bytes_of<uint64_t>(values.size());
  for (const std::string& value : values) raw += gguf_string(value);
  set_raw(key, 9, raw);
}

void GgufWriter::set(const std::string& key, const std::vector<int32_t>& values) {
  std::string raw = bytes_of<uint32_t>(5) + bytes_of<uint64_t>(values.size());
  for (const int32_t value : values) raw += bytes_of(value);
  set_raw(key, 9, raw);
}

void GgufWriter::set(const std::string& key, const std::vector<float>& values) {
  std::string raw = bytes_of<uint32_t>(6) + bytes_of<uint64_t>(values.size());
  for (const float value : values) raw += bytes_of(value);
  set_raw(key, 9, raw);
}

void GgufWriter::add_raw(const std::string& name, const std::vector<uint64_t>& shape, uint32_t type,
                         std::string_view bytes) {
  pad(data_, alignment_);
  infos_ += gguf_string(name) + bytes_of(static_cast<uint32_t>(shape.size()));
  for (const uint64_t n : shape) infos_ += bytes_of(n);
  infos_ += bytes_of(type) + bytes_of<uint64_t>(data_.size());
  data_ += bytes;
  ++n_tensors_;
}

void GgufWriter::add(const std::string& name, const std::vector<uint64_t>& shape,
                     std::span<const float> values) {
  add_raw(name, shape, 0, {reinterpret_cast<const char*>(values.data()), values.size_bytes()});
}

size_t GgufWriter::header_bytes() const {
  return 24 + values_.size() + infos_.size();
}

std::string GgufWriter::bytes() const {
  std::string all =
      "GGUF" + bytes_of(version_) + bytes_of(n_tensors_) + bytes_of(n_values_) + values_ + infos_;
  pad(all, alignment_);
  return all + data_;
}

void GgufWriter::write(const std::string& path) const {
  write_file_atomically(path, bytes(), Existing::replace);
}

}  // namespace deltacal::test
