// Transfer between tasks: the matrix by hand, its file against the schema, its text.
#include "calib/transfer.h"

#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validator.hpp>

#include "calib/transfer_json.h"
#include "core/error.h"
#include "core/files.h"

using namespace deltacal;
using namespace deltacal::calib;
using Catch::Approx;
using nlohmann::json;

namespace {

config::Schedule schedule(int k) {
  config::Schedule s;
  s.layers = {{config::Role::full, 0, 0}, {config::Role::delta, k, 1}, {config::Role::sparse, k, 0}};
  return s;
}

// Four problems of aime, and two of gsm8k: one sample of one and two of the other, packed of three each.
const std::vector<TransferSample> development{{"aime", "a1", {}, {10, 100}},
                                              {"gsm8k", "g1", {"1", "2", "3"}, {0, 80}},
                                              {"aime", "a2", {}, {10, 120}},
                                              {"aime", "a3", {}, {0, 100}},
                                              {"gsm8k", "g2", {"4", "5", "6"}, {0, 90}},
                                              {"gsm8k", "g2", {"6", "7", "8"}, {0, 90}},
                                              {"aime", "a4", {}, {0, 90}}};

Transfer schedules() {
  Transfer t;
  const auto add = [&](const std::string& task, int k, std::vector<double> gap) {
    TransferSchedule s{{task, 3, 2, 0, 77.5}, schedule(k), 1.25, 0.001, gap, {}};
    for (const double g : gap) s.kl.push_back(2 * g);
    t.schedules.push_back(s);
  };
  //            a1    g1    a2    a3    g2    g2    a4
  add("aime", 2, {0.01, 0.50, 0.02, 0.03, 0.10, 0.30, 0.04});
  add("gsm8k", 1, {0.06, 0.20, 0.07, 0.08, 0.10, 0.00, 0.09});
  add("own", 1, {1, 1, 1, 1, 1, 1, 1});
  add(all_tasks, 2, {0, 0, 0, 0, 0, 0, 0});
  t.model = {"tiny", "llama", std::string(64, 'a'), 3, 4, 2, 32, 16, 512, "f32"};
  t.trace_path = "t.h5", t.data_path = "d.jsonl";
  t.trace_sha256 = t.data_sha256 = std::string(64, 'b');
  t.budget = "attended=1.2", t.objective = "kl";
  return t;
}

std::vector<MeasuredPoint> curve() {
  MeasuredPoint point{1, 64, {}, 0};
  point.draws.push_back({"x", std::vector<double>(7, 0.02), std::vector<double>(7, 0.04)});
  return {point, {2, 64, {}, 3}};
}

Transfer measured() {
  Transfer t = schedules();
  measure_transfer(development, curve(), {200, 3, 0.95}, t);
  return t;
}

bool accepted(const json& document) {
  static const json source =
      json::parse(read_file(std::string(PROJECT_DATA) + "/schema/transfer.schema.json"));
  valijson::Schema schema;
  valijson::SchemaParser parser(valijson::SchemaParser::kDraft7);
  parser.populateSchema(valijson::adapters::NlohmannJsonAdapter(source), schema);
  valijson::Validator validator;
  return validator.validate(schema, valijson::adapters::NlohmannJsonAdapter(document), nullptr);
}

}  // namespace

TEST_CASE("transfer: the matrix by hand, paired against the measured task's own schedule") {
  const Transfer t = measured();
  REQUIRE(t.measured_on.size() == 3);
  REQUIRE(t.matrix.size() == 4);
  const auto& aime = t.measured_on[0];
  const auto& gsm8k = t.measured_on[1];
  CHECK((aime.samples.task == "aime" && aime.samples.n_samples == 4 && aime.samples.n_problems == 4 &&
         aime.samples.n_packed == 0 && aime.no_interval_reason.empty()));
  CHECK(aime.samples.mean_tokens == Approx(102.5));
  CHECK((gsm8k.samples.n_samples == 3 && gsm8k.samples.n_problems == 2 && gsm8k.samples.n_packed == 8));
  CHECK(gsm8k.no_interval_reason == "fewer than 4 problems: 2");
  CHECK((t.measured_on[2].samples.task == all_tasks && t.measured_on[2].samples.n_problems == 6));

  const TransferCell &own = t.matrix[0][0], &from_gsm8k = t.matrix[1][0];
  CHECK(own.nll_gap.mean == Approx(0.025));
  CHECK(own.kl.mean == Approx(0.05));
  CHECK_FALSE(own.vs_own);
  REQUIRE((own.nll_gap.low && from_gsm8k.vs_own && from_gsm8k.vs_own->low));
  CHECK(from_gsm8k.nll_gap.mean == Approx(0.075));
  // Worse by 0.05 on every sample: certain, though the samples differ.
  CHECK(*from_gsm8k.vs_own->low == Approx(0.05));
  CHECK(*from_gsm8k.vs_own->high == Approx(0.05));

  const TransferCell& from_aime = t.matrix[0][1];
  CHECK(from_aime.nll_gap.mean == Approx(0.3));
  REQUIRE(from_aime.vs_own);
  CHECK(from_aime.vs_own->mean == Approx(0.2));
  CHECK_FALSE(from_aime.nll_gap.low);
  CHECK_FALSE(from_aime.vs_own->low);

  CHECK(t.matrix[2][2].vs_own->mean == Approx(1));  // own has no samples to measure on: against `all`
  CHECK_FALSE(t.matrix[3][2].vs_own);
  CHECK(t.matrix[3][0].vs_own->mean == Approx(-0.025));
}

