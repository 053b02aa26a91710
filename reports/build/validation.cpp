// Full attention against the policies, on samples that calibration never saw.
#include <fmt/format.h>

#include <cmath>

#include "reports/build/parts.h"
#include "reports/format.h"

namespace deltacal::reports {
namespace {

using Policy = Validation::Policy;

const Policy& reference(const Validation& v) {
  const Policy* delta = find_policy(v, "delta");
  return delta ? *delta : v.policies.front();
}

std::string scored_on(const Validation& v) {
  std::string text = counts_text(counts_of(reference(v))) + " (active steps)";
  if (const int left_out = reference(v).samples_without_active; left_out > 0)
    text += fmt::format("; {} sample{} without active steps left out", left_out, left_out == 1 ? "" : "s");
  return text;
}

std::vector<Cell> score_row(const Policy& policy, const Validation::Scores& scores) {
  return {policy.name, only(policy.attended_ratio), only(scores.nll),    scores.nll_gap,
          scores.kl,   only(scores.kl_median),      only(scores.kl_p99), only(scores.top1)};
}

std::vector<Quantity> score_columns() {
  return {quantity::text("Policy"), quantity::ratio(),         quantity::nll(),        quantity::nll_gap(),
          quantity::kl("KL mean"),  quantity::kl("KL median"), quantity::kl("KL 99%"), quantity::top1()};
}

Figure policies(const Validation& v) {
  Table table{score_columns(), {}};
  bool compared = false;
  for (const Policy& policy : v.policies) compared = compared || policy.vs_delta.has_value();
  if (compared) table.columns.push_back({"NLL minus delta's", "nats/token", 4, true});
  for (const Policy& policy : v.policies) {
    table.rows.push_back(score_row(policy, policy.active));
    if (compared) table.rows.back().push_back(policy.vs_delta.value_or(Estimate{}));
  }
  return {.id = "policies",
          .title = "Policies on the active steps",
          .caption =
              "Teacher-forced on the same tokens. A step is active where it sees more pages than the "
              "smallest k of "
              "the config; every policy is scored on the same steps. KL is KL(full || policy).",
          .counts = scored_on(v),
          .interval = interval_text(v.interval),
          .body = std::move(table)};
}

Counts all_counts(const Policy& policy) {
  const Counts told = policy.all->counts;
  return told.samples > 0 ? told : Counts{static_cast<int>(policy.samples.size()), 0, 0};
}

Figure all_steps(const Validation& v) {
  Table table{score_columns(), {}};
  for (const Policy& policy : v.policies)
    if (policy.all) table.rows.push_back(score_row(policy, *policy.all));
  return {.id = "policies-all",
          .title = "Policies on all steps",
          .caption =
              "The same over every step, also those where the budget covers all pages and nothing is lost.",
          .counts = counts_text(all_counts(reference(v))),
          .interval = interval_text(v.interval),
          .body = std::move(table)};
}

Figure gaps(const Validation& v) {
  DotWhisker chart{quantity::nll_gap(), "Policy", {}, {}};
  for (const Policy& policy : v.policies)
    if (policy.name != "full") chart.rows.push_back({policy.name, policy.active.nll_gap, {}});
  for (const auto& threshold : v.thresholds)
    if (threshold.name.find("nll") != std::string::npos && std::isfinite(threshold.limit))
      chart.limits.push_back({"limit", threshold.limit});
  return {.id = "nll-gap",
          .title = "NLL gap to full attention",
          .caption =
              "Mean of NLL(policy) - NLL(full) over the active steps; 0 is full attention, left is better.",
          .counts = scored_on(v),
          .interval = interval_text(v.interval),
          .width = Width::half,
          .body = std::move(chart)};
}

Figure spread(const Validation& v) {
  DotWhisker chart{quantity::nll_gap(), "Policy", {}, {}};
  for (const Policy& policy : v.policies) {
    if (policy.name == "full") continue;
    DotWhisker::Row row{policy.name, policy.active.nll_gap, {}};
    row.estimate.low = row.estimate.high = missing;
    for (const auto& sample : policy.samples)
      if (std::isfinite(sample.nll) && std::isfinite(sample.nll_full))
        row.points.emplace_back(sample.id, sample.nll - sample.nll_full);
    chart.rows.push_back(std::move(row));
  }
  return {
      .id = "nll-gap-samples",
      .title = "NLL gap of each sample",
      .caption =
          "One small dot a sample (its NLL minus its NLL under full attention); the large mark is the mean.",
      .counts = scored_on(v),
      .width = Width::half,
      .body = std::move(chart)};
}

std::string bin_name(const Validation::Bin& bin) {
  const auto edge = [](int position) {
    return position > 0 && position % 1024 == 0 ? fmt::format("{}k", position / 1024)
                                                : fmt::format("{}", position);
  };
  return edge(bin.from) + "\u2013" + edge(bin.to);
}

// Bins of the reference policy name the axis; another policy's value is looked up by its edges.
Figure bins(const Validation& v) {
  LineChart chart{
      quantity::nll_gap(), "Position in the sequence (tokens)", {}, {}, {}, LineChart::Style::whiskers, true};
  std::string counts = "Steps in the bins: ";
  const auto& axis = reference(v).bins;
  for (size_t i = 0; i < axis.size(); ++i) {
    chart.x.push_back(bin_name(axis[i]));
    counts += fmt::format("{}{}: {}", i ? "; " : "", bin_name(axis[i]), grouped(axis[i].n_steps));
  }
  for (const Policy& policy : v.policies) {
    if (policy.name == "full") continue;
    LineChart::Series series{policy.name, Estimates(axis.size())};
    for (size_t i = 0; i < axis.size(); ++i)
      for (const auto& bin : policy.bins)
        if (bin.from == axis[i].from && bin.to == axis[i].to) series.y[i] = bin.nll_gap;
    chart.series.push_back(std::move(series));
  }
  return {.id = "nll-gap-position",
          .title = "NLL gap by position",
          .caption = "The gap within bins of the step's position: whether the loss grows with the length.",
          .counts = counts,
          .interval = interval_text(v.interval),
          .body = std::move(chart)};
}

Figure bin_table(const Validation& v) {
  Table table{{quantity::text("Policy, positions"), quantity::whole("Steps"), quantity::nll(),
               quantity::nll_gap(), quantity::kl("KL mean"), quantity::top1()},
              {}};
  for (const Policy& policy : v.policies)
    for (const auto& bin : policy.bins)
      table.rows.push_back({policy.name + ", " + bin_name(bin), whole(bin.n_steps), only(bin.nll),
                            bin.nll_gap, bin.kl, only(bin.top1)});
  return {.id = "bins",
          .title = "By position",
          .caption = "The numbers of the figure above, with NLL, KL and agreement.",
          .interval = interval_text(v.interval),
          .body = std::move(table)};
}

}  // namespace

Section validation_section(const Validation& v) {
  Section section{"validation", "Validation", "", {}};
  if (v.policies.empty()) return section;
  if (v.max_tokens > 0 || v.pack > 0)
    section.intro = fmt::format("Held-out samples{}.", limits_text(v.max_tokens, v.pack));
  section.figures.push_back(policies(v));
  section.figures.push_back(gaps(v));
  section.figures.push_back(spread(v));
  if (!reference(v).bins.empty()) {
    section.figures.push_back(bins(v));
    section.figures.push_back(bin_table(v));
  }
  if (reference(v).all) section.figures.push_back(all_steps(v));
  return section;
}

}  // namespace deltacal::reports
