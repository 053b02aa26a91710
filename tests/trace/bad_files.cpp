#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <fstream>
#include <functional>
#include <random>

#include "core/error.h"
#include "core/hash.h"
#include "made.h"
#include "trace/layout.h"

using namespace deltacal;
using namespace deltacal::trace;
using namespace deltacal::trace::testing;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

// HDF5 1.10 forgets a few blocks of its own when it gives up on a damaged object. Read by LeakSanitizer
// alone.
extern "C" const char* __lsan_default_suppressions() {
  return "leak:H5FL__malloc\n";
}

namespace {

std::string content(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

// The message with which `read` refuses, as bad input; empty if it does not.
std::string refusal(const std::function<void()>& read) {
  try {
    read();
  } catch (const Error& error) {
    CHECK(error.status() == Status::bad_input);
    return error.what();
  }
  return "";
}

std::string refusal(const std::string& path) {
  return refusal([&] { Reader reader(path); });
}

// A trace of one sample made with plain HDF5, which `spoil` changes before the datasets are written.
struct Raw {
  std::vector<int32_t> token_ids = {1, 2, 3, 4, 5}, steps = {2, 3}, burst = {0, 0};
  std::vector<float> nll = {1, 1, 1, 1}, score = {1, 1};
  std::vector<uint16_t> mass = {0x3c00, 0x3c00};  // 1
  h5::Shape score_shape = {1, 2, 1};
  h5::Type mass_type = h5::Type::f16;
  int64_t schema = schema_version, n_tokens = 5;
  int64_t page_size = 16;
  std::string format = format_name, leave_out, parts, sha256 = deltacal::sha256_of_tokens(token_ids);
  bool extra = false;
  std::string ranking, page = "max";  // name of a ranking beside predicted KL; empty: neither
  int64_t refresh_interval = 1, ranking_k = 4;
  std::vector<int32_t> list_made_at = {};  // of one layer; empty: not there
};

template <class T>
void write_list(hid_t group, const Raw& raw, const char* name, h5::Type type, const std::vector<T>& values) {
  if (raw.leave_out == name) return;
  const h5::Shape shape{values.size()};
  h5::Dataset::create(group, name, type, shape, {}).write({0}, shape, values.data());
}

void write_edge_kl(hid_t group, int64_t k_pages) {
  const float kl = 0.5f;
  h5::Dataset data = h5::Dataset::create(group, "edge_kl", h5::Type::f32, {1, 1, 1}, {});
  data.write({0, 0, 0}, {1, 1, 1}, &kl);
  h5::write_attribute(data.get(), "k_pages", std::vector<int64_t>{k_pages});
  h5::write_attribute(data.get(), "l_pages", std::vector<int64_t>{1});
}

void write_ranking(hid_t sample, const Raw& raw) {
  write_edge_kl(sample, 4);
  const uint16_t delta[2] = {0x3c00, 0x3c00};
  h5::Dataset::create(sample, "edge_delta", h5::Type::f16, {1, 1, 1, 2}, {}).write({0, 0, 0, 0}, {1, 1, 1, 2}, delta);
  const h5::Id all = h5::create_group(sample, "rankings"), group = h5::create_group(all.get(), raw.ranking);
  if (raw.leave_out != "page") h5::write_attribute(group.get(), "page", raw.page);
  h5::write_attribute(group.get(), "refresh_interval", raw.refresh_interval);
  if (raw.leave_out != "edge_kl") write_edge_kl(group.get(), raw.ranking_k);
  if (const h5::Shape shape{1, raw.list_made_at.size()}; shape[1] > 0)
    h5::Dataset::create(group.get(), "list_made_at", h5::Type::i32, shape, {})
        .write({0, 0}, shape, raw.list_made_at.data());
}

std::string write_raw(const std::string& path, const std::function<void(Raw&)>& spoil) {
  Raw raw;
  spoil(raw);
  h5::Output file(path);
  h5::write_attribute(file.get(), "format", raw.format);
  h5::write_attribute(file.get(), "schema_version", raw.schema);
  h5::write_attribute(file.get(), "command", std::string("x"));
  h5::write_attribute(file.get(), "seed", uint64_t{1});
  ModelInfo model = small_model(1);
  model.page_size = static_cast<int>(raw.page_size);
  if (raw.leave_out != "model") write_model(file.get(), model);
  {
    const h5::Id samples = h5::create_group(file.get(), "samples");
    const h5::Id group = h5::create_group(samples.get(), raw.leave_out == "000000" ? "000001" : "000000");
    for (const char* name : {"id", "task", "problem"})
      h5::write_attribute(group.get(), name, std::string("x"));
    h5::write_attribute(group.get(), "mode", std::string("replay"));
    if (raw.leave_out != "sha256") h5::write_attribute(group.get(), "sha256", raw.sha256);
    h5::write_attribute(group.get(), "n_tokens", raw.n_tokens);
    h5::write_attribute(group.get(), "n_prompt_tokens", int64_t{1});
    write_list(group.get(), raw, "token_ids", h5::Type::i32, raw.token_ids);
    write_list(group.get(), raw, "steps", h5::Type::i32, raw.steps);
    write_list(group.get(), raw, "burst", h5::Type::i32, raw.burst);
    write_list(group.get(), raw, "nll", h5::Type::f32, raw.nll);
    if (raw.leave_out != "page_score")
      h5::Dataset::create(group.get(), "page_score", h5::Type::f32, raw.score_shape, {})
          .write(h5::Shape(raw.score_shape.size(), 0), raw.score_shape, raw.score.data());
    if (raw.leave_out != "page_mass")
      h5::Dataset::create(group.get(), "page_mass", raw.mass_type, {1, 2, 1}, {})
          .write({0, 0, 0}, {1, 2, 1}, raw.mass.data());
    if (!raw.parts.empty()) h5::write_attribute(group.get(), "parts", raw.parts);
    if (!raw.ranking.empty()) write_ranking(group.get(), raw);
    if (raw.extra) {
      const float values[4] = {1, 2, 3, 4};
      h5::Dataset::create(group.get(), "token_map", h5::Type::f32, {4, 1, 1}, {})
          .write({0, 0, 0}, {4, 1, 1}, values);
      h5::write_attribute(group.get(), "note", std::string("later"));
    }
  }
  file.close();
  return path;
}

}  // namespace

TEST_CASE("trace: what is no trace is refused with path and reason") {
  const Folder folder;
  CHECK_THAT(refusal(folder / "none.h5"), ContainsSubstring("none.h5 does not exist"));
  CHECK_THAT(refusal(folder.path.string()), ContainsSubstring("not a file"));
  write_bytes(folder / "empty", "");
  CHECK_THAT(refusal(folder / "empty"), ContainsSubstring("not an HDF5 file"));
  write_bytes(folder / "text", std::string(5000, 'x'));
  CHECK_THAT(refusal(folder / "text"), ContainsSubstring("not an HDF5 file"));
  {
    h5::Output other(folder / "other.h5");
    other.close();
  }
  CHECK_THAT(refusal(folder / "other.h5"),
             ContainsSubstring("another kind") && ContainsSubstring("other.h5"));
}

TEST_CASE("trace: a ranking that is not what it is named is refused") {
  const Folder folder;
  const auto refused = [&](const std::function<void(Raw&)>& spoil) {
    return refusal(write_raw(folder / "raw.h5", [&](Raw& r) {
      r.ranking = "max";
      spoil(r);
    }));
  };
  CHECK(refused([](Raw&) {}).empty());
  CHECK(refused([](Raw& r) { r.ranking = "refresh-4", r.page = "sum", r.refresh_interval = 4; }).empty());
  const auto misnamed = ContainsSubstring("are not what it is named");
  CHECK_THAT(refused([](Raw& r) { r.page = "sum"; }), ContainsSubstring("rankings/max") && misnamed);
  CHECK_THAT(refused([](Raw& r) { r.page = "mean"; }), misnamed);
  CHECK_THAT(refused([](Raw& r) { r.refresh_interval = 4; }), misnamed);
  CHECK_THAT(refused([](Raw& r) { r.refresh_interval = -1; }), misnamed);
  for (const char* name : {"other", "cosine-0.90", "refresh-1", "refresh:4"})
    CHECK_THAT(refused([&](Raw& r) { r.ranking = name; }),
               ContainsSubstring(std::string("rankings/") + name + " is named after no ranking"));
  CHECK_THAT(refused([](Raw& r) { r.ranking_k = 8; }), ContainsSubstring("its K and L are not those of edge_kl"));
  CHECK_THAT(refused([](Raw& r) { r.leave_out = "page"; }), ContainsSubstring("page"));
  CHECK_THAT(refused([](Raw& r) { r.leave_out = "edge_kl"; }), ContainsSubstring("edge_kl"));

  // Lists by a signal: of every step, made at a step that is not after it.
  const auto with_lists = [&](std::vector<int32_t> made_at) {
    std::string told =
        refused([&](Raw& r) { r.ranking = "cosine-0.9", r.page = "sum", r.list_made_at = made_at; });
    if (!told.empty()) return told;
    try {
      Reader(folder / "raw.h5").list_made_at(0, {PageScore::sum, 1, 0.9});
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  CHECK(with_lists({1, 1, 3, 3}).empty());
  CHECK_THAT(with_lists({}), ContainsSubstring("list_made_at"));
  CHECK_THAT(with_lists({1, 1, 3}), ContainsSubstring("list_made_at has shape [1, 3]"));
  CHECK_THAT(with_lists({1, 1, 4, 3}), ContainsSubstring("the list of position 4 at position 3"));
  CHECK_THAT(with_lists({0, 1, 3, 3}), ContainsSubstring("the list of position 0 at position 1"));
}

TEST_CASE("trace: each flaw of a file is named with its dataset or attribute") {
  const Folder folder;
  const auto refused = [&](const std::function<void(Raw&)>& spoil) {
    return refusal(write_raw(folder / "raw.h5", spoil));
  };
  CHECK(refused([](Raw&) {}).empty());
  CHECK_THAT(refused([](Raw& r) { r.format = "something"; }), ContainsSubstring("\"something\""));
  CHECK_THAT(refused([](Raw& r) { r.schema = 2; }), ContainsSubstring("schema_version 2"));
  CHECK_THAT(refused([](Raw& r) { r.page_size = 32; }), ContainsSubstring("page_size 32"));
  for (const char* name :
       {"model", "sha256", "token_ids", "steps", "burst", "nll", "page_score", "page_mass", "000000"})
    CHECK_THAT(refused([&](Raw& r) { r.leave_out = name; }), ContainsSubstring("missing"));
  CHECK_THAT(refused([](Raw& r) { r.leave_out = "page_mass"; }),
             ContainsSubstring("raw.h5: sample 000000: dataset page_mass is missing"));
  CHECK_THAT(refused([](Raw& r) {
               r.score_shape = {1, 1, 2};
             }),
             ContainsSubstring("page_score has shape [1, 1, 2], expected [1, 2, 1]"));
  CHECK_THAT(refused([](Raw& r) {
               r.score_shape = {1, 2};
             }),
             ContainsSubstring("page_score has shape [1, 2]"));
  CHECK_THAT(refused([](Raw& r) {
               r.mass_type = h5::Type::f32;
               r.mass.resize(4);
             }),
             ContainsSubstring("page_mass is not float16"));
  CHECK_THAT(refused([](Raw& r) { r.n_tokens = 6; }),
             ContainsSubstring("token_ids has shape [5], expected [6]"));
  CHECK_THAT(refused([](Raw& r) { r.n_tokens = 0; }), ContainsSubstring("n_tokens is 0"));
  CHECK_THAT(refused([](Raw& r) { r.n_tokens = int64_t{1} << 40; }), ContainsSubstring("out of range"));
  CHECK_THAT(refused([](Raw& r) { r.nll.pop_back(); }), ContainsSubstring("nll has shape [3], expected [4]"));
  for (const char* parts : {"gsm8k/1", "{}", "[1]", "[\"a\""})
    CHECK_THAT(refused([&](Raw& r) { r.parts = parts; }),
               ContainsSubstring("attribute parts is not a JSON list"));
  CHECK(refused([](Raw& r) { r.parts = "[\"a\"]"; }).empty());
  CHECK_THAT(refused([](Raw& r) { r.steps = {3, 2}; }), ContainsSubstring("not ascending"));
  CHECK_THAT(refused([](Raw& r) { r.steps = {3, 3}; }), ContainsSubstring("not ascending"));
  CHECK_THAT(refused([](Raw& r) { r.steps = {0, 1}; }), ContainsSubstring("outside 1..4"));
  CHECK_THAT(refused([](Raw& r) { r.steps = {4, 5}; }), ContainsSubstring("outside 1..4"));
  CHECK_THAT(refused([](Raw& r) { r.steps = {2, 4}; }), ContainsSubstring("burst"));
  CHECK_THAT(refused([](Raw& r) { r.burst = {1, 0}; }), ContainsSubstring("burst"));
  CHECK_THAT(refused([](Raw& r) { r.burst = {0}; }), ContainsSubstring("burst has shape [1], expected [2]"));
}

TEST_CASE("trace: values that cannot be are refused when they are read") {
  const Folder folder;
  const auto refused = [&](const std::function<void(Raw&)>& spoil) {
    const Reader reader(write_raw(folder / "raw.h5", spoil));
    return refusal([&] {
      reader.token_ids(0);
      reader.nll(0);
      reader.pages(0, 0, 1, 0, 2);
    });
  };
  CHECK(refused([](Raw&) {}).empty());
  CHECK_THAT(refused([](Raw& r) { r.score[1] = NAN; }), ContainsSubstring("page_score"));
  CHECK_THAT(refused([](Raw& r) { r.mass[0] = 0x7c00; }), ContainsSubstring("page_mass"));
  CHECK_THAT(refused([](Raw& r) { r.nll[0] = INFINITY; }), ContainsSubstring("nll"));
  CHECK_THAT(refused([](Raw& r) { r.token_ids[4] = 9; }), ContainsSubstring("hash"));
}

TEST_CASE("trace: datasets that this version does not know are tolerated and merged") {
  const Folder folder;
  const std::string a = write_raw(folder / "a.h5", [](Raw& r) { r.extra = true; });
  CHECK(Reader(a).n_samples() == 1);
  merge({a}, folder / "all.h5", Existing::refuse, {});
  const h5::Input file(folder / "all.h5");
  const h5::Id group = h5::open_group(file.get(), "samples/000000");
  std::vector<float> values(4);
  h5::Dataset::open(group.get(), "token_map", h5::Type::f32).read({0, 0, 0}, {4, 1, 1}, values.data());
  CHECK(values == std::vector<float>{1, 2, 3, 4});
  CHECK(h5::read_text(group.get(), "note") == "later");
}

namespace {

enum class Outcome { same, other, refused };

// What becomes of a trace of `s` whose bytes are `bytes`.
Outcome read_damaged(const std::string& path, const std::string& bytes, const Sample& s) {
  write_bytes(path, bytes);
  bool same = false;
  const std::string why = refusal([&] { same = holds(path, {s}); });
  return !why.empty() ? Outcome::refused : same ? Outcome::same : Outcome::other;
}

// Flips bits at every `stride`-th byte. What comes through changed can only be an attribute's text.
void flip_bytes(size_t stride, unsigned seed) {
  const Folder folder;
  const ModelInfo model = small_model(2);
  const Sample s = make_sample(1, 120, model, true);
  write_trace(folder / "t.h5", model, {s});
  const std::string whole = content(folder / "t.h5");
  std::mt19937 random(seed);
  int n_same = 0, n_refused = 0, n_other = 0;
  for (size_t at = random() % stride; at < whole.size(); at += stride) {
    std::string bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ static_cast<char>(1 + random() % 255));
    const Outcome outcome = read_damaged(folder / "damaged.h5", bytes, s);
    n_same += outcome == Outcome::same, n_refused += outcome == Outcome::refused;
    if (outcome == Outcome::other) {
      ++n_other;
      const Reader trace(folder / "damaged.h5");
      const int n_steps = static_cast<int>(s.steps.size());
      const PageMaps maps = trace.pages(0, 0, 2, 0, n_steps);
      CHECK((maps.score == s.score && maps.mass == s.mass && trace.nll(0) == s.nll &&
             trace.steps(0) == s.steps));
    }
  }
  INFO(whole.size() << " bytes: " << n_same << " flips unseen, " << n_refused << " refused, " << n_other
                    << " in an attribute's text");
  CHECK(n_refused > n_same / 4);
  CHECK(n_other < n_refused);
  if (stride == 1)
    WARN(whole.size() << " bytes: " << n_same << " same, " << n_refused << " refused, " << n_other);
}

}  // namespace

TEST_CASE("trace: a flipped byte is refused or does no harm to a number") {
  flip_bytes(97, 1);
}

TEST_CASE("trace: every flipped byte is refused or does no harm to a number", "[.slow]") {
  flip_bytes(1, 2);
}

TEST_CASE("trace: a file cut short at any length is refused") {
  const Folder folder;
  const ModelInfo model = small_model(2);
  const Sample s = make_sample(1, 120, model);
  write_trace(folder / "t.h5", model, {s});
  const std::string whole = content(folder / "t.h5");
  for (size_t i = 0; i < 60; ++i)
    CHECK(read_damaged(folder / "cut.h5", whole.substr(0, whole.size() * i / 60), s) == Outcome::refused);
  CHECK(read_damaged(folder / "cut.h5", whole.substr(0, whole.size() - 1), s) == Outcome::refused);
}

TEST_CASE("trace: long runs of random bytes in a file are refused, never a crash") {
  const Folder folder;
  const ModelInfo model = small_model(2);
  const Sample s = make_sample(1, 120, model);
  write_trace(folder / "t.h5", model, {s});
  const std::string whole = content(folder / "t.h5");
  std::mt19937 random(3);
  for (int i = 0; i < 100; ++i) {
    std::string bytes = whole;
    const size_t begin = 48 + random() % (bytes.size() - 48),
                 end = std::min(bytes.size(), begin + random() % 512);
    for (size_t at = begin; at < end; ++at) bytes[at] = static_cast<char>(random());
    read_damaged(folder / "damaged.h5", bytes, s);
  }
  SUCCEED();
}
