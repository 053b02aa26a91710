// Every number shown is the artefact's own: held against the documents, cell by cell.
#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "core/error.h"

#include "reports/format.h"
#include "reports/support.h"

using namespace deltacal;
using namespace deltacal::reports;
using namespace deltacal::reports::test;

namespace {

std::string name(size_t i) {
  return std::to_string(i);
}

// The text of the CSV and the number of the document are the same double, or both absent.
bool same(const std::string& text, const Json& number) {
  if (number.is_null()) return text.empty();
  return !text.empty() && std::stod(text) == number.get<double>();
}

void require_cell(const CsvIndex& index, const std::vector<std::string>& key, const Json& value,
                  const Json& low, const Json& high) {
  INFO(key[0] << " row " << key[1] << " column " << key[2]);
  REQUIRE(index.contains(key));
  const auto& line = index.at(key);
  CHECK(same(line[3], value));
  CHECK(same(line[4], low));
  CHECK(same(line[5], high));
}

void require_triangle(const CsvIndex& index, const std::string& figure, const Json& m) {
  for (size_t t = 0; t < m["matrix"].size(); ++t)
    for (size_t s = 0; s <= t; ++s)
      require_cell(index, {figure, name(t), name(s)}, m["matrix"][t][s], m["low"][t][s], m["high"][t][s]);
  CHECK_FALSE(index.contains({figure, "0", "1"}));  // the upper triangle is no part of it
}

void require_curve(const CsvIndex& index, const std::string& figure, const std::string& series,
                   const Json& curve) {
  for (size_t i = 0; i < curve["mean"].size(); ++i)
    require_cell(index, {figure, name(i), series}, curve["mean"][i], curve["low"][i], curve["high"][i]);
}

void require_analysis(const CsvIndex& index, const Json& a) {
  require_triangle(index, "recall",
                   a["recall"][2]);  // k = 16: the config's most frequent, the larger of equals
  for (const char* kind : {"cosine", "pearson", "jaccard"})
    require_triangle(index, kind, a["correlation"][kind]);
  require_curve(index, "layer-drift", "Layer drift", a["layer_drift"]);
  require_curve(index, "step-drift", "Step drift", a["step_drift"]);
  for (const auto& stale : a["stale_recall"])
    if (stale["k_pages"] == a["half_life"]["k_pages"])  // of the other budgets there is no picture
      for (size_t i = 0; i < stale["mean"].size(); ++i)
        require_cell(index, {"stale-recall", name(stale["lag"].get<size_t>()), name(i)}, stale["mean"][i],
                     stale["low"][i], stale["high"][i]);
  for (size_t i = 0; i < a["half_life"]["window_recall"].size(); ++i)
    require_cell(index, {"stale-recall", "window", name(i)}, a["half_life"]["window_recall"][i], {}, {});
}

}  // namespace

TEST_CASE("numbers: matrices, drift and stale recall are those of the analysis") {
  const Inputs in = all_fixtures();
  require_analysis(index_csv(csv(build(in))), *in.analysis);
}

TEST_CASE("numbers: the same at 30 layers") {
  const Synthetic synthetic(30);
  require_analysis(index_csv(csv(build(synthetic.inputs))), *synthetic.inputs.analysis);
}

TEST_CASE(
    "numbers: tooltips of the heat map give value and interval, undefined cells are hatched and not 0") {
  const Inputs in = all_fixtures();
  const std::string page = html(build(in));
  const Json& m = (*in.analysis)["recall"][2];
  for (const auto& [t, s] : {std::pair(0, 0), std::pair(3, 1), std::pair(5, 4), std::pair(5, 5)}) {
    const std::string tooltip =
        fmt::format("<title>{}, {}: {} ({} to {})</title>", t, s, m["matrix"][t][s].get<double>(),
                    m["low"][t][s].get<double>(), m["high"][t][s].get<double>());
    INFO(tooltip);
    CHECK(count(page, tooltip) == 1);
  }
  // Pearson of layer 4 is undefined: six cells of the triangle have row or column 4
  CHECK(count(page, "class=\"undefined\"") == 6);
  CHECK(index_csv(csv(build(in))).at({"pearson", "5", "4"}).at(3) == "");
  CHECK(count(page, "5, 4: undefined") == 1);
}

