#include <sys/resource.h>
#include <sys/stat.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <csignal>
#include <fstream>

#include "core/files.h"
#include "support/scratch.h"

using namespace deltacal;
namespace fs = std::filesystem;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;

namespace {

size_t n_entries(const test::Scratch& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()));
}

// A disk with room for so many bytes of a file.
class SmallDisk {
 public:
  explicit SmallDisk(rlim_t bytes) : signal_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit small{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
  }
  SmallDisk(const SmallDisk&) = delete;
  ~SmallDisk() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, signal_);
  }

 private:
  void (*signal_)(int);
  rlimit before_{};
};

}  // namespace

TEST_CASE("files: what is written is read back, bytes and all") {
  test::Scratch folder;
  const std::string content("a\0b\r\n\xff", 6);
  write_file_atomically(folder / "x", content, Existing::refuse);
  CHECK(read_file(folder / "x") == content);
  CHECK(n_entries(folder) == 1);
  write_file_atomically(folder / "empty", "", Existing::refuse);
  CHECK(read_file(folder / "empty").empty());
}

TEST_CASE("files: an existing output is refused, and replaced only when asked") {
  test::Scratch folder;
  write_file_atomically(folder / "x", "old", Existing::refuse);
  CHECK_THAT(test::error_of([&] { write_file_atomically(folder / "x", "new", Existing::refuse); }),
             StartsWith("2: ") && ContainsSubstring("exists") && ContainsSubstring("--force"));
  CHECK(read_file(folder / "x") == "old");
  write_file_atomically(folder / "x", "new", Existing::replace);
  CHECK(read_file(folder / "x") == "new");
  CHECK(n_entries(folder) == 1);
}

TEST_CASE("files: outputs that cannot be are refused before any work") {
  test::Scratch folder;
  const auto error = [](const std::string& path) {
    return test::error_of([&] { require_free_output(path, Existing::replace); });
  };
  CHECK_THAT(error(""), StartsWith("2: "));
  CHECK_THAT(error(folder.path().string()), ContainsSubstring("is a folder"));
  CHECK_THAT(error(folder / "no/such/x"), ContainsSubstring("does not exist: create it first"));
  CHECK(error(folder / "x") == "no error");
  CHECK(n_entries(folder) == 0);
}

TEST_CASE("files: reading a missing file or a folder is bad input") {
  test::Scratch folder;
  CHECK_THAT(test::error_of([&] { read_file(folder / "x"); }), StartsWith("2: cannot read"));
  CHECK_THAT(test::error_of([&] { read_file(folder.path().string()); }), ContainsSubstring("is a folder"));
}

TEST_CASE("files: a full disk leaves nothing under the name, an old file untouched, and no temporary file") {
  test::Scratch folder;
  write_file_atomically(folder / "old", "old", Existing::refuse);
  const std::string large(1 << 20, 'x');
  {
    const SmallDisk disk(4096);
    CHECK_THAT(test::error_of([&] { write_file_atomically(folder / "new", large, Existing::refuse); }),
               StartsWith("1: cannot write"));
    CHECK_THAT(test::error_of([&] { write_file_atomically(folder / "old", large, Existing::replace); }),
               StartsWith("1: cannot write"));
  }
  CHECK_FALSE(fs::exists(folder / "new"));
  CHECK(read_file(folder / "old") == "old");
  CHECK(n_entries(folder) == 1);
}

TEST_CASE("files: an output that is not committed goes with its object, a committed one stays") {
  test::Scratch folder;
  {
    const AtomicOutput output(folder / "x", Existing::refuse);
    std::ofstream(output.temporary_path()) << "half";
    CHECK(n_entries(folder) == 1);
  }
  CHECK(n_entries(folder) == 0);
  {
    AtomicOutput output(folder / "x", Existing::refuse);
    std::ofstream(output.temporary_path()) << "whole";
    CHECK_FALSE(fs::exists(folder / "x"));
    output.commit();
  }
  CHECK(read_file(folder / "x") == "whole");
  CHECK(n_entries(folder) == 1);
}

TEST_CASE("files: a file that appeared meanwhile is not overwritten") {
  test::Scratch folder;
  AtomicOutput output(folder / "x", Existing::refuse);
  std::ofstream(output.temporary_path()) << "mine";
  std::ofstream(folder / "x") << "theirs";
  CHECK_THAT(test::error_of([&] { output.commit(); }), StartsWith("2: ") && ContainsSubstring("exists"));
  CHECK(read_file(folder / "x") == "theirs");
}

TEST_CASE("files: committing an output that was never written is a failure that names it") {
  test::Scratch folder;
  AtomicOutput output(folder / "x", Existing::refuse);
  CHECK_THAT(test::error_of([&] { output.commit(); }),
             StartsWith("1: cannot write") && ContainsSubstring("x"));
}