TEST_CASE("transfer: attended-token ratios are those of the measured samples' own lengths") {
  const Transfer t = measured();
  for (size_t i = 0; i < t.schedules.size(); ++i)
    for (size_t j = 0; j < t.measured_on.size(); ++j) {
      double all = 0, kept = 0;
      for (const auto& sample : development) {
        const std::string& task = t.measured_on[j].samples.task;
        if (task != all_tasks && task != sample.task) continue;
        for (int step = sample.steps.first; step < sample.steps.end; ++step) {
          all += 3 * (step + 1);
          kept += double(config::attended_positions(t.schedules[i].schedule, step, sample.steps.first));
        }
      }
      CHECK(t.matrix[i][j].attended_ratio == Approx(all / kept));
    }
}

TEST_CASE("transfer: a task to measure on without a schedule of its own has nothing to be compared with") {
  Transfer t = schedules();
  t.schedules.erase(t.schedules.begin() + 1);
  measure_transfer(development, {}, {200, 3, 0.95}, t);
  for (const auto& row : t.matrix) CHECK_FALSE(row[1].vs_own);
  CHECK(t.matrix[1][0].vs_own);
  CHECK(t.learning_curve.empty());
}

TEST_CASE("transfer: what does not fit is refused") {
  const auto refused = [](auto change) {
    Transfer t = schedules();
    auto samples = development;
    change(t, samples);
    CHECK_THROWS_AS(measure_transfer(samples, {}, {200, 3, 0.95}, t), Error);
  };
  refused([](auto& t, auto&) { t.schedules.clear(); });
  refused([](auto& t, auto&) { t.schedules.pop_back(); });
  refused([](auto& t, auto&) { t.schedules[1].on.task = "aime"; });
  refused([](auto& t, auto&) { t.schedules[1].kl.pop_back(); });
  refused([](auto& t, auto&) { t.schedules[1].nll_gap[2] = NAN; });
  refused([](auto&, auto& samples) { samples.clear(); });
  refused([](auto&, auto& samples) { samples[3].task = "all"; });
}

TEST_CASE("transfer: transfer.json follows its schema, and the schema says no to other files") {
  const auto good = json::parse(to_json(measured(), {"deltacal calibrate --transfer", 3}).dump());
  CHECK(accepted(good));
  CHECK(good["matrix"][1][0]["vs_own"]["low"] == 0.05);
  CHECK(good["matrix"][0][0]["vs_own"].is_null());
  CHECK(good["matrix"][0][1]["nll_gap"] == json{{"mean", 0.3}, {"low", nullptr}, {"high", nullptr}});
  CHECK(good["measured_on"][1]["reason"] == "fewer than 4 problems: 2");
  CHECK(good["schedules"][0]["delta_layers"] == json{1});
  CHECK((good["pack"].is_null() && good["context"].is_null() && good["curve_reason"].is_null()));
  CHECK(good["learning_curve"][0]["nll_gap"]["mean"] == 0.02);
  CHECK(good["learning_curve"][1]["least"].is_null());
  for (const auto& [key, value] : good.items()) {
    auto bad = good;
    bad.erase(key);
    CHECK_FALSE(accepted(bad));
  }
  for (const char* list : {"schedules", "measured_on", "learning_curve"}) {
    auto bad = good;
    bad[list][0]["surprise"] = 1;
    CHECK_FALSE(accepted(bad));
  }
  auto bad = good;
  bad["matrix"][0][0].erase("kl");
  CHECK_FALSE(accepted(bad));
}

TEST_CASE("transfer: the Markdown has the matrix, the samples of each task and the curve") {
  Transfer t = measured();
  const std::string text = to_markdown(t);
  CHECK(text.find("| calibrated on | aime | gsm8k | all |\n") != std::string::npos);
  CHECK(text.find("| gsm8k | 0.0500 (0.0500 to 0.0500) | - | ") != std::string::npos);
  CHECK(text.find("| gsm8k | 3 samples with 8 problems packed, 2 units, 87 tokens each | none: fewer than 4 "
                  "problems: 2 |") != std::string::npos);
  CHECK(text.find("| 1 | 64 | 1 | 1 | 0.0200 (0.0200 to 0.0200) | ") != std::string::npos);
  CHECK(text.find("| 2 | 64 | 0 of 3 | 0 | - | - | - to - | - |") != std::string::npos);
  CHECK(text.find("all problems that are packed together") != std::string::npos);
  t.curve_reason = "learning curve: not asked for";
  t.learning_curve.clear();
  CHECK(to_markdown(t).ends_with("\nlearning curve: not asked for.\n"));
}
