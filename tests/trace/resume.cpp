#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <chrono>
#include <fstream>
#include <functional>

#include "child.h"
#include "core/error.h"
#include "made.h"

using namespace deltacal;
using namespace deltacal::trace;
using namespace deltacal::trace::testing;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

const Provenance made_by{.command = "deltacal profile", .seed = 1};
const nlohmann::json options = {{"steps", "256"}, {"data", {{"sha256", "ff"}}}};

std::vector<Sample> three_samples() {
  const ModelInfo model = small_model();
  return {make_sample(1, 200, model), make_sample(2, 400, model, true), make_sample(3, 300, model)};
}

// Records what is missing and finishes; `reached` is called between any two calls that change a file.
void record(
    const std::string& path, Writer::Start start, const std::vector<Sample>& samples,
    const std::function<void()>& reached = [] {}) {
  Writer writer(path, start, small_model(), made_by, options);
  reached();
  for (size_t i = 0; i < samples.size(); ++i) {
    const int index = static_cast<int>(i), n_steps = static_cast<int>(samples[i].steps.size());
    if (writer.has(index)) continue;
    SampleWriter sample = writer.begin(index, plan_of(samples[i]));
    reached();
    for (int first = 0; first < n_steps; first += 30) {
      write_rows(sample, samples[i], first, std::min(30, n_steps - first));
      reached();
    }
    sample.finish(samples[i].token_ids, samples[i].steps, samples[i].burst, samples[i].nll);
    reached();
  }
  writer.finish();
}

}  // namespace

TEST_CASE("profile: killed between any two calls, resumes to the same datasets") {
  const std::vector<Sample> samples = three_samples();
  int n_stages = 0;
  {
    const Folder folder;
    record(folder / "t.h5", Writer::Start::fresh, samples, [&] { ++n_stages; });
  }
  REQUIRE(n_stages > 12);
  for (int stage = 1; stage <= n_stages; ++stage) {
    const Folder folder;
    const std::string path = folder / "t.h5";
    const int status = in_child([&] {
      int left = stage;
      record(path, Writer::Start::fresh, samples, [&] {
        if (--left == 0) ::kill(::getpid(), SIGKILL);
      });
      return 0;
    });
    REQUIRE(WIFSIGNALED(status));
    REQUIRE_FALSE(fs::exists(path));
    record(path, Writer::Start::resume, samples);
    CHECK(holds(path, samples));
    CHECK_FALSE(fs::exists(path + ".partial"));
  }
}

TEST_CASE("profile: killed at any time, resumes to the same datasets") {
  const std::vector<Sample> samples = three_samples();
  const auto run = [&](const std::string& path) { record(path, Writer::Start::resume, samples); };
  std::chrono::microseconds whole{};
  {
    const Folder folder;
    const auto start = std::chrono::steady_clock::now();
    in_child([&] {
      run(folder / "t.h5");
      return 0;
    });
    whole = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - start);
  }
  constexpr int n_kills = 24;
  int n_begun = 0;
  for (int i = 0; i < n_kills; ++i) {
    const Folder folder;
    const std::string path = folder / "t.h5";
    const pid_t child = ::fork();
    if (child == 0) {
      run(path);
      ::_exit(0);
    }
    ::usleep(static_cast<useconds_t>(whole.count() * i / n_kills));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    n_begun += fs::exists(path + ".partial");
    if (fs::exists(path)) CHECK(holds(path, samples));  // a file under that name is whole
    if (!fs::exists(path) || fs::exists(path + ".partial/plan.json")) run(path);
    CHECK(holds(path, samples));
  }
  CHECK(n_begun > 0);
}

TEST_CASE("profile: a sample file cut short at any length is recorded again") {
  const std::vector<Sample> samples = three_samples();
  const Folder folder;
  const std::string path = folder / "t.h5", second = path + ".partial/000001.h5";
  {
    Writer writer(path, Writer::Start::fresh, small_model(), made_by, options);
    for (int i = 0; i < 3; ++i) write_sample(writer, i, samples[static_cast<size_t>(i)]);
  }
  const auto size = fs::file_size(second);
  fs::copy_file(second, folder / "whole");
  for (size_t i = 0; i < 30; ++i) {
    fs::copy_file(folder / "whole", second, fs::copy_options::overwrite_existing);
    fs::resize_file(second, size * i / 30);
    const Writer writer(path, Writer::Start::resume, small_model(), made_by, options);
    CHECK(writer.has(0));
    CHECK_FALSE(writer.has(1));
    CHECK(writer.has(2));
  }
  record(path, Writer::Start::resume, samples);
  CHECK(holds(path, samples));
}

