// The table of methods: figures against plain loops, its file against the schema, its text.
#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validator.hpp>

#include "calib/compare.h"
#include "calib/compare_json.h"
#include "calib/compare_markdown.h"
#include "core/error.h"
#include "core/files.h"

using namespace deltacal;
using namespace deltacal::calib;
using Catch::Approx;
using nlohmann::json;

namespace {

constexpr Bootstrap quick{.resamples = 200};

config::Schedule small_schedule(int second) {
  config::Schedule schedule;
  schedule.layers.resize(8);
  for (int layer = 2; layer < 8; ++layer) schedule.layers[layer] = {config::Role::sparse, 8, 0};
  for (int layer : {2, second}) schedule.layers[layer] = {config::Role::delta, 8, 4};
  return schedule;
}

// Three methods, two draws beside them, three budgets. The gap of a schedule grows with its place, and
// differs from problem to problem by much more.
Measurements measurements(int n_problems) {
  std::mt19937 random(1);
  std::uniform_real_distribution<double> uniform(0, 1);
  Measurements m;
  std::vector<double> hardness;
  for (int s = 0; s < 2 * n_problems; ++s) {
    m.problems.push_back("p" + std::to_string(s / 2));
    hardness.push_back(10 * uniform(random));
  }
  int place = 0;
  const auto measured = [&](std::string name) {
    ++place;
    auto out = measured_schedule(std::move(name), small_schedule(3 + place % 4));
    out.attended_ratio = 2;
    out.predicted_kl = 0.01 * place;
    out.recall = 0.9 - 0.01 * place;
    out.surrogates = {0.01 * place, uniform(random)};
    out.seconds = place;
    for (const double h : hardness) {
      out.nll_gap.push_back(h + place + 0.1 * uniform(random));
      out.kl.push_back(0.02 * place * (1 + 0.1 * uniform(random)));
    }
    return out;
  };
  m.methods = {measured("dp"), measured("cosine-peaks"), measured("uniform")};
  m.others = {measured("random 1"), measured("random 2")};
  m.winner = "dp";
  m.surrogates = {"predicted_kl", "dice"};
  for (double budget : {2.0, 3.0}) m.budgets.push_back({budget, measured("dp")});
  m.budgets.push_back({4.0, measured_schedule("dp", small_schedule(4))});  // not run
  return m;
}

MethodComparison filled(MethodComparison c) {
  c.model = {"tiny", "llama", std::string(64, 'a'), 8, 9, 3, 64, 16, 8192, "f32"};
  c.trace_path = "t.h5";
  c.data_path = "d.jsonl";
  c.trace_sha256 = c.data_sha256 = std::string(64, 'b');
  c.budget = "attended=2";
  c.objective = "kl";
  c.stability = {{0, 0, 1, 0.25, 0, 0.75, 0, 0}, 200, 0, ""};
  return c;
}

json written(const MethodComparison& c) {
  return json::parse(to_json(filled(c), {"deltacal calibrate --compare", 3}).dump());
}

bool accepted(const json& document) {
  static const json source =
      json::parse(read_file(std::string(PROJECT_DATA) + "/schema/compare.schema.json"));
  valijson::Schema schema;
  valijson::SchemaParser parser(valijson::SchemaParser::kDraft7);
  parser.populateSchema(valijson::adapters::NlohmannJsonAdapter(source), schema);
  valijson::Validator validator;
  return validator.validate(schema, valijson::adapters::NlohmannJsonAdapter(document), nullptr);
}

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

}  // namespace

TEST_CASE("compare: a row holds the means of its method, and the paired difference to the winner") {
  const auto m = measurements(6);
  const auto c = compare_methods(m, quick);
  REQUIRE(c.methods.size() == 3);
  CHECK(c.n_samples == 12);
  CHECK(c.n_problems == 6);
  CHECK(c.no_interval_reason.empty());
  for (size_t i = 0; i < 3; ++i) {
    const auto& row = c.methods[i];
    CHECK(row.name == m.methods[i].method);
    CHECK(row.nll_gap.mean == Approx(mean_of(m.methods[i].nll_gap)));
    CHECK(row.kl.mean == Approx(mean_of(m.methods[i].kl)));
    CHECK(row.seconds == i + 1);
  }
  CHECK(c.methods[0].delta_layers == std::vector{2, 4});
  CHECK(c.methods[0].schedule == "full 0-1 · delta 2, 4 · sparse k 8, L 4");
  CHECK_FALSE(c.methods[0].vs_winner);
  for (int i : {1, 2}) {  // the problems differ by much, the methods by i on each: the difference is certain
    const auto& row = c.methods[i];
    REQUIRE(row.vs_winner);
    CHECK(row.vs_winner->mean == Approx(row.nll_gap.mean - c.methods[0].nll_gap.mean));
    CHECK(*row.vs_winner->low > i - 0.1);
    CHECK(*row.vs_winner->high < i + 0.1);
    CHECK(*row.nll_gap.high - *row.nll_gap.low > 1);
  }
}

