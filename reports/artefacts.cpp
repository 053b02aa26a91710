#include "reports/artefacts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <set>

#include "core/ranking.h"

namespace deltacal::reports {
namespace {

constexpr int most_layers = 1024;

std::string text_or(const Field& field, const std::string& name, const std::string& otherwise = "") {
  const auto found = field.find(name);
  return found ? found->any_text() : otherwise;
}

int count_or(const Field& field, const std::string& name, int otherwise) {
  const auto found = field.find(name);
  return found ? found->count() : otherwise;
}

double number_or_missing(const Field& field, const std::string& name) {
  const auto found = field.find(name);
  return found ? found->number() : missing;
}

Estimate estimate_or_missing(const Field& field, const std::string& name) {
  const auto found = field.find(name);
  return found ? found->estimate() : Estimate{};
}

Source parse_source(const Field& field, const std::string& name) {
  const auto found = field.find(name);
  return found ? Source{text_or(*found, "path"), text_or(*found, "sha256")} : Source{};
}

IntervalMethod parse_interval(const Field& root) {
  const auto field = root.find("interval");
  if (!field) return {.method = "", .seed = "", .reason = "the file does not say how they were made"};
  return {text_or(*field, "method"), text_or(*field, "seed"), text_or(*field, "reason"),
          count_or(*field, "resamples", 0), number_or_missing(*field, "confidence")};
}

Counts parse_counts(const Field& field) {
  return {field.at("n_samples").count(), field.at("n_problems").count(), count_or(field, "n_steps", 0)};
}

std::vector<std::pair<int, Estimate>> parse_layer_recall(const Field& field, int n_layers) {
  std::vector<std::pair<int, Estimate>> layers;
  for (const Field& layer : field.items())
    layers.emplace_back(layer.at("layer").count(n_layers - 1), layer.estimate());
  return layers;
}

Analysis::HalfLife parse_half_life(const Field& field, size_t n) {
  Analysis::HalfLife half{
      field.at("k_pages").count(), field.at("l_pages").count(), field.at("window_recall").numbers(n), {}};
  half.layers.resize(n);
  for (const Field& layer : field.at("layers").items()) {
    auto& entry = half.layers[static_cast<size_t>(layer.at("layer").count(static_cast<int>(n) - 1))];
    entry = {count_or(layer, "lag", -1), count_or(layer, "greater_than", -1)};
  }
  return half;
}

Strip parse_layers(const Field& field, int n_layers) {
  const auto items = field.items();
  if (items.size() != static_cast<size_t>(n_layers))
    field.complain(fmt::format("has {} layers, model.n_layers is {}", items.size(), n_layers));
  Strip strip;
  int source = -1;
  for (const Field& item : items) {
    const Field role_field = item.at("role");
    const std::string role = role_field.text();
    Strip::Layer layer;
    if (role == "delta") {
      source = static_cast<int>(strip.layers.size());
      layer = {Role::delta, item.at("k_pages").count(), item.at("l_pages").count(), -1};
    } else if (role == "sparse") {
      if (source < 0) role_field.complain("is sparse, but no delta layer comes before it");
      layer = {Role::sparse, count_or(item, "k_pages", strip.layers[static_cast<size_t>(source)].k_pages), 0,
               source};
    } else if (role != "full") {
      role_field.complain(fmt::format("must be full, delta or sparse, it is {}", role));
    }
    if (role != "full" && layer.k_pages < 1) item.at("k_pages").complain("must be at least 1");
    strip.layers.push_back(layer);
  }
  return strip;
}

// What differs from DELTA's page score, in words.
std::string parse_score(const Field& field) {
  if (const auto carry = field.find("carry"); carry && carry->value() != 0)
    carry->complain(fmt::format("is not 0: {}", page_score_alone));
  if (const auto weights = field.find("head_weights"))
    weights->complain(fmt::format("is not null: {}", page_score_alone));
  const std::string page = text_or(field, "page", "sum");
  if (page == "max") return "pages ranked by the largest attention in them, not by the sum";
  if (page != "sum") field.at("page").complain(fmt::format("must be sum or max, it is {}", page));
  return "";
}

// Samples are hashes, or objects with a problem.
Counts count_samples(const Field& field) {
  std::set<std::string> problems;
  Counts counts;
  for (const Field& sample : field.items()) {
    ++counts.samples;
    if (!sample.is_object()) continue;
    const std::string problem = text_or(sample, "problem");
    if (!problem.empty()) problems.insert(text_or(sample, "task") + "\n" + problem);
  }
  counts.problems = static_cast<int>(problems.size());
  return counts;
}

std::vector<int> layers_or_none(const Field& field, const std::string& name, int n_layers) {
  std::vector<int> layers;
  if (const auto found = field.find(name))
    for (const Field& layer : found->items()) layers.push_back(layer.count(n_layers - 1));
  return layers;
}

Config::Alternative parse_alternative(const Field& field, int n_layers) {
  return {text_or(field, "schedule"),
          text_or(field, "method"),
          layers_or_none(field, "delta_layers", n_layers),
          number_or_missing(field, "attended_ratio"),
          number_or_missing(field, "loss"),
          number_or_missing(field, "mean_recall")};
}

Validation::Scores parse_scores(const Field& field) {
  Validation::Scores scores;
  scores.counts = {count_or(field, "n_samples", 0), count_or(field, "n_problems", 0),
                   count_or(field, "n_steps", 0)};
  scores.nll = field.at("nll").number();
  scores.nll_gap = estimate_or_missing(field, "nll_gap");
  scores.top1 = number_or_missing(field, "top1");
  if (const auto kl = field.find("kl")) {
    scores.kl = kl->estimate();
    if (kl->is_object()) {
      scores.kl_median = number_or_missing(*kl, "median");
      scores.kl_p99 = number_or_missing(*kl, "p99");
    }
  }
  return scores;
}

Validation::Policy parse_policy(const Field& field, int n_layers) {
  Validation::Policy policy;
  policy.name = field.at("name").text();
  policy.attended_ratio = field.at("attended_ratio").number();
  policy.active = parse_scores(field.at("active"));
  if (const auto all = field.find("all")) policy.all = parse_scores(*all);
  if (const auto bins = field.find("bins"))
    for (const Field& bin : bins->items())
      policy.bins.push_back({bin.at("from").count(), bin.at("to").count(), bin.at("n_steps").count(),
                             number_or_missing(bin, "nll"), number_or_missing(bin, "top1"),
                             estimate_or_missing(bin, "nll_gap"), estimate_or_missing(bin, "kl")});
  if (const auto samples = field.find("samples"))
    for (const Field& sample : samples->items())
      policy.samples.push_back({sample.at("id").any_text(), text_or(sample, "problem"),
                                sample.at("active_steps").count(), number_or_missing(sample, "nll_full"),
                                number_or_missing(sample, "nll")});
  policy.samples_without_active = count_or(field, "samples_without_active", 0);
  if (const auto recall = field.find("recall")) policy.recall = parse_layer_recall(*recall, n_layers);
  if (const auto difference = field.find("vs_delta")) policy.vs_delta = difference->estimate();
  return policy;
}

Comparison::Method parse_method(const Field& field, int n_layers) {
  return {.name = field.at("name").text(),
          .schedule = text_or(field, "schedule"),
          .attended_ratio = field.at("attended_ratio").number(),
          .predicted_kl = number_or_missing(field, "predicted_kl"),
          .recall = number_or_missing(field, "recall"),
          .seconds = number_or_missing(field, "seconds"),
          .nll_gap = field.at("nll_gap").estimate(),
          .kl = estimate_or_missing(field, "kl"),
          .vs_winner = estimate_or_missing(field, "vs_winner"),
          .delta_layers = layers_or_none(field, "delta_layers", n_layers)};
}

Comparison::Prediction parse_prediction(const Field& field) {
  Comparison::Prediction prediction{estimate_or_missing(field, "spearman"),
                                    estimate_or_missing(field, "scale"),
                                    count_or(field, "n_schedules", 0),
                                    text_or(field, "warning"),
                                    {}};
  for (const Field& r : field.at("residuals").items())
    prediction.residuals.push_back({r.at("delta_layers").count(), r.at("n_schedules").count(),
                                    r.at("mean").number(), r.at("least").number(), r.at("largest").number()});
  return prediction;
}

std::vector<double> parse_stability(const Field& field, int n_layers) {
  std::vector<double> shares;
  for (const Field& f : field.items()) {
    if (shares.empty()) shares.resize(static_cast<size_t>(n_layers), missing);
    shares[static_cast<size_t>(f.at("layer").count(n_layers - 1))] = f.at("share").number();
  }
  return shares;
}

// "NVIDIA H200, bf16". A bench file gives the dtype with the model.
std::string parse_device(const Field& root) {
  const std::string device = text_or(root, "device");
  std::string dtype = text_or(root, "dtype");
  if (const auto model = root.find("model"); dtype.empty() && model) dtype = text_or(*model, "dtype");
  return device.empty() || dtype.empty() ? device : device + ", " + dtype;
}

}  // namespace

Head parse_head(const Field& root) {
  return {root.file(),
          root.at("format").text(),
          text_or(root, "command"),
          text_or(root, "tool_version"),
          text_or(root, "seed"),
          text_or(root, "created"),
          parse_device(root)};
}

Model parse_model(const Field& root) {
  const Field field = root.at("model");
  Model model{text_or(field, "name"),        text_or(field, "architecture"),
              text_or(field, "sha256"),      field.at("n_layers").count(most_layers),
              count_or(field, "n_heads", 0), count_or(field, "n_kv_heads", 0),
              count_or(field, "head_dim", 0)};
  if (model.n_layers < 1) field.at("n_layers").complain("must be at least 1");
  return model;
}

Analysis parse_analysis(const Field& root) {
  Analysis a;
  a.head = parse_head(root);
  a.model = parse_model(root);
  const auto n = static_cast<size_t>(a.model.n_layers);
  a.trace = parse_source(root, "trace");
  a.counts = parse_counts(root);
  a.interval = parse_interval(root);
  for (const Field& f : root.at("recall").items())
    a.recall.push_back(
        {f.at("k_pages").count(), f.at("l_pages").count(), parse_counts(f), estimate_matrix(f, n)});
  for (const Field& f : root.at("oracle_recall").items())
    a.oracle.push_back({f.at("k_pages").count(), estimates(f, "mean", n)});
  if (const auto f = root.find("correlation"))
    a.correlation = {f->at("k_pages").count(), f->at("l_pages").count(), estimate_matrix(f->at("cosine"), n),
                     estimate_matrix(f->at("pearson"), n), estimate_matrix(f->at("jaccard"), n)};
  a.layer_drift = estimates(root.at("layer_drift"), "mean", n);
  a.step_drift = estimates(root.at("step_drift"), "mean", n);
  for (const Field& f : root.at("stale_recall").items())
    a.stale.push_back({f.at("lag").count(), f.at("k_pages").count(), f.at("l_pages").count(),
                       count_or(f, "n_samples", a.counts.samples), estimates(f, "mean", n)});
  if (const auto f = root.find("half_life")) a.half_life = parse_half_life(*f, n);
  return a;
}

Config parse_config(const Field& root) {
  Config c;
  c.head = parse_head(root);
  c.model = parse_model(root);
  c.page_size = count_or(root, "page_size", 16);
  c.refresh_interval = count_or(root, "refresh_interval", 1);
  if (const auto refresh = root.find("refresh"))
    c.refresh = fmt::format("{} below {}, at least every {} steps", refresh->at("signal").text(),
                            refresh->at("threshold").number(), refresh->at("max_interval").count());
  if (const auto score = root.find("score")) c.score = parse_score(*score);
  c.strip = parse_layers(root.at("layers"), c.model.n_layers);
  if (const auto expected = root.find("expected")) {
    if (const auto ratio = expected->find("attended_ratio"))
      for (const auto& [lengths, value] : ratio->members())
        c.attended_ratio.emplace_back("one sequence of " + lengths + " tokens", value.number());
    if (const auto recall = expected->find("recall"))
      c.recall = parse_layer_recall(*recall, c.model.n_layers);
    if (const auto gap = expected->find("nll_gap")) c.nll_gap = gap->estimate();
  }
  if (const auto made = root.find("provenance")) {
    c.trace = parse_source(*made, "trace");
    if (const auto samples = made->find("samples")) c.counts = count_samples(*samples);
    if (const auto ratio = made->find("attended_ratio"))
      c.attended_ratio.emplace_back(text_or(*made, "lengths", "not told"), ratio->number());
    c.method = text_or(*made, "method");
    c.objective = text_or(*made, "objective");
    c.budget = text_or(*made, "budget");
    c.seed = text_or(*made, "seed");
    c.order = text_or(*made, "order");
    c.reranked = made->find("rerank").has_value();
    if (const auto others = made->find("alternatives"))
      for (const Field& other : others->items())
        c.alternatives.push_back(parse_alternative(other, c.model.n_layers));
  }
  return c;
}

Validation parse_validation(const Field& root) {
  Validation v;
  v.head = parse_head(root);
  v.model = parse_model(root);
  v.config = parse_source(root, "config");
  if (const auto config = root.find("config")) v.schedule = text_or(*config, "schedule");
  v.data = parse_source(root, "data");
  v.max_tokens = count_or(root, "max_tokens", 0);
  v.pack = count_or(root, "pack", 0);
  v.interval = parse_interval(root);
  for (const Field& policy : root.at("policies").items())
    v.policies.push_back(parse_policy(policy, v.model.n_layers));
  if (const auto verdict = root.find("verdict")) {
    if (const auto passed = verdict->find("passed")) v.passed = passed->truth();
    if (const auto thresholds = verdict->find("thresholds"))
      for (const Field& t : thresholds->items()) {
        const auto met = t.find("met");
        v.thresholds.push_back({t.at("name").text(), t.at("limit").number(), number_or_missing(t, "value"),
                                number_or_missing(t, "bound"), met ? met->truth() : std::nullopt});
      }
  }
  return v;
}

Comparison parse_comparison(const Field& root) {
  Comparison c;
  c.head = parse_head(root);
  c.model = parse_model(root);
  c.trace = parse_source(root, "trace");
  c.data = parse_source(root, "data");
  c.max_tokens = count_or(root, "max_tokens", 0);
  c.pack = count_or(root, "pack", 0);
  c.context = count_or(root, "context", 0);
  c.budget = text_or(root, "budget");
  c.objective = text_or(root, "objective");
  c.winner = root.at("winner").text();
  c.counts = parse_counts(root);
  c.interval = parse_interval(root);
  for (const Field& f : root.at("methods").items()) c.methods.push_back(parse_method(f, c.model.n_layers));
  for (const Field& f : root.at("surrogates").items())
    c.surrogates.push_back({f.at("name").text(), f.at("spearman").estimate(), number_or_missing(f, "kendall"),
                            count_or(f, "n_schedules", 0)});
  if (const auto f = root.find("prediction")) c.prediction = parse_prediction(*f);
  c.stability = parse_stability(root.at("stability"), c.model.n_layers);
  if (const auto f = root.find("stability_of")) {
    c.stability_resamples = count_or(*f, "resamples", 0);
    c.stability_reason = text_or(*f, "reason");
  }
  for (const Field& f : root.at("pareto").items())
    c.budgets.push_back({f.at("budget").number(), f.at("attended_ratio").number(),
                         number_or_missing(f, "predicted_kl"), number_or_missing(f, "recall"),
                         text_or(f, "schedule"), estimate_or_missing(f, "nll_gap"),
                         estimate_or_missing(f, "kl")});
  return c;
}

}  // namespace deltacal::reports
