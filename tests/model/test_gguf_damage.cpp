// Damaged files: whatever the bytes, a file loads or is refused by an Error; no crash, no wild allocation.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <fstream>
#include <random>

#include "model/description.h"
#include "model/vocabulary.h"
#include "support/scratch.h"
#include "support/tiny_model.h"

using namespace deltacal;

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t stride = 7;  // it reserves terabytes of addresses itself: no limit there, and it is slow
struct AddressLimit {};
#else
constexpr size_t stride = 1;
// At most 512 MiB more addresses than now: an allocation by a count that was not checked fails as
// std::bad_alloc, which is no Error.
class AddressLimit {
 public:
  AddressLimit() {
    getrlimit(RLIMIT_AS, &before_);
    rlimit limited = before_;
    std::ifstream statm("/proc/self/statm");
    rlim_t pages = 0;
    statm >> pages;
    limited.rlim_cur = pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + (rlim_t{512} << 20);
    setrlimit(RLIMIT_AS, &limited);
  }
  AddressLimit(const AddressLimit&) = delete;
  ~AddressLimit() { setrlimit(RLIMIT_AS, &before_); }

 private:
  rlimit before_{};
};
#endif

// Reads all that a model's user reads of the header. Whether the file was refused.
bool refused(const std::string& path) {
  try {
    const model::Gguf file(path);
    const auto description = model::describe(file);
    model::vocabulary_from(file);
    model::inverse_frequencies(description);
    return false;
  } catch (const Error& e) {
    return std::string_view(e.what()).find("model.gguf") != std::string_view::npos
               ? true
               : throw std::runtime_error(std::string("an error without the file's name: ") + e.what());
  }
}

class DamagedModel {
 public:
  DamagedModel() : path_(folder_ / "model.gguf") {
    test::TinyModel tiny;
    tiny.n_layers = 1;
    tiny.n_embd = tiny.n_ff = 32;
    tiny.n_heads = tiny.n_kv_heads = 1;
    tiny.n_vocab = 264;
    const auto writer = test::tiny_model(tiny);
    bytes_ = writer.bytes();
    header_ = writer.header_bytes();
    writer.write(path_);
    file_ = ::open(path_.c_str(), O_RDWR);
    REQUIRE(file_ >= 0);
  }
  ~DamagedModel() { ::close(file_); }
  const std::string& path() const { return path_; }
  size_t header() const { return header_; }
  size_t size() const { return bytes_.size(); }
  void put(size_t at, std::string_view text) {
    REQUIRE(::pwrite(file_, text.data(), text.size(), static_cast<off_t>(at)) ==
            static_cast<ssize_t>(text.size()));
  }
  void flip(size_t at, unsigned mask) { put(at, std::string(1, static_cast<char>(bytes_[at] ^ mask))); }
  void restore(size_t at, size_t length) { put(at, std::string_view(bytes_).substr(at, length)); }
  void cut(size_t length) { REQUIRE(::ftruncate(file_, static_cast<off_t>(length)) == 0); }

 private:
  test::Scratch folder_;
  std::string path_, bytes_;
  size_t header_ = 0;
  int file_ = -1;
};

}  // namespace

TEST_CASE("gguf damage: a byte changed anywhere in the header loads or is refused") {
  DamagedModel model;
  REQUIRE_FALSE(refused(model.path()));
  const AddressLimit limit;
  std::mt19937 random(1);
  int n_refused = 0;
  for (size_t at = 0; at < model.header(); at += stride)
    for (const unsigned mask : {1 + random() % 255, 0x80ul}) {
      INFO("byte " << at << " xor " << mask);
      model.flip(at, static_cast<unsigned>(mask));
      REQUIRE_NOTHROW(n_refused += refused(model.path()));
      model.restore(at, 1);
    }
  CHECK(n_refused > 100);
  CHECK_FALSE(refused(model.path()));
}

TEST_CASE("gguf damage: extreme numbers anywhere in the header load or are refused") {
  DamagedModel model;
  const AddressLimit limit;
  std::mt19937 random(2);
  const std::string extremes[] = {test::bytes_of(~uint64_t{0}), test::bytes_of(uint64_t{1} << 63),
                                  test::bytes_of(uint64_t{1} << 40), test::bytes_of(uint64_t{0})};
  for (int i = 0; i < 4000; i += static_cast<int>(stride)) {
    const size_t at = random() % (model.header() - 8);
    INFO("8 bytes at " << at);
    model.put(at, extremes[random() % 4]);
    REQUIRE_NOTHROW(refused(model.path()));
    model.restore(at, 8);
  }
}

TEST_CASE("gguf damage: a file cut anywhere is refused") {
  DamagedModel model;
  const AddressLimit limit;
  size_t length = model.size();
  while (length > 0) {
    length -= std::min(length, length > model.header() ? size_t{997} : stride);
    model.cut(length);
    INFO("cut to " << length << " bytes");
    REQUIRE(refused(model.path()));
  }
}
