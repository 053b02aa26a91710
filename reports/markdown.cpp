// Every figure as a GitHub table: charts become their numbers.
#include <fmt/format.h>

#include <algorithm>

#include "reports/format.h"
#include "reports/report.h"

namespace deltacal::reports {
namespace {

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '<')
      out += "&lt;";
    else if (c == '&')
      out += "&amp;";
    else if (c == '\n' || c == '\r' || c == '\t')
      out += ' ';
    else if (std::string_view("\\`*_[]|#~").find(c) != std::string_view::npos)
      out += {'\\', c};
    else
      out += c;
  }
  return out;
}

std::string row(const std::vector<std::string>& cells) {
  std::string out = "|";
  for (const auto& c : cells) out += " " + escape(c) + " |";
  return out + "\n";
}

std::string header(const std::vector<std::string>& names) {
  std::string out = row(names) + "|";
  for (size_t i = 0; i < names.size(); ++i) out += i == 0 ? " --- |" : " ---: |";
  return out + "\n";
}

std::string body(const Facts& facts) {
  std::string out = header({"", "Value", ""});
  for (const auto& f : facts.facts) out += row({with_unit(f.quantity), cell(f.value, f.quantity), f.detail});
  return out;
}

std::string body(const Text& text) {
  std::string out;
  for (const auto& paragraph : text.paragraphs) out += "- " + escape(paragraph) + "\n";
  return out;
}

std::string body(const Table& table) {
  std::vector<std::string> names;
  for (const auto& column : table.columns) names.push_back(with_unit(column));
  std::string out = header(names);
  for (const auto& cells : table.rows) {
    std::vector<std::string> shown;
    for (size_t c = 0; c < cells.size(); ++c) shown.push_back(cell(cells[c], table.columns[c]));
    out += row(shown);
  }
  return out;
}

std::string body(const Strip& strip) {
  std::string out = header({"Layer", "Role", "Pages", "L (pages)", "List of layer"});
  for (size_t i = 0; i < strip.layers.size(); ++i) {
    const auto& layer = strip.layers[i];
    const auto number_or_dash = [](bool shown, int n) {
      return shown ? fmt::format("{}", n) : std::string("\u2013");
    };
    out += row({fmt::format("{}", i), name_of(layer.role),
                layer.role == Role::full ? "all" : number_or_dash(true, layer.k_pages),
                number_or_dash(layer.role == Role::delta, layer.l_pages),
                number_or_dash(layer.source >= 0, layer.source)});
  }
  return out;
}

std::string body(const Heatmap& map) {
  std::vector<std::string> names{map.row_label + " \\ " + map.column_label};
  for (size_t c = 0; c < map.columns.size(); ++c) {
    const bool marked = std::find(map.marked_columns.begin(), map.marked_columns.end(),
                                  static_cast<int>(c)) != map.marked_columns.end();
    names.push_back((marked ? "\u0394 " : "") + map.columns[c]);
  }
  std::string out = header(names);
  for (size_t r = 0; r < map.rows.size(); ++r) {
    std::vector<std::string> cells{map.rows[r]};
    for (size_t c = 0; c < map.columns.size(); ++c)
      cells.push_back(map.lower_triangle && c > r ? "" : number(map.cells[r][c].value, map.quantity));
    out += row(cells);
  }
  return out + "\nMeans in " + (map.quantity.unit.empty() ? map.quantity.name : map.quantity.unit) +
         "; the intervals are in the CSV and JSON forms.\n";
}

std::string body(const LineChart& chart) {
  std::vector<std::string> names{chart.x_label};
  for (const auto& series : chart.series) names.push_back(series.name + ": " + with_unit(chart.quantity));
  std::string out = header(names);
  for (size_t i = 0; i < chart.x.size(); ++i) {
    const bool marked =
        std::find(chart.marked.begin(), chart.marked.end(), static_cast<int>(i)) != chart.marked.end();
    std::vector<std::string> cells{(marked ? "\u0394 " : "") + chart.x[i]};
    for (const auto& series : chart.series) cells.push_back(estimate(series.y[i], chart.quantity));
    out += row(cells);
  }
  return out;
}

std::string body(const DotWhisker& chart) {
  std::string out = header({chart.row_label, with_unit(chart.quantity)});
  bool points = false;
  for (const auto& r : chart.rows) {
    out += row({r.name, estimate(r.estimate, chart.quantity)});
    points = points || !r.points.empty();
  }
  for (const auto& limit : chart.limits) out += row({limit.name, number(limit.value, chart.quantity)});
  if (!points) return out;
  out += "\n" + header({chart.row_label, "Sample", with_unit(chart.quantity)});
  for (const auto& r : chart.rows)
    for (const auto& [name, value] : r.points) out += row({r.name, name, number(value, chart.quantity)});
  return out;
}

std::string body(const Scatter& chart) {
  std::string out = header({"", with_unit(chart.x), with_unit(chart.y)});
  for (const auto& series : chart.series)
    for (const auto& point : series.points)
      out += row({series.name + ": " + point.name, number(point.x, chart.x), estimate(point.y, chart.y)});
  return out;
}

}  // namespace

std::string markdown(const Report& report) {
  std::string out = fmt::format("# {}\n\n{}\n", escape(report.title), escape(report.subtitle));
  for (const Section& section : report.sections) {
    out += fmt::format("\n## {}\n", escape(section.title));
    if (!section.intro.empty()) out += "\n" + escape(section.intro) + "\n";
    for (const Figure& figure : section.figures) {
      out += fmt::format("\n### {}{}\n\n", figure.label.empty() ? "" : figure.label + ": ",
                         escape(figure.title));
      out += std::visit([](const auto& x) { return body(x); }, figure.body);
      std::string notes = figure.caption;
      if (!figure.counts.empty()) notes += (notes.empty() ? "n: " : " n: ") + figure.counts + ".";
      if (!figure.interval.empty()) notes += (notes.empty() ? "" : " ") + figure.interval;
      if (!notes.empty()) out += "\n" + escape(notes) + "\n";
    }
  }
  return out;
}

}  // namespace deltacal::reports
