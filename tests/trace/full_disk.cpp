#include <signal.h>
#include <sys/resource.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "child.h"
#include "core/error.h"
#include "made.h"
#include "trace/hdf5.h"

using namespace deltacal;
using namespace deltacal::trace;
using namespace deltacal::trace::testing;
namespace fs = std::filesystem;

namespace {

// No file of this process may grow beyond `bytes`; writes fail with "File too large" as on a full disk.
void limit_files(size_t bytes) {
  ::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{bytes, bytes};
  ::setrlimit(RLIMIT_FSIZE, &limit);
}

// 0: done; 1: a failure that names the reason; 2: anything else. HDF5 is shut down, as when a program ends.
int outcome(const std::function<void()>& work) {
  int result = 0;
  try {
    work();
  } catch (const Error& error) {
    const std::string message = error.what();
    const bool told = message.find("cannot write") != std::string::npos &&
                      (message.find("File too large") != std::string::npos ||
                       message.find("plan.json") != std::string::npos);
    result = error.status() == Status::failure && told ? 1 : 2;
  }
  return H5close() < 0 ? 3 : result;
}

}  // namespace

TEST_CASE("trace: a disk that is full at any point is a failure, leaves nothing half, and the run resumes") {
  const ModelInfo model = small_model();
  const std::vector<Sample> samples = {make_sample(1, 900, model, true), make_sample(2, 1500, model),
                                       make_sample(3, 100, model)};
  size_t whole = 0;
  {
    const Folder folder;
    write_trace(folder / "t.h5", model, samples);
    whole = fs::file_size(folder / "t.h5");
  }
  int n_failed = 0, n_done = 0;
  for (size_t i = 0; i <= 16; ++i) {
    const size_t limit = i < 8 ? i * 400 : whole * (i - 7) / 8;
    const Folder folder;
    const std::string path = folder / "t.h5";
    const int status = in_child([&] {
      limit_files(limit);
      return outcome([&] { write_trace(path, model, samples); });
    });
    INFO("limit " << limit << " of " << whole);
    REQUIRE(WIFEXITED(status));
    REQUIRE(WEXITSTATUS(status) <= 1);
    n_failed += WEXITSTATUS(status) == 1, n_done += WEXITSTATUS(status) == 0;
    if (WEXITSTATUS(status) == 0) {
      CHECK(holds(path, samples));
      continue;
    }
    CHECK_FALSE(fs::exists(path));
    for (const auto& entry : fs::directory_iterator(path + ".partial"))
      CHECK((entry.path().filename() == "plan.json" || entry.path().extension() == ".h5"));
    Writer writer(path, Writer::Start::resume, model, {}, {{"steps", "256"}});
    for (int s = 0; s < 3; ++s)
      if (!writer.has(s)) write_sample(writer, s, samples[static_cast<size_t>(s)]);
    writer.finish();
    CHECK(holds(path, samples));
  }
  CHECK(n_failed > 8);
  CHECK(n_done >= 1);
}

TEST_CASE("trace: merging onto a full disk is a failure and leaves no file") {
  const ModelInfo model = small_model();
  const Folder folder;
  write_trace(folder / "a.h5", model, {make_sample(1, 900, model)});
  write_trace(folder / "b.h5", model, {make_sample(2, 900, model)});
  const size_t size = fs::file_size(folder / "a.h5");
  for (const size_t limit : {size_t{0}, size_t{500}, size / 2, size, size + size / 2}) {
    const int status = in_child([&] {
      limit_files(limit);
      return outcome([&] {
        merge({folder / "a.h5", folder / "b.h5"}, folder / "all.h5", Existing::refuse, {});
      });
    });
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 1);
    CHECK(std::distance(fs::directory_iterator(folder.path), {}) == 2);
  }
}

TEST_CASE("trace: a folder that cannot be made is told before anything is recorded") {
  using Catch::Matchers::ContainsSubstring;
  const Folder folder;
  CHECK_THROWS_WITH(write_trace(folder / "no/such/t.h5", small_model(), {}),
                    ContainsSubstring("does not exist"));
}
