#include "model/gguf.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>

#include "core/error.h"
#include "model/gguf_types.h"

namespace deltacal::model {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF files are read as they lie: little-endian");

// "98362432" -> "98,362,432"
std::string grouped(uint64_t n) {
  std::string text = std::to_string(n);
  for (size_t i = text.size(); i > 3; i -= 3) text.insert(i - 3, ",");
  return text;
}

// The file's bytes, read-only. A file cut short by somebody else while it is mapped is beyond what can be
// checked.
class Mapping {
 public:
  explicit Mapping(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) throw bad_input("cannot open the model {}: {}", path, std::strerror(errno));
    struct stat status {};
    const bool regular = ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    size_ = regular ? static_cast<size_t>(status.st_size) : 0;
    if (size_ > 0) address_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
    const std::string why = std::strerror(errno);
    ::close(fd);
    if (!regular) throw bad_input("{} is not a regular file: give the path of a GGUF file", path);
    if (size_ == 0) throw bad_input("{} is empty: it is not a GGUF model, or its download failed", path);
    if (address_ == MAP_FAILED) throw failure("cannot map {} into memory: {}", path, why);
  }
  Mapping(const Mapping&) = delete;
  ~Mapping() {
    if (size_ > 0 && address_ != MAP_FAILED) ::munmap(address_, size_);
  }
  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(address_), size_}; }

 private:
  void* address_ = MAP_FAILED;
  size_t size_ = 0;
};

enum ValueType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

// Bytes that one value takes at least in the file; 0 for an unknown type.
size_t least_bytes(uint32_t type) {
  constexpr size_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};
  return type < std::size(bytes) ? bytes[type] : 0;
}

// Walks through the header; nothing is read or reserved before what it takes is known to lie in the file.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& path) : bytes_(bytes), path_(path) {}

  size_t position() const { return at_; }
  size_t remaining() const { return bytes_.size() - at_; }

  template <class T>
  T read(const std::string& what) {
    if (remaining() < sizeof(T)) throw cut_short(what);
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }

  std::string read_string(const std::string& what) {
    const size_t start = at_;
    const auto length = read<uint64_t>(what);
    if (length > remaining())
      throw corrupt(start, fmt::format("{} has a length of {} bytes, the file ends {} bytes later", what,
                                       grouped(length), grouped(remaining())));
    std::string text(reinterpret_cast<const char*>(bytes_.data()) + at_, length);
    at_ += length;
    return text;
  }

  // A number of things that take at least `least` bytes each.
  uint64_t read_count(const std::string& what, size_t least) {
    const size_t start = at_;
    const auto count = read<uint64_t>(what);
    if (count > remaining() / least)
      throw corrupt(start, fmt::format("{} is {}, more than the remaining {} bytes can hold", what,
                                       grouped(count), grouped(remaining())));
    return count;
  }

  Error corrupt(size_t where, const std::string& what) const {
    return bad_input(
        "{}: not a sound GGUF file, at byte {}: {}. It is cut short or damaged; download it again.", path_,
        grouped(where), what);
  }

 private:
  Error cut_short(const std::string& what) const {
    return bad_input("{}: the file is cut short: it ends at byte {} inside {}. Download it again.", path_,
                     grouped(bytes_.size()), what);
  }

  std::span<const std::byte> bytes_;
  const std::string& path_;
  size_t at_ = 0;
};

bool is_integer(uint32_t type) {
  return type <= i32 || type == u64 || type == i64;
}

int64_t read_signed(Cursor& in, uint32_t type, const std::string& what) {
  const size_t start = in.position();
  switch (type) {
    case u8:
      return in.read<uint8_t>(what);
    case i8:
      return in.read<int8_t>(what);
    case u16:
      return in.read<uint16_t>(what);
    case i16:
      return in.read<int16_t>(what);
    case u32:
      return in.read<uint32_t>(what);
    case i32:
      return in.read<int32_t>(what);
    case i64:
      return in.read<int64_t>(what);
    default:
      break;
  }
  const auto value = in.read<uint64_t>(what);
  if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
    throw in.corrupt(start, fmt::format("{} holds {}, too large for a signed number", what, value));
  return static_cast<int64_t>(value);
}