TEST_CASE("profile: killed between the rename and the removal of the folder, resumes") {
  const std::vector<Sample> samples = three_samples();
  const Folder folder;
  const std::string path = folder / "t.h5";
  {
    Writer writer(path, Writer::Start::fresh, small_model(), made_by, options);
    for (int i = 0; i < 3; ++i) write_sample(writer, i, samples[static_cast<size_t>(i)]);
    fs::copy(path + ".partial", folder / "kept");
    writer.finish();
  }
  fs::copy(folder / "kept", path + ".partial");
  CHECK_THROWS_WITH(record(path, Writer::Start::resume, samples),
                    ContainsSubstring("exists"));  // anybody's file
  // What finish() had said before the rename:
  std::ifstream in(path + ".partial/plan.json");
  auto plan = nlohmann::json::parse(in);
  plan["replaces_output"] = true;
  std::ofstream(path + ".partial/plan.json") << plan;
  record(path, Writer::Start::resume, samples);
  CHECK(holds(path, samples));
  CHECK_FALSE(fs::exists(path + ".partial"));
}

TEST_CASE("profile: resuming with another option or model names it and both values") {
  const Folder folder;
  const std::string path = folder / "t.h5";
  { const Writer begun(path, Writer::Start::fresh, small_model(), made_by, options); }
  const auto resume = [&](const ModelInfo& model, const nlohmann::json& other) {
    Writer(path, Writer::Start::resume, model, made_by, other);
  };
  nlohmann::json other = options;
  other["data"]["sha256"] = "00";
  other["seed"] = 3;
  CHECK_THROWS_WITH(resume(small_model(), other),
                    ContainsSubstring("options.data.sha256: \"ff\" there, \"00\" now") &&
                        ContainsSubstring("options.seed: not given there, 3 now") &&
                        ContainsSubstring("--force"));
  ModelInfo model = small_model();
  model.sha256 = std::string(64, 'b');
  CHECK_THROWS_WITH(resume(model, options), ContainsSubstring("model.sha256: \"aaa"));
  model = small_model();
  model.dtype = "bf16";
  CHECK_THROWS_WITH(resume(model, options), ContainsSubstring("model.dtype: \"f32\" there, \"bf16\" now"));
  CHECK_THROWS_WITH(resume(small_model(4), options), ContainsSubstring("model.n_layers: 3 there, 4 now"));
  model = small_model();
  model.name = "a copy under another name";
  CHECK_NOTHROW(resume(model, options));
}

TEST_CASE("profile: an earlier run's folder and output are not lost by mistake") {
  const std::vector<Sample> samples = three_samples();
  const Folder folder;
  const std::string path = folder / "t.h5";
  {
    Writer writer(path, Writer::Start::fresh, small_model(), made_by, options);
    write_sample(writer, 0, samples[0]);
    CHECK_THROWS_WITH(Writer(path, Writer::Start::resume, small_model(), made_by, options),
                      ContainsSubstring("another run"));
  }
  CHECK_THROWS_WITH(record(path, Writer::Start::fresh, samples),
                    ContainsSubstring("1 finished samples") && ContainsSubstring("--resume"));
  record(path, Writer::Start::replace, samples);
  CHECK(holds(path, samples));
  CHECK_THROWS_WITH(record(path, Writer::Start::fresh, samples), ContainsSubstring("--force"));
  CHECK_THROWS_WITH(record(path, Writer::Start::resume, samples), ContainsSubstring("--force"));
  // Replacing keeps the old file until the new one is whole, also when it is resumed.
  const std::vector<Sample> others = {samples[2], samples[0]};
  {
    Writer writer(path, Writer::Start::replace, small_model(), made_by, options);
    write_sample(writer, 0, others[0]);
  }
  CHECK(holds(path, samples));
  record(path, Writer::Start::resume, others);
  CHECK(holds(path, others));
}

TEST_CASE("profile: files of somebody else in the folder stay") {
  const Folder folder;
  const std::string path = folder / "t.h5";
  fs::create_directory(path + ".partial");
  std::ofstream(path + ".partial/notes.txt") << "mine";
  record(path, Writer::Start::replace, three_samples());
  CHECK(fs::exists(path + ".partial/notes.txt"));
}

TEST_CASE("profile: an option that is no UTF-8 text does not stop the run or its resumption") {
  const Folder folder;
  const std::string path = folder / "t.h5";
  const nlohmann::json odd = {{"data", "na\xefve.jsonl"}};
  const Provenance command{.command = "deltacal profile --data na\xefve.jsonl", .seed = 1};
  { const Writer begun(path, Writer::Start::fresh, small_model(), command, odd); }
  Writer writer(path, Writer::Start::resume, small_model(), command, odd);
  const Sample s = make_sample(1, 50, small_model());
  write_sample(writer, 0, s);
  writer.finish();
  CHECK(holds(path, {s}));
}

TEST_CASE("profile: a run that has finished no sample stands in nobody's way") {
  const Folder folder;
  const std::string path = folder / "t.h5";
  { const Writer begun(path, Writer::Start::fresh, small_model(), made_by, options); }
  REQUIRE(fs::exists(path + ".partial/plan.json"));
  {
    Writer writer(path, Writer::Start::fresh, small_model(), made_by, options);
    writer.discard();
  }
  CHECK_FALSE(fs::exists(path + ".partial"));
  CHECK_FALSE(fs::exists(path));
}