TEST_CASE("numbers: each sparse layer has the recall of its own k and its own delta-layer") {
  const Inputs in = all_fixtures();
  const auto index = index_csv(csv(build(in)));
  const Json& tables = (*in.analysis)["recall"];
  const Json& oracles = (*in.analysis)["oracle_recall"];
  struct Case {
    size_t layer, source, table;  // table: position in recall and oracle_recall
  };
  // layer 5 has k = 10, off the grid of 4, 8, 16: the nearest by ratio is 8
  for (const Case& c : {Case{2, 1, 1}, Case{3, 1, 2}, Case{5, 4, 1}}) {
    const Json& m = tables[c.table];
    require_cell(index, {"recall-layers", name(c.layer), "calibration: the \u0394-layer's pages"},
                 m["matrix"][c.layer][c.source], m["low"][c.layer][c.source], m["high"][c.layer][c.source]);
    const Json& o = oracles[c.table];
    require_cell(index, {"recall-layers", name(c.layer), "calibration: oracle, same budget"},
                 o["mean"][c.layer], o["low"][c.layer], o["high"][c.layer]);
  }
  for (const auto& layer : (*in.validation)["policies"][1]["recall"])
    require_cell(index,
                 {"recall-layers", name(layer["layer"].get<size_t>()), "validation: the sparse run itself"},
                 layer["mean"], layer["low"], layer["high"]);
  CHECK(index.at({"recall-layers", "1", "calibration: oracle, same budget"}).at(3) ==
        "");  // a Δ-layer loses nothing
  CHECK(contains(html(build(in)), "K = 10 pages, L = 2 taken at K = 8 pages, L = 2"));
}

TEST_CASE("numbers: validation tables, bins and samples are those of the file") {
  const Inputs in = all_fixtures();
  const auto index = index_csv(csv(build(in)));
  for (const auto& policy : (*in.validation)["policies"]) {
    const std::string who = policy["name"];
    for (const auto& [figure, scores] : {std::pair("policies", "active"), std::pair("policies-all", "all")}) {
      const Json& s = policy[scores];
      require_cell(index, {figure, who, "NLL"}, s["nll"], {}, {});
      require_cell(index, {figure, who, "NLL gap"}, s["nll_gap"]["mean"], s["nll_gap"]["low"],
                   s["nll_gap"]["high"]);
      require_cell(index, {figure, who, "KL mean"}, s["kl"]["mean"], s["kl"]["low"], s["kl"]["high"]);
      require_cell(index, {figure, who, "KL median"}, s["kl"]["median"], {}, {});
      require_cell(index, {figure, who, "KL 99%"}, s["kl"]["p99"], {}, {});
      require_cell(index, {figure, who, "Top-1 agreement"}, s["top1"], {}, {});
      require_cell(index, {figure, who, "Attended-token ratio"}, policy["attended_ratio"], {}, {});
    }
    if (who == "full") continue;
    require_cell(index, {"nll-gap-position", "0\u20131k", who}, policy["bins"][0]["nll_gap"]["mean"], {}, {});
    require_cell(index, {"nll-gap-position", "1k\u20132k", who}, policy["bins"][1]["nll_gap"], {}, {});
    require_cell(index, {"bins", who + ", 0\u20131k", "Steps"}, policy["bins"][0]["n_steps"], {}, {});
    const auto& gap = policy["active"]["nll_gap"];
    require_cell(index, {"nll-gap", who, "NLL gap"}, gap["mean"], gap["low"], gap["high"]);
    for (const auto& sample : policy["samples"]) {
      const std::vector<std::string> key{"nll-gap-samples", who, sample["id"]};
      if (sample["nll"].is_null()) {
        CHECK_FALSE(index.contains(key));  // no active step, no dot
        continue;
      }
      CHECK(std::abs(std::stod(index.at(key)[3]) -
                     (sample["nll"].get<double>() - sample["nll_full"].get<double>())) < 1e-12);
    }
  }
  const Json& difference = (*in.validation)["policies"][2]["vs_delta"];
  require_cell(index, {"policies", "streaming", "NLL minus delta's"}, difference["mean"], difference["low"],
               difference["high"]);
  CHECK(index.at({"policies", "delta", "NLL minus delta's"}).at(3) == "");
}