TEST_CASE("compare: the winner is the one named, better or not") {
  auto m = measurements(5);
  m.winner = "uniform";
  const auto c = compare_methods(m, quick);
  CHECK(c.winner == "uniform");
  CHECK_FALSE(c.methods[2].vs_winner);
  CHECK(*c.methods[0].vs_winner->high < 0);
}

TEST_CASE("compare: surrogates and prediction are held against all schedules but the means") {
  auto m = measurements(5);
  auto c = compare_methods(m, quick);
  REQUIRE(c.surrogates.size() == 2);
  CHECK(c.surrogates[0].name == "predicted_kl");
  CHECK(c.surrogates[0].rank.spearman.mean == Approx(1));
  CHECK(*c.surrogates[0].rank.spearman.low == Approx(1));
  CHECK(c.surrogates[0].rank.n_schedules == 5);
  std::vector<double> dice, gaps;
  for (const auto* list : {&m.methods, &m.others})
    for (const auto& s : *list) dice.push_back(s.surrogates[1]), gaps.push_back(mean_of(s.nll_gap));
  CHECK(c.surrogates[1].rank.spearman.mean == Approx(spearman(dice, gaps)));
  CHECK(c.surrogates[1].rank.kendall == Approx(kendall(dice, gaps)));
  REQUIRE(c.prediction);
  CHECK(c.prediction->n_schedules == 5);
  CHECK(c.prediction->scale.mean > 2);  // 0.02 against 0.01, and up to a tenth more
  CHECK(c.prediction->scale.mean < 2.2);

  m.methods.push_back(mean_of_schedules("random", m.others));
  c = compare_methods(m, quick);
  CHECK(c.surrogates[0].rank.n_schedules == 5);
  REQUIRE(c.methods.size() == 4);
  CHECK(c.methods[3].nll_gap.mean ==
        Approx((mean_of(m.others[0].nll_gap) + mean_of(m.others[1].nll_gap)) / 2));
  CHECK(c.methods[3].predicted_kl == Approx(0.045));
  CHECK(c.methods[3].seconds == 9);
  CHECK(c.methods[3].schedule == "mean of 2 schedules");
  CHECK(c.methods[3].delta_layers.empty());

  for (auto* list : {&m.methods, &m.others})
    for (auto& schedule : *list) schedule.predicted_kl = NAN;
  CHECK_FALSE(compare_methods(m, quick).prediction);
}

TEST_CASE("compare: budgets that were not run have no gap") {
  const auto c = compare_methods(measurements(5), quick);
  REQUIRE(c.pareto.size() == 3);
  CHECK(c.pareto[1].budget == 3);
  REQUIRE(c.pareto[1].nll_gap);
  CHECK(c.pareto[1].nll_gap->low.has_value());
  CHECK_FALSE(c.pareto[2].nll_gap);
  CHECK_FALSE(c.pareto[2].kl);
}

TEST_CASE("compare: a sample without a score counts for no method") {
  auto m = measurements(5);
  for (auto* list : {&m.methods, &m.others})
    for (auto& schedule : *list) schedule.nll_gap[3] = schedule.kl[3] = NAN;
  for (auto& point : m.budgets)
    if (!point.schedule.kl.empty()) point.schedule.nll_gap[3] = point.schedule.kl[3] = NAN;
  const auto c = compare_methods(m, quick);
  CHECK(c.n_samples == 9);
  CHECK(c.methods[1].nll_gap.n_samples == 9);
  m.methods[1].nll_gap[4] = NAN;  // missing for this method alone: no fair comparison
  CHECK_THROWS_AS(compare_methods(m, quick), Error);
}

