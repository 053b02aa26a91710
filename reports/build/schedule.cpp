// The chosen schedule, and the ones it was chosen among.
#include <fmt/format.h>

#include "reports/build/parts.h"

namespace deltacal::reports {
namespace {

Figure lists(const Config& config) {
  Table table{
      {quantity::text("\u0394-layer"), quantity::whole("List", "pages"), quantity::whole("Newest L", "pages"),
       quantity::text("Serves layers"), quantity::text("k of them (pages)")},
      {}};
  for (const int delta : delta_layers(config.strip)) {
    const auto& layer = config.strip.layers[static_cast<size_t>(delta)];
    std::vector<int> budgets;
    for (const auto& other : config.strip.layers)
      if (other.source == delta) budgets.push_back(other.k_pages);
    table.rows.push_back({fmt::format("{}", delta), whole(layer.k_pages), whole(layer.l_pages),
                          layers_served(config.strip, delta), joined(budgets)});
  }
  return {.id = "lists",
          .title = "Lists of the \u0394-layers",
          .caption = fmt::format(
              "Each \u0394-layer ranks its pages (of {} positions) once for the layers it serves: "
              "the newest L first, then the others by page score. A served layer attends to the "
              "first k pages of that list.",
              config.page_size),
          .body = std::move(table)};
}

Figure expected(const Config& config) {
  Facts facts;
  for (const auto& [lengths, ratio] : config.attended_ratio)
    facts.facts.push_back({quantity::ratio(), only(ratio), "lengths: " + lengths});
  if (config.nll_gap) facts.facts.push_back({quantity::nll_gap(), *config.nll_gap, "as the config states"});
  return {.id = "expected", .title = "What the config expects", .body = std::move(facts)};
}

// By what the search put its schedules in order.
std::string search_order(const Config& config) {
  if (config.budget.starts_with("max-kl=") || config.budget.starts_with("min-recall="))
    return fmt::format("the cheapest first of those that meet {}", config.budget);
  if (config.order == "layers")
    return "by the predicted KL with cross terms of layers (the loss shown is without them)";
  if (config.order == "steps")
    return "by the predicted KL with cross terms of layers and of steps (the loss shown is without them)";
  return "by the loss of its objective" + (config.objective.empty() ? "" : " (" + config.objective + ")");
}

std::string alternatives_caption(const Config& config) {
  if (!config.reranked)
    return fmt::format("The best schedules of the search, {}, on the calibration samples.",
                       search_order(config));
  return fmt::format(
      "First the schedule that runs on development samples led to (re-ranking), then the other candidates in "
      "the order of the search: {}, on the calibration samples.",
      search_order(config));
}

Figure alternatives(const Config& config) {
  Table table{{quantity::text("Schedule"),
               quantity::text("Method"),
               quantity::text("\u0394-layers"),
               quantity::ratio(),
               {"Loss", "", 4},
               quantity::recall("Mean recall")},
              {}};
  for (const auto& other : config.alternatives)
    table.rows.push_back({other.schedule, other.method, joined(other.delta_layers),
                          only(other.attended_ratio), only(other.loss), only(other.mean_recall)});
  return {.id = "alternatives",
          .title = "Alternatives",
          .caption = alternatives_caption(config),
          .counts = config.counts.samples > 0 ? counts_text(config.counts) : "",
          .body = std::move(table)};
}

std::string between_lists(const Config& config) {
  const bool keeps = config.refresh_interval > 1 || !config.refresh.empty();
  return keeps ? ", a \u0394-layer at the steps where it makes its list and to the list at the others" : "";
}

}  // namespace

Section schedule_section(const Config& config) {
  Section section{"schedule", "Schedule", "", {}};
  if (!config.method.empty() || !config.budget.empty())
    section.intro =
        fmt::format("Chosen by {}{}{}.", config.method.empty() ? "an unnamed method" : config.method,
                    config.objective.empty() ? "" : ", objective " + config.objective,
                    config.budget.empty() ? "" : ", budget " + config.budget);
  section.figures.push_back({.id = "schedule-strip",
                             .title = "Roles of the layers",
                             .caption = "Full layers (F) and \u0394-layers (\u0394) attend to all pages" +
                                        between_lists(config) +
                                        "; a sparse layer (S) attends to the first k "
                                        "pages of the list of the \u0394-layer below it. Bars: k in pages, "
                                        "on a logarithmic scale. Brackets: which "
                                        "layers each \u0394-layer serves, with its list and L in pages.",
                             .body = config.strip});
  section.figures.push_back(lists(config));
  if (auto figure = expected(config); !std::get<Facts>(figure.body).facts.empty())
    section.figures.push_back(std::move(figure));
  if (!config.alternatives.empty()) section.figures.push_back(alternatives(config));
  return section;
}

}  // namespace deltacal::reports
