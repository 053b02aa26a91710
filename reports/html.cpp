// The page. It is written as well-formed XML too, so that a plain parser can check it.
#include <fmt/format.h>

#include "reports/format.h"
#include "reports/report.h"
#include "reports/style.h"
#include "reports/svg/svg.h"

namespace deltacal::reports {
namespace {

template <class... Fs>
struct overloaded : Fs... {
  using Fs::operator()...;
};

double pixels(Width width) {
  return width == Width::full ? 1040 : width == Width::half ? 508 : 334;
}
const char* name_of(Width width) {
  return width == Width::full ? "full" : width == Width::half ? "half" : "third";
}

std::string fact(const Facts::Fact& f) {
  const char* tone = f.tone == Facts::Tone::good ? " good" : f.tone == Facts::Tone::bad ? " bad" : "";
  std::string value, detail = escape_html(f.detail);
  bool is_long = false;
  if (const auto* text = std::get_if<std::string>(&f.value)) {
    value = escape_html(*text);
    is_long = text->size() > 16;
  } else {
    const auto& e = std::get<Estimate>(f.value);
    value = number(e.value, f.quantity);
    if (e.has_interval())
      detail = fmt::format("{} to {}{}{}", number(e.low, f.quantity), number(e.high, f.quantity),
                           detail.empty() ? "" : "; ", detail);
  }
  return fmt::format(
      "<div class=\"fact{}\"><div class=\"what\">{}</div><div class=\"value{}\">{}</div>"
      "<div class=\"detail\">{}</div></div>",
      tone, escape_html(with_unit(f.quantity)), is_long ? " long" : "", value, detail);
}

std::string draw(const Facts& facts) {
  std::string out = "<div class=\"facts\">";
  for (const auto& f : facts.facts) out += fact(f);
  return out + "</div>";
}

std::string draw(const Text& text) {
  std::string out;
  for (const auto& paragraph : text.paragraphs) out += "<p>" + escape_html(paragraph) + "</p>";
  return out;
}

// A column of numbers is set to the right.
bool is_numeric(const Table& table, size_t column) {
  for (const auto& row : table.rows)
    if (std::holds_alternative<std::string>(row[column])) return false;
  return !table.rows.empty();
}

std::string table_cell(const Cell& c, const Quantity& quantity, bool numeric) {
  if (const auto* text = std::get_if<std::string>(&c))
    return fmt::format("<td{}>{}</td>", text->size() <= 24 ? " class=\"short\"" : "", escape_html(*text));
  const auto& e = std::get<Estimate>(c);
  std::string shown = number(e.value, quantity);
  if (e.has_interval())
    shown += fmt::format(" <span class=\"ci\">({} to {})</span>", number(e.low, quantity),
                         number(e.high, quantity));
  return fmt::format("<td class=\"{}\">{}</td>", numeric ? "num" : "short", shown);
}

std::string draw(const Table& table) {
  // many columns: intervals below their numbers
  std::string out = table.columns.size() > 6 ? "<table class=\"dense\"><thead><tr>" : "<table><thead><tr>";
  std::vector<bool> numeric;
  for (size_t c = 0; c < table.columns.size(); ++c) {
    numeric.push_back(is_numeric(table, c));
    const Quantity& q = table.columns[c];
    out += fmt::format(
        "<th scope=\"col\"{}>{}{}</th>", numeric[c] ? " class=\"num\"" : "", escape_html(q.name),
        q.unit.empty() ? "" : fmt::format(" <span class=\"unit\">{}</span>", escape_html(q.unit)));
  }
  out += "</tr></thead><tbody>";
  for (const auto& row : table.rows) {
    out += "<tr>";
    for (size_t c = 0; c < row.size(); ++c) out += table_cell(row[c], table.columns[c], numeric[c]);
    out += "</tr>";
  }
  return out + "</tbody></table>";
}

std::string draw_body(const Figure& figure) {
  const auto picture = [&](const auto& chart) { return svg(chart, pixels(figure.width), figure.title); };
  return std::visit(
      overloaded{[](const Facts& x) { return draw(x); }, [](const Text& x) { return draw(x); },
                 [](const Table& x) { return draw(x); }, [&](const Strip& x) { return picture(x); },
                 [&](const Heatmap& x) { return picture(x); }, [&](const LineChart& x) { return picture(x); },
                 [&](const DotWhisker& x) { return picture(x); },
                 [&](const Scatter& x) { return picture(x); }},
      figure.body);
}

std::string caption(const Figure& figure) {
  std::string out = escape_html(figure.caption);
  const auto add = [&](const std::string& text) {
    if (!text.empty()) out += (out.empty() ? "" : " ") + text;
  };
  if (!figure.counts.empty()) add(fmt::format("<span class=\"n\">n: {}.</span>", escape_html(figure.counts)));
  add(escape_html(figure.interval));
  return out.empty() ? "" : "<figcaption>" + out + "</figcaption>";
}

std::string draw(const Figure& figure) {
  const std::string label =
      figure.label.empty() ? "" : fmt::format("<span class=\"label\">{}</span>", escape_html(figure.label));
  const bool fits = figure.width != Width::full;
  return fmt::format(
      "<figure id=\"{}\" class=\"{}\"><h3>{}{}</h3><div class=\"scroll{}\">{}</div>{}</figure>\n", figure.id,
      name_of(figure.width), label, escape_html(figure.title), fits ? " fits" : "", draw_body(figure),
      caption(figure));
}

constexpr const char* hatch =
    "<svg width=\"0\" height=\"0\" aria-hidden=\"true\" style=\"position:absolute\"><defs><pattern "
    "id=\"hatch\" width=\"5\" "
    "height=\"5\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><rect width=\"5\" "
    "height=\"5\" "
    "style=\"fill:var(--panel)\"/><path d=\"M0 0v5\" "
    "style=\"stroke:var(--soft);stroke-opacity:.6\"/></pattern></defs></svg>";

}  // namespace

std::string html(const Report& report) {
  std::string out = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>"
      "<meta name=\"viewport\" content=\"width=device-width, "
      "initial-scale=1\"/><title>{}</title><style>{}</style></head>\n"
      "<body>{}<header><h1>{}</h1><p class=\"subtitle\">{}</p><nav>",
      escape_html(report.title), style_sheet, hatch, escape_html(report.title), escape_html(report.subtitle));
  for (const Section& section : report.sections)
    out += fmt::format("<a href=\"#{}\">{}</a> ", section.id, escape_html(section.title));
  out += "</nav></header>\n<main>";
  for (const Section& section : report.sections) {
    out += fmt::format("<section id=\"{}\"><h2>{}</h2>", section.id, escape_html(section.title));
    if (!section.intro.empty()) out += "<p class=\"intro\">" + escape_html(section.intro) + "</p>";
    out += "<div class=\"grid\">\n";
    for (const Figure& figure : section.figures) out += draw(figure);
    out += "</div></section>\n";
  }
  return out + "</main></body></html>\n";
}

}  // namespace deltacal::reports