bool read_bool(Cursor& in, const std::string& what) {
  const size_t start = in.position();
  const auto value = in.read<uint8_t>(what);
  if (value > 1) throw in.corrupt(start, fmt::format("{} is a truth value of {}, not 0 or 1", what, value));
  return value == 1;
}

double read_float(Cursor& in, uint32_t type, const std::string& what) {
  return type == f32 ? double{in.read<float>(what)} : in.read<double>(what);
}

GgufValue read_array(Cursor& in, const std::string& what) {
  const size_t start = in.position();
  const auto type = in.read<uint32_t>(what);
  if (type == array) throw in.corrupt(start, what + " is an array of arrays, which no GGUF in use has");
  const size_t least = least_bytes(type);
  if (least == 0) throw in.corrupt(start, fmt::format("{} is an array of unknown type {}", what, type));
  const uint64_t count = in.read_count("the length of " + what, least);
  const auto fill = [&](auto values, auto&& read_one) -> GgufValue {
    values.reserve(std::min<uint64_t>(count, 1 << 20));  // a damaged count must not allocate more than the file holds
    for (uint64_t i = 0; i < count; ++i) values.push_back(read_one());
    return values;
  };
  if (type == string) return fill(std::vector<std::string>(), [&] { return in.read_string(what); });
  if (type == f32 || type == f64)
    return fill(std::vector<double>(), [&] { return read_float(in, type, what); });
  if (type == boolean) return fill(std::vector<int64_t>(), [&] { return int64_t{read_bool(in, what)}; });
  return fill(std::vector<int64_t>(), [&] { return read_signed(in, type, what); });
}

GgufValue read_value(Cursor& in, const std::string& what) {
  const size_t start = in.position();
  const auto type = in.read<uint32_t>("the type of " + what);
  if (type == u64) return in.read<uint64_t>(what);
  if (type == u8 || type == u16 || type == u32) return static_cast<uint64_t>(read_signed(in, type, what));
  if (is_integer(type)) return read_signed(in, type, what);
  if (type == f32 || type == f64) return read_float(in, type, what);
  if (type == boolean) return read_bool(in, what);
  if (type == string) return in.read_string(what);
  if (type == array) return read_array(in, what);
  throw in.corrupt(start, fmt::format("{} has the unknown value type {}", what, type));
}

const char* kind_of(const GgufValue& value) {
  constexpr const char* names[] = {"an unsigned integer", "an integer",         "a number",
                                   "a truth value",       "a string",           "an array of integers",
                                   "an array of numbers", "an array of strings"};
  return names[value.index()];
}

// A tensor's place as the header gives it, before the extents are checked.
struct Declared {
  GgufTensor tensor;
  uint64_t offset = 0;     // from the start of the data section
  size_t declared_at = 0;  // byte of the header
};

Declared read_tensor_info(Cursor& in, uint64_t index) {
  constexpr uint32_t max_dimensions = 4;  // GGML_MAX_DIMS
  Declared declared;
  declared.declared_at = in.position();
  GgufTensor& t = declared.tensor;
  t.name = in.read_string(fmt::format("the name of tensor {}", index));
  const std::string what = fmt::format("the description of tensor {}", t.name);
  const auto n_dimensions = in.read<uint32_t>(what);
  if (n_dimensions > max_dimensions)
    throw in.corrupt(declared.declared_at,
                     fmt::format("tensor {} has {} dimensions, the most is 4", t.name, n_dimensions));
  for (uint32_t d = 0; d < n_dimensions; ++d) {
    const auto n = in.read<uint64_t>(what);
    if (n == 0 || n > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      throw in.corrupt(declared.declared_at, fmt::format("tensor {} has a dimension of {}", t.name, n));
    t.shape.push_back(static_cast<int64_t>(n));
  }
  if (!element_count(t.shape))
    throw in.corrupt(declared.declared_at, fmt::format("tensor {} has more than 2^63 elements", t.name));
  t.type = in.read<uint32_t>(what);
  declared.offset = in.read<uint64_t>(what);
  return declared;
}

}  // namespace

