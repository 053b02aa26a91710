// What the page is: well formed, self-contained, escaped, light, and whole where pieces are missing.
#include <catch2/catch_test_macros.hpp>

#include "reports/markup.h"
#include "reports/support.h"

using namespace deltacal;
using namespace deltacal::reports;
using namespace deltacal::reports::test;

namespace {

void require_self_contained(const std::string& page) {
  for (const char* foreign :
       {"http", "<script", "<link", "<iframe", "src=", "@import", "@font-face", "javascript:"})
    CHECK_FALSE(contains(page, foreign));
  CHECK(count(page, "url(") == count(page, "url(#hatch)"));
}

Inputs without(Inputs in, unsigned left_out) {
  if (left_out & 1) in.analysis.reset();
  if (left_out & 2) in.config.reset();
  if (left_out & 4) in.validation.reset();
  if (left_out & 8) in.bench.reset();
  if (left_out & 16) in.comparison.reset();
  return in;
}

}  // namespace

TEST_CASE("page: well formed and self-contained with every set of pieces") {
  const Inputs all = all_fixtures();
  for (unsigned left_out = 0; left_out < 31; ++left_out) {
    INFO("left out: " << left_out);
    const Report report = build(without(all, left_out));
    const std::string page = html(report);
    CHECK(Markup(page).error() == "");
    require_self_contained(page);
    CHECK(contains(page, "Not in this report") == (left_out != 0));
    CHECK(contains(page, "deltacal analyze trace.h5 --out analysis.json\" writes") ==
          false);  // quotes are escaped
    CHECK(contains(page, "pass the analysis.json") == bool(left_out & 1));
    CHECK(contains(page, "pass the delta_config.json") == bool(left_out & 2));
    CHECK(contains(page, "pass the validation.json") == bool(left_out & 4));
    CHECK(contains(page, "deltacal bench --out") == bool(left_out & 8));
    CHECK(contains(page, "id=\"correlation\"") == !(left_out & 1));
    CHECK(contains(page, "id=\"schedule-strip\"") == !(left_out & 2));
    CHECK(contains(page, "id=\"validation\"") == !(left_out & 4));
    CHECK(contains(page, "id=\"bench\"") == !(left_out & 8));
    CHECK(contains(page, "pass the compare.json") == bool(left_out & 16));
    CHECK(contains(page, "id=\"comparison\"") == !(left_out & 16));
  }
}

TEST_CASE("page: tells the device and dtype that the files tell") {
  Inputs in = all_fixtures();
  CHECK(!contains(html(build(in)), "NVIDIA H200, bf16"));
  in.analysis->update({{"device", "cpu"}, {"dtype", "f32"}});
  in.validation->update({{"device", "NVIDIA H200"}, {"dtype", "bf16"}});
  const std::string page = html(build(in));
  CHECK(contains(page, "cpu, f32"));
  CHECK(contains(page, "NVIDIA H200, bf16"));
  // A bench file gives the dtype with the model.
  in.bench->update({{"device", "NVIDIA A100"}, {"model", {{"name", "of-bench"}, {"dtype", "bf16"}}}});
  const std::string with_bench = html(build(in));
  CHECK(count(with_bench, "NVIDIA A100") == 1);
  CHECK(contains(with_bench, "NVIDIA A100, bf16"));
  CHECK(contains(with_bench, "of-bench"));
}

TEST_CASE("page: the other forms hold the same figures") {
  const Report report = build(all_fixtures());
  size_t figures = 0;
  for (const Section& section : report.sections) figures += section.figures.size();
  CHECK(count(html(report), "<figure ") == figures);
  CHECK(count(markdown(report), "\n### ") == figures);
  const Json document = Json::parse(json(report));
  size_t in_json = 0;
  for (const auto& section : document["sections"]) in_json += section["figures"].size();
  CHECK(in_json == figures);
  std::set<std::string> in_csv;
  for (const auto& [key, line] : index_csv(csv(report))) in_csv.insert(key[0]);
  CHECK(in_csv.size() == figures + 1);  // and the header
}