TEST_CASE("compare: what does not fit is refused") {
  CHECK_THROWS_AS(compare_methods({}, quick), Error);
  const auto refused = [](auto change) {
    auto m = measurements(4);
    change(m);
    CHECK_THROWS_AS(compare_methods(m, quick), Error);
  };
  refused([](auto& m) { m.winner = "best"; });
  refused([](auto& m) { m.problems.clear(); });
  refused([](auto& m) { m.methods[2].method = "dp"; });
  refused([](auto& m) { m.methods[0].nll_gap.pop_back(); });
  refused([](auto& m) { m.methods[1].kl.pop_back(); });
  refused([](auto& m) { m.others[1].kl[2] = INFINITY; });
  refused([](auto& m) { m.others[1].surrogates.pop_back(); });
  refused([](auto& m) { m.budgets[0].schedule.kl.clear(); });
  CHECK_THROWS_AS(mean_of_schedules("random", {}), Error);
}

TEST_CASE("compare: compare.json follows its schema, and the schema says no to other files") {
  for (int n_problems : {3, 5}) {
    const auto document = written(compare_methods(measurements(n_problems), quick));
    CHECK(accepted(document));
    CHECK(document["format"] == "deltacal-compare");
    CHECK(document["winner"] == "dp");
    CHECK(document["methods"][0]["vs_winner"].is_null());
    CHECK(document["methods"][1]["vs_winner"]["mean"].is_number());
    CHECK(document["methods"][1]["nll_gap"]["low"].is_null() == (n_problems < 4));
    CHECK(document["interval"]["reason"].is_null() == (n_problems >= 4));
    CHECK(document["pareto"][2]["nll_gap"].is_null());
    CHECK(document["stability"][5] == json{{"layer", 5}, {"share", 0.75}});
    CHECK(document["prediction"]["scale"]["mean"].is_number());
    CHECK((document["max_tokens"].is_null() && document["pack"].is_null() && document["context"].is_null()));
  }
  auto of_some = compare_methods(measurements(4), quick);
  of_some.pack = 1500;
  of_some.context = 4096;
  const auto good = written(of_some);
  CHECK((accepted(good) && good["pack"] == 1500 && good["context"] == 4096));
  for (const auto& [key, value] : good.items()) {
    auto bad = good;
    bad.erase(key);
    CAPTURE(key);
    CHECK(accepted(bad) == (key == "pack" || key == "context"));  // which files of before do not have
  }
  auto bad = good;
  bad["methods"][0]["surprise"] = 1;
  CHECK_FALSE(accepted(bad));
  bad = good;
  bad["surrogates"][0]["kendall"] = 1.5;
  CHECK_FALSE(accepted(bad));
  bad = good;
  bad["stability"][0]["share"] = "often";
  CHECK_FALSE(accepted(bad));
  auto none = good;
  none["prediction"] = nullptr;
  CHECK(accepted(none));
}

TEST_CASE(
    "compare: the Markdown has a row for each method, the winner in bold, dashes where nothing is known") {
  auto comparison = compare_methods(measurements(5), quick);
  comparison.methods[1].recall = NAN;
  comparison.methods[2].name = "a|b";
  const std::string text = to_markdown(filled(comparison));
  CHECK(text.find("| **dp** | 2.00 | ") != std::string::npos);
  CHECK(text.find("| cosine-peaks | 2.00 | ") != std::string::npos);
  CHECK(text.find(" | - | 2.0 | full 0-1 · delta 2, 5 ") != std::string::npos);
  CHECK(text.find("| a\\|b | ") != std::string::npos);
  CHECK(text.find("10 samples of 5 problems") != std::string::npos);
  CHECK(text.find("| predicted_kl | 1.00 (1.00 to 1.00) | 1.00 | 5 |") != std::string::npos);
  CHECK(text.find("Δ-layers of 200 resamples of the calibration problems: 2 100%, 3 25%, 5 75%.") !=
        std::string::npos);
  CHECK(text.find("| 4.00 | - | - | - | - | - | full") != std::string::npos);
  // Every line of a table has as many cells as its head.
  const auto bars = [](const std::string& line) { return std::ranges::count(line, '|'); };
  CHECK(bars(text.substr(0, text.find('\n'))) == 11);
  comparison.no_interval_reason = "fewer than 4 problems: 3";
  CHECK(to_markdown(comparison).find("without intervals: fewer than 4 problems: 3") != std::string::npos);
}