TEST_CASE("numbers: methods, differences, budgets, surrogates and stability are those of the comparison") {
  const Inputs in = all_fixtures();
  const auto index = index_csv(csv(build(in)));
  const Json& c = *in.comparison;
  const auto require_estimate = [&](const std::vector<std::string>& key, const Json& e) {
    require_cell(index, key, e["mean"], e["low"], e["high"]);
  };
  for (const auto& m : c["methods"]) {
    const std::string who = m["name"];
    require_estimate({"methods", who, "NLL gap"}, m["nll_gap"]);
    require_estimate({"methods-nll-gap", who, "NLL gap"}, m["nll_gap"]);
    require_estimate({"methods", who, "KL"}, m["kl"]);
    require_cell(index, {"methods", who, "Attended-token ratio"}, m["attended_ratio"], {}, {});
    require_cell(index, {"methods", who, "Predicted KL"}, m["predicted_kl"], {}, {});
    require_cell(index, {"methods", who, "Mean recall"}, m["recall"], {}, {});
    CHECK(index.at({"methods", who, "Schedule"}).at(3) == m["schedule"].get<std::string>());
    if (who == "dp") {
      CHECK(index.at({"methods", who, "NLL minus dp's"}).at(3) == "");
      CHECK_FALSE(index.contains({"methods-difference", who, "NLL minus dp's"}));
      continue;
    }
    require_estimate({"methods", who, "NLL minus dp's"}, m["vs_winner"]);
    require_estimate({"methods-difference", who, "NLL minus dp's"}, m["vs_winner"]);
    require_estimate({"pareto", who + ": attended=1.6", "NLL gap"}, m["nll_gap"]);
  }
  for (const auto& [name, at] : {std::pair("1.5", 0), std::pair("2", 1)}) {
    const Json& row = c["pareto"][at];
    require_estimate({"pareto", std::string("dp by budget: ") + name, "NLL gap"}, row["nll_gap"]);
    require_cell(index, {"pareto", std::string("dp by budget: ") + name, "Attended-token ratio"},
                 row["attended_ratio"], {}, {});
    require_estimate({"pareto-schedules", name, "KL"}, row["kl"]);
  }
  CHECK(index.at({"pareto", "dp by budget: 3", "NLL gap"}).at(3) == "");  // not run
  for (const auto& s : c["surrogates"]) {
    require_estimate({"surrogates", s["name"], "Spearman"}, s["spearman"]);
    require_cell(index, {"surrogates", s["name"], "Kendall"}, s["kendall"], {}, {});
  }
  require_cell(index, {"prediction", "1", "Mean"}, c["prediction"]["residuals"][0]["mean"], {}, {});
  for (size_t layer = 0; layer < 6; ++layer)
    require_cell(index, {"stability", "chosen", name(layer)}, c["stability"][layer]["share"], {}, {});
}

TEST_CASE("numbers: the picture of budgets draws what was run, at the foot where it is not above 0") {
  Inputs in = all_fixtures();
  const auto marks = [&] {
    const std::string page = html(build(in));
    const size_t from = page.find("<figure id=\"pareto\""), end = page.find("</figure>", from);
    return count(page.substr(from, end - from), "<title>");
  };
  CHECK(marks() == 4);  // two budgets that were run, two other methods
  (*in.comparison)["pareto"][0]["nll_gap"]["mean"] = -0.001;
  CHECK(marks() == 4);
  (*in.comparison)["stability"] = Json::array();
  (*in.comparison)["stability_of"]["reason"] = "one problem cannot be resampled";
  CHECK(contains(html(build(in)), "one problem cannot be resampled."));
}

