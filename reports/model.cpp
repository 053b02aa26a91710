#include "reports/model.h"

#include <fmt/format.h>

namespace deltacal::reports {

std::string name_of(Role role) {
  switch (role) {
    case Role::full:
      return "full";
    case Role::delta:
      return "delta";
    case Role::sparse:
      return "sparse";
  }
  return "";
}

void number_figures(Report& report) {
  int figures = 0, tables = 0;
  for (Section& section : report.sections) {
    for (Figure& figure : section.figures) {
      if (std::holds_alternative<Facts>(figure.body) || std::holds_alternative<Text>(figure.body)) continue;
      const bool table = std::holds_alternative<Table>(figure.body);
      figure.label = table ? fmt::format("Table {}", ++tables) : fmt::format("Figure {}", ++figures);
    }
  }
}

std::string layers_served(const Strip& strip, int delta) {
  std::string text;
  const int n = static_cast<int>(strip.layers.size());
  for (int first = 0; first < n; ++first) {
    if (strip.layers[first].source != delta) continue;
    int last = first;
    while (last + 1 < n && strip.layers[last + 1].source == delta) ++last;
    if (!text.empty()) text += ", ";
    text += first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last);
    first = last;
  }
  return text.empty() ? "none" : text;
}

}  // namespace deltacal::reports
