#include "model/shape.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "model/model.h"
#include "support/scratch.h"

using namespace deltacal;
using namespace deltacal::model;
using Catch::Matchers::ContainsSubstring;
using Json = nlohmann::ordered_json;

namespace {

long long parameters(const Description& d) {
  long long total = 0;
  for (const WeightShape& weight : weight_shapes(d)) {
    long long n = 1;
    for (const int64_t size : weight.shape) n *= size;
    total += n;
  }
  return total;
}

Json file_of(const std::string& name) {
  return Json::parse(read_file(std::string(PROJECT_DATA) + "/shapes/" + name + ".json"));
}

}  // namespace

TEST_CASE("shape: the known ones have the number of parameters that their publishers give") {
  const std::map<std::string, long long> known{
      {"llama3-8b", 8030261248},    {"qwen2.5-1.5b", 1543714304}, {"qwen2.5-7b", 7615616512},
      {"qwen2.5-14b", 14770033664}, {"qwen3-8b", 8190735360},
  };
  CHECK(shape_names().size() == known.size());
  for (const std::string& name : shape_names()) {
    CAPTURE(name);
    const Shape shape = read_shape(name);
    // Of Qwen3 the norms of heads are left out, one of head_dim for queries and one for keys a layer.
    const ModelInfo& m = shape.description.info;
    const long long left_out = shape.left_out.empty() ? 0 : 2LL * m.n_layers * m.head_dim;
    CHECK(parameters(shape.description) + left_out == known.at(name));
    CHECK(shape.source.starts_with("https://"));
    CHECK(m.name == file_of(name)["name"]);
  }
}

TEST_CASE("shape: what is unknown or wrong is named") {
  CHECK_THROWS_WITH(read_shape("qwen2.5-7B"),
                    ContainsSubstring("qwen2.5-7B: unknown; use llama3-8b, qwen2.5-1"));
  const test::Scratch scratch;
  const std::string path = scratch / "shape.json";
  const auto refused = [&](const std::string& field, const Json& value, const std::string& what) {
    Json json = file_of("qwen2.5-7b");
    if (value.is_null())
      json.erase(field);
    else
      json[field] = value;
    std::ofstream(path) << json;
    CAPTURE(field);
    CHECK_THROWS_WITH(read_shape(path), ContainsSubstring(path) && ContainsSubstring(what));
  };
  refused("n_heads", 27, "n_heads is 27, expected a multiple of n_kv_heads, which is 4");
  refused("n_embd", 100, "a multiple of 8");
  refused("n_layers", 0, "n_layers");
  refused("head_dim", nullptr, "head_dim");
  refused("tied_output", 1, "true or false");
  refused("rope_pairs", "half", "\"neox\" or \"interleaved\"");
  refused("rope_base", -1, "rope_base");
  refused("format", "deltacal-bench", "format");
  refused("n_layer", 3, "n_layer");
  std::ofstream(path) << "{";
  CHECK_THROWS_WITH(read_shape(path), ContainsSubstring("not JSON"));
  CHECK_THROWS_AS(read_shape((scratch / "none.json")), Error);
}

TEST_CASE("shape: random weights are those of the shape, from the seed, and as many bytes as said") {
  Shape shape = read_shape("qwen2.5-1.5b");
  Description& d = shape.description;
  d.info.n_layers = 2, d.n_embd = 64, d.n_ff = 96, d.n_vocab = 300, d.info.n_heads = 4, d.info.head_dim = 32,
  d.rope.dim = 32;
  for (const bool tied : {true, false}) {
    d.tied_output = tied;
    const Model model = Model::random(d, Dtype::f32, Device::cpu, 3),
                rounded = Model::random(d, Dtype::bf16, Device::cpu, 3);
    CHECK(model.weight_bytes() == Model::random_bytes(d, Dtype::f32, Device::cpu));
    CHECK(rounded.weight_bytes() == Model::random_bytes(d, Dtype::bf16, Device::cpu));
    CHECK(model.info().dtype == "f32");
    CHECK(model.weight_bytes() == size_t(parameters(d)) * 4);
  }
}