TEST_CASE("numbers: the schedule, its lists and its alternatives are those of the config") {
  const Inputs in = all_fixtures();
  const auto index = index_csv(csv(build(in)));
  const char* roles[] = {"full", "delta", "sparse", "sparse", "delta", "sparse"};
  for (size_t i = 0; i < 6; ++i) CHECK(index.at({"schedule-strip", name(i), "role"}).at(3) == roles[i]);
  CHECK(index.at({"schedule-strip", "3", "list_of_layer"}).at(3) == "1");
  CHECK(index.at({"schedule-strip", "5", "list_of_layer"}).at(3) == "4");
  CHECK(index.at({"schedule-strip", "2", "k_pages"}).at(3) == "8");
  CHECK(index.at({"lists", "1", "Serves layers"}).at(3) == "2-3");
  CHECK(index.at({"lists", "1", "k of them (pages)"}).at(3) == "8, 16");
  CHECK(index.at({"alternatives", "delta 1,3; k 8-16; L 2", "Loss"}).at(3) == "0.5341");
  CHECK(index.at({"alternatives", "delta 1,3; k 8-16; L 2", "Method"}).at(3) == "uniform");
  CHECK(contains(html(build(in)), "lengths: one sequence of 8192 tokens"));
  CHECK(contains(html(build(in)), "n: 5 samples of 3 problems."));
}

TEST_CASE("numbers: a page score that is not DELTA's is told with the schedule") {
  Inputs in = all_fixtures();
  const auto told = [&] {
    const std::string page = html(build(in));
    const size_t from = page.find("lists made every step");
    REQUIRE(from != std::string::npos);
    return page.substr(from, page.find('<', from) - from);
  };
  CHECK(told() == "lists made every step");
  (*in.config).erase("score");  // as a config may leave it out
  CHECK(told() == "lists made every step");
  (*in.config)["score"] = {{"page", "max"}};
  CHECK(told() == "lists made every step; pages ranked by the largest attention in them, not by the sum");
  (*in.config)["score"] = {
      {"page", "sum"}, {"carry", 0.0}, {"head_weights", nullptr}};  // of an earlier version
  CHECK(told() == "lists made every step");
  for (const auto& [field, value] : {std::pair<const char*, Json>("page", "mean"),
                                     {"carry", 0.25},
                                     {"carry", "half"},
                                     {"head_weights", Json(6, nullptr)}}) {
    (*in.config)["score"] = {{field, value}};
    INFO(field << " " << value.dump());
    CHECK_THROWS_AS(build(in), Error);
  }
}

TEST_CASE("numbers: the alternatives' caption says by what they are in order") {
  Inputs in = all_fixtures();
  const auto caption = [&] {
    const std::string page = html(build(in));
    const size_t from = page.find("<figure id=\"alternatives\"");
    return page.substr(from, page.find("</figure>", from) - from);
  };
  Json& made = (*in.config)["provenance"];
  const std::string by_loss = "The best schedules of the search, by the loss of its objective (recall), on";
  CHECK(contains(caption(), by_loss));  // of an old file, without an order
  made["order"] = "additive";
  CHECK(contains(caption(), by_loss));
  made["order"] = "layers";
  CHECK(
      contains(caption(), "by the predicted KL with cross terms of layers (the loss shown is without them)"));
  made["order"] = "steps";
  CHECK(contains(caption(), "cross terms of layers and of steps"));
  CHECK_FALSE(contains(caption(), "development samples"));
  made["rerank"] = {{"n_samples", 4}};
  CHECK(contains(caption(), "First the schedule that runs on development samples led to"));
  CHECK(contains(caption(), "cross terms of layers and of steps"));
  made.erase("rerank");
  made["budget"] = "max-kl=0.01";
  CHECK(contains(caption(), "the cheapest first of those that meet max-kl=0.01"));
}

TEST_CASE("numbers: what was cut or joined, and the length of the budget, are told where they are known") {
  Inputs in = all_fixtures();
  CHECK(contains(html(build(in)), "Held-out samples, at most 2,048 tokens of each sample."));
  (*in.validation)["pack"] = 1500;
  (*in.validation)["max_tokens"] = nullptr;
  (*in.comparison)["pack"] = 1600;
  (*in.comparison)["context"] = 4096;
  const std::string page = html(build(in));
  CHECK(contains(page, "Held-out samples, lines joined to samples of at least 1,500 tokens."));
  CHECK(contains(page,
                 "Budget attended=1.6 on steps 0 to 4,095 of one sequence, objective kl, lines joined to "
                 "samples of at least 1,600 tokens, at most 2,048 tokens of each sample."));
  for (auto* old : {&*in.validation, &*in.comparison}) old->erase("pack");
  (*in.comparison).erase("context");
  CHECK(contains(html(build(in)), "Budget attended=1.6, objective kl, at most 2,048 tokens of each sample."));
}

