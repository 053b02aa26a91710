// Schedules in other programs' forms: the files as they must be, and what each form refuses.
#include "config/export.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "support/scratch.h"

using namespace deltacal;
using namespace deltacal::config;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr LayerPlan full{Role::full, 0, 0};
LayerPlan delta(int k, int l) {
  return {Role::delta, k, l};
}
LayerPlan sparse(int k) {
  return {Role::sparse, k, 0};
}

Config with(std::vector<LayerPlan> layers) {
  Config config;
  config.model.name = "tiny\nrm -rf x";  // a name must not end the comment that it stands in
  config.model.sha256 = "abc";
  config.model.n_layers = static_cast<int>(layers.size());
  config.schedule.layers = std::move(layers);
  return config;
}

std::string error(const std::string& name, const Config& config, int context = 0) {
  return test::error_of([&] { export_as(name, config, "c.json", context); });
}

// The lines that a shell does not skip.
std::string active_lines(const std::string& text) {
  std::string lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    if (text[at] != '#') lines += text.substr(at, end - at + 1);
    at = end + 1;
  }
  return lines;
}

}  // namespace

TEST_CASE("export: delta, the options of the authors' program") {
  // Layers 2 and 5 choose pages: each is in full_cache_layers and the layer above it is not.
  const auto made = export_as("delta", with({full, full, delta(64, 8), sparse(64), sparse(64), delta(64, 8), sparse(64)}),
                              "c.json", 0);
  CHECK(active_lines(made.text) ==
        "delta_options=(--enable_selective_cache --full_cache_layers 0 1 2 5 --subset_cache_size 64 "
        "--compression_ratio 1 --L 8)\n");
  CHECK(made.differences.empty());
  CHECK_THAT(made.text, ContainsSubstring("github.com/hoenza/DELTA") && ContainsSubstring("931d8982"));
  CHECK_THAT(made.text, ContainsSubstring(R"("tiny\nrm -rf x")"));
  // A list that nobody uses, and a full layer among them, change nothing.
  const auto unused = export_as("delta", with({delta(9, 3), full, delta(4, 1), sparse(4)}), "c.json", 0);
  CHECK_THAT(unused.text, ContainsSubstring("--full_cache_layers 0 1 2 --subset_cache_size 4 --compression_ratio 1 --L 1"));
}

TEST_CASE("export: delta refuses what it cannot say, naming the field and what to do") {
  CHECK_THAT(error("delta", with({delta(8, 1), sparse(8), sparse(4)})),
             ContainsSubstring("2: c.json: layers[2].k_pages is 4, an earlier layer has 8") &&
                 ContainsSubstring("--k-per schedule"));
  CHECK_THAT(error("delta", with({delta(8, 1), sparse(8), delta(8, 2), sparse(8)})),
             ContainsSubstring("layers[2].l_pages is 2") && ContainsSubstring("--l-pages"));
  CHECK_THAT(error("delta", with({delta(8, 1), full, sparse(8)})),
             ContainsSubstring("layers[1] is full and the next layer is sparse"));
  CHECK_THAT(error("delta", with({full, full})), ContainsSubstring("no layer is sparse"));
  Config biased = with({delta(8, 1), sparse(8)});
  biased.schedule.position_bias = 0.5;
  CHECK_THAT(error("delta", biased), ContainsSubstring("c.json: position_bias cannot be said in the form of delta"));
  Config stale = with({delta(8, 1), sparse(8)});
  stale.schedule.refresh_interval = 4;
  CHECK_THAT(error("delta", stale), ContainsSubstring("refresh_interval cannot be said"));
}

TEST_CASE("export: kascade, anchors and a share of the context, and the differences are in the file") {
  const auto made = export_as("kascade", with({full, delta(8, 1), sparse(8), delta(8, 1), sparse(8)}), "c.json", 1024);
  CHECK(active_lines(made.text) ==
        "kascade_options=(--strategies pooled_kascade --recompute_layers 0 1 3 --topk 12.5 --tile_size 1)\n");
  REQUIRE(made.differences.size() == 3);
  for (const auto& difference : made.differences) CHECK_THAT(made.text, ContainsSubstring("# Differs: " + difference));
  // int(topk / 100 * length) is what kascade computes, in double.
  for (const int context : {129, 1000, 3001, 4095, 8191, 131071}) {
    const std::string text = export_as("kascade", with({delta(8, 1), sparse(8)}), "c.json", context).text;
    const double share = std::stod(text.substr(text.find("--topk ") + 7));
    CHECK(static_cast<int>(share / 100 * context) == 128);
  }
}

TEST_CASE("export: kascade refuses what it cannot say") {
  const Config sound = with({delta(8, 1), sparse(8)});
  CHECK_THAT(error("kascade", sound), ContainsSubstring("--context N"));
  CHECK_THAT(error("kascade", sound, 128), ContainsSubstring("--context 128"));
  CHECK_THAT(error("kascade", with({delta(8, 2), sparse(8)}), 1000), ContainsSubstring("calibrate with --l-pages 1"));
  CHECK_THAT(error("kascade", with({delta(4, 1), sparse(4)}), 1000), ContainsSubstring("--k-pages 8 or more"));
  CHECK_THAT(error("kascade", with({full, full, delta(8, 1), sparse(8)}), 1000), ContainsSubstring("layers[1] is full"));
  CHECK_THAT(error("kascade", with({delta(9, 1), sparse(8), sparse(9)}), 1000), ContainsSubstring("--k-per schedule"));
}

TEST_CASE("export: programs of which no form is known are refused by name") {
  const Config sound = with({delta(8, 1), sparse(8)});
  for (const std::string name : {"vllm", "sglang", "hf"})
    CHECK_THAT(error(name, sound), ContainsSubstring("2: no form of " + name + " that deltacal knows"));
  CHECK(export_names().size() == 5);
}
