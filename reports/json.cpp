// The report model as it is. NaN becomes null: nlohmann-json writes it so.
#include "reports/report.h"

namespace deltacal::reports {
namespace {

using Json = nlohmann::ordered_json;

Json of(const Estimate& e) {
  return {{"value", e.value}, {"low", e.low}, {"high", e.high}};
}
Json of(const Quantity& q) {
  return {{"name", q.name}, {"unit", q.unit}};
}
Json of(const Cell& cell) {
  if (const auto* text = std::get_if<std::string>(&cell)) return *text;
  return of(std::get<Estimate>(cell));
}

Json of(const std::vector<Estimate>&);
Json of(const std::vector<Cell>&);
Json of(const Facts::Fact&);
Json of(const LineChart::Series&);
Json of(const Scatter::Point&);
Json of(const Scatter::Series&);
Json of(const DotWhisker::Row&);
Json of(const DotWhisker::Limit&);
Json of(const Strip::Layer&);
Json of(const Figure&);
Json of(const Section&);

template <class T>
Json list_of(const std::vector<T>& items) {
  Json list = Json::array();
  for (const auto& item : items) list.push_back(of(item));
  return list;
}

Json of(const std::vector<Estimate>& row) {
  return list_of(row);
}
Json of(const std::vector<Cell>& row) {
  return list_of(row);
}
Json of(const Facts::Fact& f) {
  return {{"quantity", of(f.quantity)}, {"value", of(f.value)}, {"detail", f.detail}};
}
Json of(const LineChart::Series& s) {
  return {{"name", s.name}, {"y", list_of(s.y)}};
}
Json of(const DotWhisker::Limit& l) {
  return {{"name", l.name}, {"value", l.value}};
}
Json of(const DotWhisker::Row& r) {
  Json points = Json::array();
  for (const auto& [name, value] : r.points) points.push_back({{"name", name}, {"value", value}});
  return {{"name", r.name}, {"estimate", of(r.estimate)}, {"points", points}};
}
Json of(const Scatter::Point& p) {
  return {{"name", p.name}, {"x", p.x}, {"y", of(p.y)}};
}
Json of(const Scatter::Series& s) {
  return {{"name", s.name}, {"joined", s.joined}, {"points", list_of(s.points)}};
}
Json of(const Strip::Layer& l) {
  Json layer{{"role", name_of(l.role)}};
  if (l.role != Role::full) layer["k_pages"] = l.k_pages;
  if (l.role == Role::delta) layer["l_pages"] = l.l_pages;
  if (l.source >= 0) layer["list_of_layer"] = l.source;
  return layer;
}

Json body(const Facts& x) {
  return {{"type", "facts"}, {"facts", list_of(x.facts)}};
}
Json body(const Text& x) {
  return {{"type", "text"}, {"paragraphs", x.paragraphs}};
}
Json body(const Table& x) {
  return {{"type", "table"}, {"columns", list_of(x.columns)}, {"rows", list_of(x.rows)}};
}
Json body(const Strip& x) {
  return {{"type", "schedule"}, {"layers", list_of(x.layers)}};
}
Json body(const Heatmap& x) {
  return {{"type", "heatmap"},
          {"quantity", of(x.quantity)},
          {"row_label", x.row_label},
          {"column_label", x.column_label},
          {"rows", x.rows},
          {"columns", x.columns},
          {"delta_columns", x.marked_columns},
          {"outlined", x.outlined},
          {"lower_triangle", x.lower_triangle},
          {"cells", list_of(x.cells)}};
}
Json body(const LineChart& x) {
  return {{"type", "line_chart"},        {"quantity", of(x.quantity)}, {"x_label", x.x_label}, {"x", x.x},
          {"delta_positions", x.marked}, {"series", list_of(x.series)}};
}
Json body(const DotWhisker& x) {
  return {{"type", "dot_whisker"},
          {"quantity", of(x.quantity)},
          {"row_label", x.row_label},
          {"rows", list_of(x.rows)},
          {"limits", list_of(x.limits)}};
}

Json body(const Scatter& x) {
  return {{"type", "scatter"}, {"x", of(x.x)}, {"y", of(x.y)}, {"series", list_of(x.series)}};
}

Json of(const Figure& figure) {
  Json json{{"id", figure.id},           {"label", figure.label},   {"title", figure.title},
            {"caption", figure.caption}, {"counts", figure.counts}, {"interval", figure.interval}};
  json.update(std::visit([](const auto& x) { return body(x); }, figure.body));
  return json;
}

Json of(const Section& section) {
  return {{"id", section.id},
          {"title", section.title},
          {"intro", section.intro},
          {"figures", list_of(section.figures)}};
}

}  // namespace

std::string json(const Report& report) {
  const Json document{{"format", "deltacal-report"},
                      {"schema_version", 1},
                      {"title", report.title},
                      {"subtitle", report.subtitle},
                      {"sections", list_of(report.sections)}};
  return document.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace deltacal::reports