TEST_CASE("numbers: the page shows them rounded alike, with counts, units and definitions") {
  const std::string page = html(build(all_fixtures()));
  for (const char* shown :
       {"+0.0234",             // NLL gap of delta
        "+0.0173 to +0.0301",  // its interval
        "0.9713</div>",        // not rounded so: top-1 has three decimals
        "n: 4 samples of 3 problems, 1,660 steps (active steps); 1 sample without active steps left out.",
        "n: 5 samples of 4 problems, 384 steps.", "nats/token", "fraction of mass", "KL(full || sparse)",
        "\u0394 at 1, 4",
        "deltacal validate --model m.gguf --config delta_config.json --data heldout.jsonl --out "
        "validation.json"}) {
    INFO(shown);
    CHECK(contains(page, shown) == (std::string(shown) != "0.9713</div>"));
  }
  CHECK(contains(page, "0.971</div>"));
}

TEST_CASE("numbers: half-life names the lag, more than the largest lag, or undefined") {
  const auto index = index_csv(csv(build(all_fixtures())));
  CHECK(index.at({"half-life", "4", "Layers"}).at(3) == "0, 3");
  CHECK(index.at({"half-life", "16", "Layers"}).at(3) == "1");
  CHECK(index.at({"half-life", "> 16", "Layers"}).at(3) == "2");
  CHECK(index.at({"half-life", "undefined", "Layers"}).at(3) == "4");
}

TEST_CASE("numbers: a threshold shows its limit, what was measured and what was held against it") {
  const Inputs in = all_fixtures();
  const auto index = index_csv(csv(build(in)));
  CHECK(index.at({"thresholds", "max_nll_gap", "Limit"}).at(3) == "0.02");
  CHECK(index.at({"thresholds", "max_nll_gap", "Measured"}).at(3) == "0.0234");
  CHECK(index.at({"thresholds", "max_nll_gap", "Held against the limit"}).at(3) == "0.0301");
  CHECK(contains(index.at({"thresholds", "max_nll_gap", "Met"}).at(3), "no"));
  CHECK(contains(index.at({"thresholds", "min_attended_ratio", "Met"}).at(3), "yes"));
}

TEST_CASE("numbers: the bench file's own fields, nested ones by their path") {
  const auto index = index_csv(csv(build(all_fixtures())));
  CHECK(index.at({"bench-fields", "memory.read_gb_s", "Value"}).at(3) == "11.37");
  CHECK(index.at({"bench-fields", "prefill.plain.median_s", "Value"}).at(3) == "9.137");
  CHECK(index.at({"bench-1", "full", "step.median_s"}).at(3) == "0.03121");
  CHECK(index.at({"bench-1", "config", "speedup_over_full"}).at(3) == "1.8125");
  CHECK(index.at({"bench-1", "full", "speedup_over_full"}).at(3) == "");
}

TEST_CASE("numbers: formats") {
  const Quantity gap{"gap", "nats/token", 4, true}, plain{"recall", "", 3};
  CHECK(number(0.02344, gap) == "+0.0234");
  CHECK(number(-0.02344, gap) == "\u22120.0234");
  CHECK(number(0, gap) == "0");
  CHECK(number(0.00001234, gap) == "+1.2e-05");  // never a rounded 0
  CHECK(number(missing, gap) == "\u2013");
  CHECK(number(INFINITY, gap) == "\u2013");
  CHECK(number(12345, {"steps", "", 0}) == "12,345");
  CHECK(estimate({0.9, 0.8, 0.95}, plain) == "0.900 (0.800 to 0.950)");
  CHECK(estimate({0.9, missing, 0.95}, plain) == "0.900");
  CHECK(exact(0.1) == "0.1");
  CHECK(exact(missing) == "");
  CHECK(grouped(1234567) == "1,234,567");
  CHECK(grouped(123) == "123");
  CHECK(shortened("\u0394\u0394\u0394\u0394", 3) == "\u0394\u0394\u2026");
  CHECK(shortened("abc", 3) == "abc");
}
