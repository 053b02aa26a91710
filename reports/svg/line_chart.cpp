#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "reports/format.h"
#include "reports/svg/canvas.h"
#include "reports/svg/svg.h"

namespace deltacal::reports {
namespace {

constexpr double left = 58, right_margin = 10, legend_line = 16, plot_height = 190;

struct Layout {
  double x0, x1, top, bottom;
  size_t n;
  double x(double i) const {
    return x0 + (i + 0.5) * (x1 - x0) / static_cast<double>(std::max<size_t>(n, 1));
  }
};

Axis value_axis(const LineChart& chart) {
  double least = INFINITY, most = -INFINITY;
  for (const auto& series : chart.series)
    for (const Estimate& e : series.y)
      for (const double v : {e.value, e.low, e.high})
        if (std::isfinite(v)) least = std::min(least, v), most = std::max(most, v);
  if (chart.from_zero && least <= most) least = std::min(least, 0.0), most = std::max(most, 0.0);
  const double pad = least <= most ? 0.04 * (most - least) : 0;
  return make_axis(chart.from_zero && least == 0 ? 0 : least - pad, most + pad, 6);
}

// Rows of the legend above the plot; returns the y below it. Nothing for a single series: the title names it.
double draw_legend(Canvas& canvas, const LineChart& chart, double width) {
  if (chart.series.size() < 2) return 14;
  double x = left, y = 12;
  for (size_t s = 0; s < chart.series.size(); ++s) {
    const std::string name = shortened(chart.series[s].name, 40);
    const double need = 24 + 6.2 * static_cast<double>(std::min<size_t>(length(chart.series[s].name), 40));
    if (x > left && x + need > width) x = left, y += legend_line;
    canvas.mark(x + 5, y - 4, 3.6, s);
    canvas.text(x + 13, y, name);
    x += need;
  }
  return y + legend_line;
}

void draw_frame(Canvas& canvas, const LineChart& chart, const Layout& at, const Axis& axis) {
  for (const double tick : axis.ticks) {
    canvas.line(at.x0, axis.at(tick), at.x1, axis.at(tick), tick == 0 ? "zero" : "grid");
    canvas.text(at.x0 - 6, axis.at(tick) + 3.5, axis.label(tick), Anchor::end);
  }
  size_t longest = 1;
  for (const auto& name : chart.x) longest = std::max(longest, length(name));
  const double step_px = (at.x1 - at.x0) / static_cast<double>(std::max<size_t>(at.n, 1));
  size_t stride = 1;
  for (const size_t s : {1, 2, 5, 10, 20, 50, 100, 200}) {
    stride = s;
    if (static_cast<double>(s) * step_px >= 6.2 * static_cast<double>(longest) + 4) break;
  }
  for (size_t i = 0; i < at.n; i += stride)
    canvas.text(at.x(static_cast<double>(i)), at.bottom + 14, chart.x[i], Anchor::middle);
  for (const int i : chart.marked) {
    canvas.line(at.x(i), at.top, at.x(i), at.bottom, "delta-line");
    canvas.path(fmt::format("M{:.1f} {:.1f}l4 -7h-8z", at.x(i), at.top), "delta-mark",
                "\u0394-layer " + chart.x[static_cast<size_t>(i)]);
  }
  canvas.line(at.x0, at.bottom, at.x1, at.bottom, "frame");
  canvas.text((at.x0 + at.x1) / 2, at.bottom + 31, chart.x_label, Anchor::middle, "axis");
  canvas.text_upwards(11, (at.top + at.bottom) / 2, with_unit(chart.quantity), Anchor::middle, "axis");
}

std::string tooltip(const LineChart& chart, const LineChart::Series& series, size_t i) {
  return fmt::format("{} {}, {}: {}", chart.x_label, chart.x[i], series.name,
                     estimate(series.y[i], chart.quantity));
}

// Runs of defined values: a gap in the data is a gap in the line.
void draw_band(Canvas& canvas, const LineChart& chart, size_t s, const Layout& at, const Axis& axis) {
  const auto& y = chart.series[s].y;
  for (size_t first = 0; first < y.size(); ++first) {
    if (!y[first].has_value()) continue;
    size_t end = first;
    std::string line, upper, lower;
    bool band = true;
    for (; end < y.size() && y[end].has_value(); ++end) {
      const double x = at.x(static_cast<double>(end));
      line += fmt::format("{}{:.1f} {:.1f}", end == first ? "M" : "L", x, axis.at(y[end].value));
      band = band && y[end].has_interval();
      if (!band) continue;
      upper += fmt::format("{}{:.1f} {:.1f}", end == first ? "M" : "L", x, axis.at(y[end].high));
      lower.insert(0, fmt::format("L{:.1f} {:.1f}", x, axis.at(y[end].low)));
    }
    if (band) canvas.path(upper + lower + "z", "band " + series_class(s));
    canvas.path(line, "curve " + series_class(s));
    first = end;
  }
  for (size_t i = 0; i < y.size(); ++i)
    if (y[i].has_value())
      canvas.mark(at.x(static_cast<double>(i)), axis.at(y[i].value), y.size() > 40 ? 2 : 2.6, s,
                  tooltip(chart, chart.series[s], i));
}

void draw_whiskers(Canvas& canvas, const LineChart& chart, size_t s, const Layout& at, const Axis& axis) {
  const auto& series = chart.series[s];
  const double n = static_cast<double>(chart.series.size());
  const double spread = std::min(0.6, 7 * n / std::max(1.0, at.x(1) - at.x(0)));  // in steps of the axis
  const double shift = n > 1 ? spread * (static_cast<double>(s) / (n - 1) - 0.5) : 0;
  for (size_t i = 0; i < series.y.size(); ++i) {
    const Estimate& e = series.y[i];
    if (!e.has_value()) continue;
    const double x = at.x(static_cast<double>(i) + shift);
    if (e.has_interval()) canvas.line(x, axis.at(e.low), x, axis.at(e.high), "whisker " + series_class(s));
    canvas.mark(x, axis.at(e.value), at.n > 40 ? 2.4 : 3.4, s, tooltip(chart, series, i));
  }
}

}  // namespace

std::string svg(const LineChart& chart, double width, const std::string& title) {
  Canvas canvas;
  width =
      std::min(width, left + right_margin + 180 * static_cast<double>(std::max<size_t>(chart.x.size(), 2)));
  double top = draw_legend(canvas, chart, width);
  if (!chart.marked.empty()) top += 4;
  const Layout at{left, width - right_margin, top, top + plot_height, chart.x.size()};
  Axis axis = value_axis(chart);
  axis.begin = at.bottom;
  axis.end = at.top;
  draw_frame(canvas, chart, at, axis);
  for (size_t s = 0; s < chart.series.size(); ++s)
    chart.style == LineChart::Style::band ? draw_band(canvas, chart, s, at, axis)
                                          : draw_whiskers(canvas, chart, s, at, axis);
  return canvas.svg(width, at.bottom + 38, title);
}

}  // namespace deltacal::reports
