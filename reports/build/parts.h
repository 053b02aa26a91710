// The sections of the report, one function each, and the phrases they share.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "reports/artefacts.h"
#include "reports/model.h"

namespace deltacal::reports {

struct Parts {
  std::optional<Analysis> analysis;
  std::optional<Config> config;
  std::optional<Validation> validation;
  std::optional<Comparison> comparison;
  const Json* bench = nullptr;
  std::string bench_file, config_sha256;
};

const Model* model_of(const Parts&);  // null: none tells it

Section summary_section(const Parts&);
Section schedule_section(const Config&);
Section validation_section(const Validation&);
Section comparison_section(const Comparison&);
Section recall_section(const Parts&);  // of what analysis, config and validation hold
Section correlation_section(const Analysis&, const Config*);
Section drift_section(const Analysis&, const Config*);
Section bench_section(const Field&);
Section making_section(const Parts&);

// Quantities: the same name, unit and decimals everywhere.
namespace quantity {
inline Quantity text(std::string name) {
  return {std::move(name), "", 0};
}
inline Quantity whole(std::string name, std::string unit = "") {
  return {std::move(name), std::move(unit), 0};
}
inline Quantity nll() {
  return {"NLL", "nats/token", 3};
}
inline Quantity nll_gap() {
  return {"NLL gap", "nats/token", 4, true};
}
inline Quantity kl(std::string name = "KL(full || sparse)") {
  return {std::move(name), "nats/token", 4};
}
inline Quantity ratio() {
  return {"Attended-token ratio", "x", 2};
}
inline Quantity top1() {
  return {"Top-1 agreement", "fraction", 3};
}
inline Quantity recall(std::string name = "Recall") {
  return {std::move(name), "fraction of mass", 3};
}
inline Quantity similarity(std::string name) {
  return {std::move(name), "1 = equal", 3};
}
inline Quantity drift(std::string name) {
  return {std::move(name), "1 - cosine", 3};
}
}  // namespace quantity

std::string counts_text(const Counts&);            // "12 samples of 8 problems, 3,072 steps"
std::string limits_text(int max_tokens, int pack);  // ", at most 2,048 tokens of each sample", "" without
std::string interval_text(const IntervalMethod&);  // "95% intervals: ..." or "No intervals: ..."
std::vector<std::string> layer_names(size_t n);    // "0", "1", ...
std::vector<int> delta_layers(const Strip&);
std::string joined(const std::vector<int>&);  // "2, 7, 15"
Estimate only(double value);                  // without interval
Estimate whole(long long count);

// What the active scores of a policy are over: as the file tells, else its samples with active steps.
Counts counts_of(const Validation::Policy&);
const Validation::Policy* find_policy(const Validation&, const std::string& name);

// The entry whose budget is nearest to (k, l): first the ratio of k, then that of l. Null if there is none.
const Analysis::Recall* nearest(const std::vector<Analysis::Recall>&, int k, int l);
const Analysis::Stale* nearest(const std::vector<Analysis::Stale>&, int k, int l);
const Analysis::Oracle* nearest(const std::vector<Analysis::Oracle>&, int k);
// The budget to show where only one can be: the config's most frequent k (the larger of equals) and its l,
// else the middle of the analysed grid.
struct Budget {
  int k_pages = 0, l_pages = 0;
};
Budget main_budget(const Analysis*, const Config*);

}  // namespace deltacal::reports