int64_t GgufTensor::n_elements() const {
  return element_count(shape).value_or(0);
}

struct Gguf::Impl {
  std::string path;
  Mapping mapping;
  uint32_t version = 0;
  std::map<std::string, GgufValue> metadata;
  std::map<std::string, GgufTensor> tensors;

  explicit Impl(const std::string& file) : path(file), mapping(file) {
    Cursor in(mapping.bytes(), path);
    read_magic(in);
    const uint64_t n_tensors = in.read_count("the number of tensors", 24);
    const uint64_t n_values = in.read_count("the number of metadata values", 13);
    for (uint64_t i = 0; i < n_values; ++i) read_pair(in, i);
    refuse_parts();
    std::vector<Declared> declared;
    for (uint64_t i = 0; i < n_tensors; ++i) declared.push_back(read_tensor_info(in, i));
    place(in, declared);
  }

  void read_magic(Cursor& in) {
    char magic[4] = {};
    const auto bytes = mapping.bytes();
    std::memcpy(magic, bytes.data(), std::min(bytes.size(), sizeof magic));
    if (std::memcmp(magic, "GGUF", 4) != 0)
      throw bad_input(
          "{} is not a GGUF file: it begins with the bytes {:02x}, expected 47 47 55 46 (\"GGUF\")", path,
          fmt::join(std::span(reinterpret_cast<const uint8_t*>(magic), 4), " "));
    in.read<uint32_t>("the magic number");
    version = in.read<uint32_t>("the version");
    if (version == 2 || version == 3) return;
    if (version != 0 && (version & 0xffff) == 0)
      throw bad_input("{} is a big-endian GGUF file: convert it to little-endian (gguf_convert_endian.py)",
                      path);
    throw bad_input("{}: GGUF version {} is not supported, only 2 and 3: convert the model anew", path,
                    version);
  }

  void read_pair(Cursor& in, uint64_t index) {
    const size_t start = in.position();
    std::string key = in.read_string(fmt::format("the key of metadata value {}", index));
    GgufValue value = read_value(in, key);
    if (!metadata.emplace(key, std::move(value)).second)
      throw in.corrupt(start, fmt::format("the key {} is there twice", key));
  }

  // A part of a model split over several files holds only some tensors.
  void refuse_parts() const {
    const auto found = metadata.find("split.count");
    if (found == metadata.end()) return;
    const auto* count = std::get_if<uint64_t>(&found->second);
    if (count && *count <= 1) return;
    throw bad_input(
        "{} is one of {} parts of a model (split.count), which is not supported: join them first with "
        "llama-gguf-split --merge",
        path, count ? grouped(*count) : "several");
  }

  uint64_t alignment(const Cursor& in) const {
    const auto found = metadata.find("general.alignment");
    if (found == metadata.end()) return 32;
    const auto* value = std::get_if<uint64_t>(&found->second);
    if (!value || !std::has_single_bit(*value) || *value > (1u << 30))
      throw in.corrupt(in.position(), "general.alignment is not a power of two");
    return *value;
  }

  void place(const Cursor& in, std::vector<Declared>& declared) {
    const uint64_t size = mapping.bytes().size(), align = alignment(in);
    const uint64_t data = (in.position() + align - 1) / align * align;
    uint64_t expected = 0;  // bytes of the whole file, at least
    for (const Declared& d : declared) expected = std::max(expected, end_of(in, d, data, align));
    if (expected > size)
      throw bad_input("{}: the file is cut short: {} bytes expected at least, {} there; download it again",
                      path, grouped(expected), grouped(size));
    for (Declared& d : declared) {
      const uint64_t begin = data + d.offset;
      const BlockLayout* layout = block_layout(d.tensor.type);
      // Of an unknown type only the start is known: its bytes stay empty.
      const int64_t length = layout ? *tensor_bytes(*layout, d.tensor.shape) : 0;
      d.tensor.bytes = mapping.bytes().subspan(begin, static_cast<size_t>(length));
      const std::string name = d.tensor.name;
      if (!tensors.emplace(name, std::move(d.tensor)).second)
        throw in.corrupt(d.declared_at, fmt::format("the tensor {} is there twice", name));
    }
  }

