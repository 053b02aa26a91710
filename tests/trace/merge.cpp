#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/error.h"
#include "made.h"

using namespace deltacal;
using namespace deltacal::trace;
using namespace deltacal::trace::testing;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

TEST_CASE("merge: all samples in the order of the inputs, numbered anew") {
  const Folder folder;
  const ModelInfo model = small_model();
  const std::vector<Sample> s = {make_sample(1, 100, model), make_sample(2, 200, model, true),
                                 make_sample(3, 300, model), make_sample(4, 50, model)};
  write_trace(folder / "a.h5", model, {s[0], s[1]}, {{"shard", "1/3"}});
  write_trace(folder / "b.h5", model, {s[2]}, {{"shard", "2/3"}});
  write_trace(folder / "c.h5", model, {s[3]}, {{"shard", "3/3"}});
  merge({folder / "b.h5", folder / "a.h5", folder / "c.h5"}, folder / "all.h5", Existing::refuse,
        {.command = "deltacal merge", .seed = 0});
  CHECK(holds(folder / "all.h5", {s[2], s[0], s[1], s[3]}));
  const Reader all(folder / "all.h5");
  CHECK(all.provenance().command == "deltacal merge");
  CHECK(nlohmann::json::parse(all.options()) ==
        nlohmann::json{{"merged", {{{"shard", "2/3"}}, {{"shard", "1/3"}}, {{"shard", "3/3"}}}}});
  // Merging what was merged is merging at once.
  merge({folder / "b.h5", folder / "a.h5"}, folder / "ba.h5", Existing::refuse, {});
  merge({folder / "ba.h5", folder / "c.h5"}, folder / "again.h5", Existing::refuse, {});
  CHECK(holds(folder / "again.h5", {s[2], s[0], s[1], s[3]}));
}

TEST_CASE("merge: names every device that made a shard; a file that names none is read") {
  const Folder folder;
  const auto written = [&](const std::string& name, int sample, const std::string& device) {
    ModelInfo model = small_model();
    model.device = device;
    write_trace(folder / name, model, {make_sample(sample, 100, model)});
    CHECK(Reader(folder / name).model().device == device);
    return folder / name;
  };
  merge({written("a.h5", 1, "cpu"), written("b.h5", 2, ""), written("c.h5", 3, "NVIDIA H200"),
         written("d.h5", 4, "cpu")},
        folder / "all.h5", Existing::refuse, {});
  CHECK(Reader(folder / "all.h5").model().device == "cpu, NVIDIA H200");
}

TEST_CASE("merge: more samples than a compact HDF5 group holds keep their numbers") {
  const Folder folder;
  const ModelInfo model = small_model(1);
  std::vector<Sample> samples;
  for (unsigned i = 0; i < 40; ++i) samples.push_back(make_sample(i, 20 + static_cast<int>(i), model));
  write_trace(folder / "a.h5", model, {samples.begin(), samples.begin() + 25});
  write_trace(folder / "b.h5", model, {samples.begin() + 25, samples.end()});
  merge({folder / "a.h5", folder / "b.h5"}, folder / "all.h5", Existing::refuse, {});
  CHECK(holds(folder / "all.h5", samples));
}

TEST_CASE("merge: another model, geometry or dtype, and a sample twice, are refused by name") {
  const Folder folder;
  const ModelInfo model = small_model();
  const Sample s = make_sample(1, 100, model);
  write_trace(folder / "a.h5", model, {s});
  const auto refuse = [&](const std::string& with) {
    try {
      merge({folder / "a.h5", with}, folder / "all.h5", Existing::refuse, {});
    } catch (const Error& error) {
      CHECK(error.status() == Status::bad_input);
      CHECK(std::distance(fs::directory_iterator(folder.path), {}) == 2);
      if (with != folder / "a.h5") fs::remove(with);
      return std::string(error.what());
    }
    return std::string();
  };
  const auto refused = [&](const ModelInfo& other, unsigned seed) {
    write_trace(folder / "b.h5", other, {make_sample(seed, 100, other)});
    return refuse(folder / "b.h5");
  };
  ModelInfo other = model;
  other.sha256 = std::string(64, 'b');
  CHECK_THAT(refused(other, 2), ContainsSubstring("sha256 bbbbbbbb") && ContainsSubstring("b.h5"));
  CHECK_THAT(refused(small_model(4), 2), ContainsSubstring("n_layers 4, expected 3"));
  other = model;
  other.dtype = "bf16";
  CHECK_THAT(refused(other, 2), ContainsSubstring("dtype bf16, expected f32"));
  CHECK_THAT(refused(model, 1), ContainsSubstring("same tokens") && ContainsSubstring("a.h5 sample 000000"));
}

TEST_CASE("merge: an output that exists is kept unless it may be replaced, even if it is an input") {
  const Folder folder;
  const ModelInfo model = small_model();
  const std::vector<Sample> s = {make_sample(1, 100, model), make_sample(2, 100, model)};
  write_trace(folder / "a.h5", model, {s[0]});
  write_trace(folder / "b.h5", model, {s[1]});
  const std::vector<std::string> inputs = {folder / "a.h5", folder / "b.h5"};
  CHECK_THROWS_WITH(merge(inputs, folder / "a.h5", Existing::refuse, {}), ContainsSubstring("exists"));
  CHECK(holds(folder / "a.h5", {s[0]}));
  merge(inputs, folder / "a.h5", Existing::replace, {});
  CHECK(holds(folder / "a.h5", s));
  CHECK_THROWS_WITH(merge({}, folder / "x.h5", Existing::refuse, {}), ContainsSubstring("at least one"));
}
