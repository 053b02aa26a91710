// The long form: one number a line, so that any program can pick the figure it wants.
#include <fmt/format.h>

#include "reports/format.h"
#include "reports/report.h"

namespace deltacal::reports {
namespace {

// RFC 4180: quoted where it holds a comma, a quote or a line end.
std::string quoted(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

class Lines {
 public:
  explicit Lines(const Figure& figure) : figure_(quoted(figure.id)) {}

  void add(const std::string& row, const std::string& column, const Cell& cell, const std::string& unit) {
    if (const auto* text = std::get_if<std::string>(&cell)) {
      out += fmt::format("{},{},{},{},,,{}\r\n", figure_, quoted(row), quoted(column), quoted(*text),
                         quoted(unit));
      return;
    }
    const auto& e = std::get<Estimate>(cell);
    out += fmt::format("{},{},{},{},{},{},{}\r\n", figure_, quoted(row), quoted(column), exact(e.value),
                       exact(e.low), exact(e.high), quoted(unit));
  }

  void body(const Facts& facts) {
    for (const auto& f : facts.facts) add(f.quantity.name, "value", f.value, f.quantity.unit);
  }
  void body(const Text& text) {
    for (size_t i = 0; i < text.paragraphs.size(); ++i)
      add(fmt::format("{}", i + 1), "text", text.paragraphs[i], "");
  }
  void body(const Table& table) {
    for (size_t r = 0; r < table.rows.size(); ++r) {
      const auto* name = table.rows[r].empty() ? nullptr : std::get_if<std::string>(&table.rows[r].front());
      const std::string row = name ? *name : fmt::format("{}", r + 1);
      for (size_t c = name ? 1 : 0; c < table.rows[r].size(); ++c)
        add(row, table.columns[c].name, table.rows[r][c], table.columns[c].unit);
    }
  }
  void body(const Strip& strip) {
    for (size_t i = 0; i < strip.layers.size(); ++i) {
      const auto& layer = strip.layers[i];
      const auto whole = [](int n) { return Estimate{static_cast<double>(n), missing, missing}; };
      const std::string row = fmt::format("{}", i);
      add(row, "role", name_of(layer.role), "");
      if (layer.role != Role::full) add(row, "k_pages", whole(layer.k_pages), "pages");
      if (layer.role == Role::delta) add(row, "l_pages", whole(layer.l_pages), "pages");
      if (layer.source >= 0) add(row, "list_of_layer", whole(layer.source), "layer");
    }
  }
  void body(const Heatmap& map) {
    for (size_t r = 0; r < map.rows.size(); ++r)
      for (size_t c = 0; c < map.columns.size(); ++c)
        if (!map.lower_triangle || c <= r)
          add(map.rows[r], map.columns[c], map.cells[r][c], map.quantity.unit);
  }
  void body(const LineChart& chart) {
    for (const auto& series : chart.series)
      for (size_t i = 0; i < chart.x.size(); ++i)
        add(chart.x[i], series.name, series.y[i], chart.quantity.unit);
  }
  void body(const DotWhisker& chart) {
    for (const auto& row : chart.rows) {
      add(row.name, chart.quantity.name, row.estimate, chart.quantity.unit);
      for (const auto& [name, value] : row.points)
        add(row.name, name, Estimate{value, missing, missing}, chart.quantity.unit);
    }
    for (const auto& limit : chart.limits)
      add(limit.name, chart.quantity.name, Estimate{limit.value, missing, missing}, chart.quantity.unit);
  }

  void body(const Scatter& chart) {
    for (const auto& series : chart.series)
      for (const auto& point : series.points) {
        const std::string row = series.name + ": " + point.name;
        add(row, chart.x.name, Estimate{point.x, missing, missing}, chart.x.unit);
        add(row, chart.y.name, point.y, chart.y.unit);
      }
  }

  std::string out;

 private:
  std::string figure_;
};

}  // namespace

std::string csv(const Report& report) {
  std::string out = "figure,row,column,value,low,high,unit\r\n";
  for (const Section& section : report.sections)
    for (const Figure& figure : section.figures) {
      Lines lines(figure);
      std::visit([&](const auto& x) { lines.body(x); }, figure.body);
      out += lines.out;
    }
  return out;
}

}  // namespace deltacal::reports