  // The byte after the tensor's last; of an unknown type, its first.
  uint64_t end_of(const Cursor& in, const Declared& d, uint64_t data, uint64_t align) const {
    const GgufTensor& t = d.tensor;
    if (d.offset % align != 0)
      throw in.corrupt(d.declared_at,
                       fmt::format("tensor {} begins at offset {}, no multiple of the alignment {}", t.name,
                                   d.offset, align));
    int64_t length = 0;
    if (const BlockLayout* layout = block_layout(t.type)) {
      const auto known = tensor_bytes(*layout, t.shape);
      if (!known)
        throw in.corrupt(d.declared_at,
                         fmt::format("tensor {} of shape [{}] is no whole number of {} blocks of {}", t.name,
                                     fmt::join(t.shape, ", "), layout->name, layout->elements));
      length = *known;
    }
    uint64_t end = 0;
    if (__builtin_add_overflow(data, d.offset, &end) ||
        __builtin_add_overflow(end, static_cast<uint64_t>(length), &end))
      throw in.corrupt(d.declared_at, fmt::format("tensor {} would end beyond 2^64 bytes", t.name));
    return end;
  }

  const GgufValue& value(const std::string& key) const {
    const auto found = metadata.find(key);
    if (found == metadata.end())
      throw bad_input("{}: the key {} is missing; convert the model with a current converter", path, key);
    return found->second;
  }

  Error wrong_kind(const std::string& key, const char* expected) const {
    return bad_input("{}: the key {} holds {}, expected {}", path, key, kind_of(value(key)), expected);
  }

  template <class T>
  const T& value_of(const std::string& key, const char* expected) const {
    if (const T* typed = std::get_if<T>(&value(key))) return *typed;
    throw wrong_kind(key, expected);
  }
};

Gguf::Gguf(const std::string& path) : impl_(std::make_unique<Impl>(path)) {}
Gguf::~Gguf() = default;
Gguf::Gguf(Gguf&&) noexcept = default;

const std::string& Gguf::path() const {
  return impl_->path;
}
int Gguf::version() const {
  return static_cast<int>(impl_->version);
}
const std::map<std::string, GgufValue>& Gguf::metadata() const {
  return impl_->metadata;
}
bool Gguf::has(const std::string& key) const {
  return impl_->metadata.contains(key);
}

int64_t Gguf::integer(const std::string& key) const {
  const GgufValue& value = impl_->value(key);
  if (const auto* number = std::get_if<int64_t>(&value)) return *number;
  const auto* number = std::get_if<uint64_t>(&value);
  if (number && *number <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
    return static_cast<int64_t>(*number);
  throw impl_->wrong_kind(key, "an integer below 2^63");
}

double Gguf::number(const std::string& key) const {
  const GgufValue& value = impl_->value(key);
  if (const auto* number = std::get_if<double>(&value)) return *number;
  if (const auto* number = std::get_if<int64_t>(&value)) return static_cast<double>(*number);
  if (const auto* number = std::get_if<uint64_t>(&value)) return static_cast<double>(*number);
  throw impl_->wrong_kind(key, "a number");
}

bool Gguf::flag(const std::string& key) const {
  return impl_->value_of<bool>(key, "a truth value");
}

const std::string& Gguf::string(const std::string& key) const {
  return impl_->value_of<std::string>(key, "a string");
}

const std::vector<std::string>& Gguf::strings(const std::string& key) const {
  return impl_->value_of<std::vector<std::string>>(key, "an array of strings");
}

const std::vector<int64_t>& Gguf::integers(const std::string& key) const {
  return impl_->value_of<std::vector<int64_t>>(key, "an array of integers");
}

const std::map<std::string, GgufTensor>& Gguf::tensors() const {
  return impl_->tensors;
}

const GgufTensor& Gguf::tensor(const std::string& name) const {
  const auto found = impl_->tensors.find(name);
  if (found == impl_->tensors.end())
    throw bad_input("{}: the tensor {} is missing; the model is of another architecture or not whole", path(),
                    name);
  return found->second;
}

}  // namespace deltacal::model
