#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "reports/format.h"
#include "reports/svg/canvas.h"
#include "reports/svg/svg.h"

namespace deltacal::reports {
namespace {

constexpr double row_height = 30, top = 18;

Axis value_axis(const DotWhisker& chart) {
  double least = 0, most = 0;  // a difference is read against 0
  const auto take = [&](double v) {
    if (std::isfinite(v)) least = std::min(least, v), most = std::max(most, v);
  };
  for (const auto& row : chart.rows) {
    for (const double v : {row.estimate.value, row.estimate.low, row.estimate.high}) take(v);
    for (const auto& [name, value] : row.points) take(value);
  }
  for (const auto& limit : chart.limits) take(limit.value);
  const double pad = 0.04 * (most - least);
  return make_axis(least - pad, most + pad, 4);
}

void draw_row(Canvas& canvas, const DotWhisker& chart, size_t r, double y, double left, const Axis& axis,
              double text_x) {
  const auto& row = chart.rows[r];
  const std::string shown = estimate(row.estimate, chart.quantity);
  canvas.text(left - 8, y + 4, shortened(row.name, 18), Anchor::end, "name");
  for (const auto& [name, value] : row.points)
    canvas.dot(axis.at(value), y, 3, "point " + series_class(r),
               fmt::format("{}: {}", name, number(value, chart.quantity)));
  if (row.estimate.has_interval()) {
    const double a = axis.at(row.estimate.low), b = axis.at(row.estimate.high);
    canvas.line(a, y, b, y, "whisker " + series_class(r));
    canvas.line(a, y - 4, a, y + 4, "whisker " + series_class(r));
    canvas.line(b, y - 4, b, y + 4, "whisker " + series_class(r));
  }
  if (row.estimate.has_value())
    canvas.mark(axis.at(row.estimate.value), y, 4.4, r, fmt::format("{}: {}", row.name, shown));
  canvas.text(text_x, y + 4, shown, Anchor::start, "number");
}

}  // namespace

std::string svg(const DotWhisker& chart, double width, const std::string& title) {
  Canvas canvas;
  size_t name = 4, shown = 4;
  for (const auto& row : chart.rows) {
    name = std::max(name, std::min<size_t>(length(row.name), 18));
    shown = std::max(shown, length(estimate(row.estimate, chart.quantity)));
  }
  const double left = 14 + 6.6 * static_cast<double>(name);
  const double right = width - 12 - 6.3 * static_cast<double>(shown);
  const double bottom = top + row_height * static_cast<double>(chart.rows.size());
  Axis axis = value_axis(chart);
  axis.begin = left + 4;
  axis.end = std::max(right - 8, left + 60);
  for (const double tick : axis.ticks) {
    canvas.line(axis.at(tick), top, axis.at(tick), bottom, tick == 0 ? "zero" : "grid");
    canvas.text(axis.at(tick), bottom + 14, axis.label(tick), Anchor::middle);
  }
  for (const auto& limit : chart.limits) {
    canvas.line(axis.at(limit.value), top - 4, axis.at(limit.value), bottom, "limit");
    canvas.text(axis.at(limit.value), top - 7, limit.name, Anchor::middle, "limit-name");
  }
  for (size_t r = 0; r < chart.rows.size(); ++r)
    draw_row(canvas, chart, r, top + row_height * (static_cast<double>(r) + 0.5), left, axis, axis.end + 10);
  canvas.line(left, bottom, axis.end, bottom, "frame");
  canvas.text((left + axis.end) / 2, bottom + 31, with_unit(chart.quantity), Anchor::middle, "axis");
  return canvas.svg(width, bottom + 38, title);
}

}  // namespace deltacal::reports