TEST_CASE("page: strings from the files cannot become markup") {
  const std::string evil = "<img src=x onerror=\"alert(1)\">'&|`\x01\n,\"end";
  Inputs in = all_fixtures();
  for (Json* document : {&*in.analysis, &*in.config, &*in.validation, &*in.comparison, &*in.bench}) {
    (*document)["model"]["name"] = evil;
    (*document)["command"] = evil;
  }
  in.analysis_file = in.config_file = in.validation_file = in.bench_file = evil;
  (*in.analysis)["interval"]["reason"] = evil;
  (*in.config)["provenance"]["method"] = evil;
  (*in.config)["provenance"]["alternatives"][0]["schedule"] = evil;
  (*in.config)["expected"]["attended_ratio"] = {{evil, 1.5}};
  Json& validation = *in.validation;
  validation["policies"][1]["samples"][0]["id"] = evil;
  validation["policies"][2]["name"] = evil;
  validation["verdict"]["thresholds"][0]["name"] = evil;
  (*in.comparison)["winner"] = (*in.comparison)["methods"][0]["name"] = evil;
  (*in.comparison)["surrogates"][0]["name"] = (*in.comparison)["prediction"]["warning"] = evil;
  (*in.bench)[evil] = evil;
  (*in.bench)["decode"][0][evil] = 3;

  const Report report = build(in);
  const std::string page = html(report);
  CHECK(Markup(page).error() == "");
  CHECK_FALSE(contains(page, "<img"));
  CHECK(contains(page, "&lt;img src=x onerror=&quot;alert(1)&quot;&gt;&#39;&amp;|`"));
  CHECK_FALSE(contains(markdown(report), "<img"));
  CHECK_FALSE(contains(markdown(report), "'&|"));  // neither a raw ampersand nor a raw cell border
  const auto lines = parse_csv(csv(report));
  size_t whole = 0;
  for (const auto& line : lines) {
    REQUIRE(line.size() == 7);
    for (const auto& cell : line) whole += cell == evil;
  }
  CHECK(whole >= 5);  // as it is, quoted
  CHECK(contains(Json::parse(json(report))["title"].get<std::string>(), evil));
}

TEST_CASE("page: under 2 MB at 80 layers, and well formed at 1, 30 and 80") {
  for (const int n : {30, 80}) {
    const std::string page = html(build(Synthetic(n).inputs));
    CHECK(Markup(page).error() == "");
    require_self_contained(page);
    CHECK(page.size() < 2'000'000);
  }
  Synthetic one(1);
  one.inputs.validation.reset();
  (*one.inputs.config)["expected"] = Json::object();
  (*one.inputs.config)["provenance"] = Json::object();
  (*one.inputs.analysis)["half_life"]["layers"] = Json::array();
  CHECK(Markup(html(build(one.inputs))).error() == "");
}

TEST_CASE("page: says why there are no intervals") {
  Inputs in = all_fixtures();
  const std::string reason = "3 problems are too few, at least 4 are needed";
  for (Json* document : {&*in.analysis, &*in.validation, &*in.comparison})
    (*document)["interval"]["reason"] = reason;
  for (auto& table : (*in.analysis)["recall"]) table["low"] = table["high"] = nullptr;
  (*in.analysis)["layer_drift"]["low"] = nullptr;
  const std::string page = html(build(in));
  CHECK(Markup(page).error() == "");
  CHECK(contains(page, "No intervals: " + reason));
  CHECK_FALSE(contains(page, "95% intervals"));
  CHECK(contains(html(build(all_fixtures())),
                 "95% intervals: percentile bootstrap over problems, 2,000 resamples, seed 17."));
}

TEST_CASE("page: warns where the validation judged another config, or the config came from another trace") {
  Inputs in = all_fixtures();
  CHECK_FALSE(contains(html(build(in)), "Caution"));
  (*in.validation)["config"]["sha256"] = std::string(64, 'e');
  CHECK(contains(html(build(in)), "was made with another config"));
  in = all_fixtures();
  (*in.config)["provenance"]["trace"]["sha256"] = std::string(64, 'f');
  CHECK(contains(html(build(in)), "was chosen on another trace"));
}

TEST_CASE("page: a verdict is told in words: passed, not met, none") {
  Inputs in = all_fixtures();
  const auto verdict = [&](Json passed) {
    (*in.validation)["verdict"]["passed"] = std::move(passed);
    return index_csv(csv(build(in))).at({"key-numbers", "Verdict", "value"}).at(3);
  };
  CHECK(contains(verdict(true), "Passed"));
  CHECK(contains(verdict(false), "Not met"));
  CHECK(contains(verdict(nullptr), "No verdict"));
  in.validation.reset();
  CHECK(contains(index_csv(csv(build(in))).at({"key-numbers", "Verdict", "value"}).at(3), "Not validated"));
}
