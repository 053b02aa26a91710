// The verdict and the numbers that decide.
#include <fmt/format.h>

#include "reports/build/parts.h"
#include "reports/format.h"

namespace deltacal::reports {
namespace {

Facts::Fact verdict(const Validation* validation) {
  Facts::Fact fact{quantity::text("Verdict"), std::string("Not validated"), "no validation file was given"};
  if (!validation) return fact;
  if (!validation->passed) {
    fact.value = std::string("No verdict");
    fact.detail = "validated without thresholds";
    return fact;
  }
  int met = 0;
  for (const auto& threshold : validation->thresholds) met += threshold.met.value_or(false) ? 1 : 0;
  fact.value = std::string(*validation->passed ? "\u2713 Passed" : "\u2717 Not met");
  fact.tone = *validation->passed ? Facts::Tone::good : Facts::Tone::bad;
  fact.detail = fmt::format("{} of {} threshold{} met", met, validation->thresholds.size(),
                            validation->thresholds.size() == 1 ? "" : "s");
  return fact;
}

std::string made_when(const Config& config) {
  if (!config.refresh.empty()) return "at " + config.refresh;
  return config.refresh_interval == 1 ? "every step" : fmt::format("every {} steps", config.refresh_interval);
}

Facts::Fact schedule(const Config& config) {
  const auto deltas = delta_layers(config.strip);
  int sparse = 0;
  for (const auto& layer : config.strip.layers) sparse += layer.role == Role::sparse ? 1 : 0;
  return {quantity::text("Schedule"),
          "\u0394 at " + (deltas.empty() ? std::string("no layer") : joined(deltas)),
          fmt::format("{} \u0394-layers, {} sparse, {} full; pages of {} positions; lists made {}{}",
                      deltas.size(), sparse,
                      config.strip.layers.size() - deltas.size() - static_cast<size_t>(sparse),
                      config.page_size, made_when(config), config.score.empty() ? "" : "; " + config.score)};
}

void add_delta_facts(std::vector<Facts::Fact>& facts, const Validation& validation,
                     const Validation::Policy& delta) {
  facts.push_back(
      {quantity::ratio(), only(delta.attended_ratio), "on the validation samples; larger is sparser"});
  facts.push_back(
      {quantity::nll_gap(), delta.active.nll_gap, "DELTA minus full attention, over the active steps"});
  if (const auto* streaming = find_policy(validation, "streaming"))
    facts.push_back({{"NLL gap of streaming", "nats/token", 4, true},
                     streaming->active.nll_gap,
                     fmt::format("first and newest pages alone, at ratio {}",
                                 number(streaming->attended_ratio, quantity::ratio()))});
  facts.push_back({quantity::kl(), delta.active.kl, "mean over the active steps"});
  facts.push_back({quantity::top1(), only(delta.active.top1), "steps where both name the same next token"});
}

void add_expected_facts(std::vector<Facts::Fact>& facts, const Config& config) {
  for (const auto& [lengths, ratio] : config.attended_ratio)
    facts.push_back({{"Expected attended-token ratio", "x", 2}, only(ratio), "lengths: " + lengths});
  if (config.nll_gap)
    facts.push_back({{"Expected NLL gap", "nats/token", 4, true}, *config.nll_gap, "as the config says"});
}

// What a reader must know before trusting that the files belong together.
std::vector<std::string> mismatches(const Parts& parts) {
  std::vector<std::string> notes;
  const auto differ = [](const std::string& a, const std::string& b) {
    return !a.empty() && !b.empty() && a != b;
  };
  if (parts.config && parts.validation && differ(parts.validation->config.sha256, parts.config_sha256))
    notes.push_back(fmt::format("Caution: {} was made with another config (sha256 {}) than {} (sha256 {}).",
                                parts.validation->head.file, parts.validation->config.sha256,
                                parts.config->head.file, parts.config_sha256));
  if (parts.config && parts.analysis && differ(parts.config->trace.sha256, parts.analysis->trace.sha256))
    notes.push_back(
        fmt::format("Caution: {} was chosen on another trace (sha256 {}) than {} analyses (sha256 {}).",
                    parts.config->head.file, parts.config->trace.sha256, parts.analysis->head.file,
                    parts.analysis->trace.sha256));
  return notes;
}

Figure thresholds(const Validation& validation) {
  Table table{{quantity::text("Threshold"),
               {"Limit", "", 4},
               {"Measured", "", 4},
               {"Held against the limit", "", 4},
               quantity::text("Met")},
              {}};
  for (const auto& t : validation.thresholds)
    table.rows.push_back({t.name, only(t.limit), only(t.value), only(t.bound),
                          std::string(!t.met   ? "not judged"
                                      : *t.met ? "\u2713 yes"
                                               : "\u2717 no")});
  return {
      .id = "thresholds",
      .title = "Thresholds",
      .caption =
          "The verdict is passed where every threshold is met. The NLL gap is judged by the upper end of its "
          "interval, and counts as not met where there is no interval.",
      .interval = interval_text(validation.interval),
      .body = std::move(table)};
}

}  // namespace

Section summary_section(const Parts& parts) {
  Section section{"summary", "Summary", "", {}};
  const auto notes = mismatches(parts);
  if (!notes.empty()) section.figures.push_back({.id = "caution", .title = "Caution", .body = Text{notes}});
  const Validation* validation = parts.validation ? &*parts.validation : nullptr;
  Figure figure{.id = "key-numbers", .title = "The numbers that decide", .body = Facts{}};
  auto& facts = std::get<Facts>(figure.body).facts;
  if (parts.config || validation) facts.push_back(verdict(validation));
  if (parts.config)
    facts.push_back(schedule(*parts.config));
  else if (validation && !validation->schedule.empty())
    facts.push_back({quantity::text("Schedule"), validation->schedule, "as the validation names it"});
  const auto* delta = validation ? find_policy(*validation, "delta") : nullptr;
  if (delta) {
    add_delta_facts(facts, *validation, *delta);
    figure.counts = counts_text(counts_of(*delta)) + " (active steps)";
    figure.interval = interval_text(validation->interval);
  }
  if (parts.config && !delta) add_expected_facts(facts, *parts.config);
  if (!facts.empty()) section.figures.push_back(std::move(figure));
  if (validation && !validation->thresholds.empty()) section.figures.push_back(thresholds(*validation));
  return section;
}

}  // namespace deltacal::reports
