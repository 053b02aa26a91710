#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "reports/format.h"
#include "reports/svg/canvas.h"
#include "reports/svg/svg.h"

namespace deltacal::reports {
namespace {

constexpr double left = 62, right_margin = 12, legend_line = 16, plot_height = 260;

// Decades from the one below the least positive value to the one above the largest.
struct Decades {
  int from = 0, to = 1;  // exponents
  double top = 0, bottom = 1;
  double at(double value) const {
    const double share = value > 0 ? (std::log10(value) - from) / (to - from) : 0;
    return bottom - std::clamp(share, 0.0, 1.0) * (bottom - top);
  }
};

template <class Take>
void each_point(const Scatter& chart, Take take) {
  for (size_t s = 0; s < chart.series.size(); ++s)
    for (const auto& point : chart.series[s].points)
      if (point.y.has_value() && std::isfinite(point.x)) take(s, point);
}

Decades value_axis(const Scatter& chart) {
  double least = INFINITY, most = 0;
  each_point(chart, [&](size_t, const Scatter::Point& p) {
    if (p.y.value > 0) least = std::min(least, p.y.value);  // an end of an interval may lie at the foot
    for (const double v : {p.y.value, p.y.high})
      if (std::isfinite(v)) most = std::max(most, v);
  });
  if (!(least <= most)) return {};
  Decades axis{static_cast<int>(std::floor(std::log10(least))),
               static_cast<int>(std::ceil(std::log10(most)))};
  axis.to = std::max(axis.to, axis.from + 1);
  return axis;
}

Axis ratio_axis(const Scatter& chart) {
  double least = INFINITY, most = -INFINITY;
  each_point(chart, [&](size_t, const Scatter::Point& p) {
    least = std::min(least, p.x), most = std::max(most, p.x);
  });
  const double pad = least <= most ? 0.05 * (most - least) : 0;
  return make_axis(least - pad, most + pad, 8);
}

// Returns the y below it.
double draw_legend(Canvas& canvas, const Scatter& chart, double width) {
  double x = left, y = 12;
  for (size_t s = 0; s < chart.series.size(); ++s) {
    const std::string name = shortened(chart.series[s].name, 40);
    const double need = 24 + 6.2 * static_cast<double>(length(name));
    if (x > left && x + need > width) x = left, y += legend_line;
    canvas.mark(x + 5, y - 4, 3.8, s);
    canvas.text(x + 13, y, name);
    x += need;
  }
  return y + legend_line;
}

void draw_frame(Canvas& canvas, const Scatter& chart, const Axis& x, const Decades& y) {
  for (int decade = y.from; decade <= y.to; ++decade) {
    const double at = y.at(std::pow(10, decade));
    canvas.line(x.begin, at, x.end, at, "grid");
    canvas.text(x.begin - 6, at + 3.5, fmt::format("{:g}", std::pow(10, decade)), Anchor::end);
  }
  for (const double tick : x.ticks) {
    canvas.line(x.at(tick), y.top, x.at(tick), y.bottom, "grid");
    canvas.text(x.at(tick), y.bottom + 14, x.label(tick), Anchor::middle);
  }
  canvas.line(x.begin, y.bottom, x.end, y.bottom, "frame");
  canvas.text((x.begin + x.end) / 2, y.bottom + 31, with_unit(chart.x), Anchor::middle, "axis");
  canvas.text_upwards(11, (y.top + y.bottom) / 2, with_unit(chart.y), Anchor::middle, "axis");
}

}  // namespace

std::string svg(const Scatter& chart, double width, const std::string& title) {
  Canvas canvas;
  width = std::min(width, 760.0);
  Axis x = ratio_axis(chart);
  Decades y = value_axis(chart);
  y.top = draw_legend(canvas, chart, width);
  y.bottom = y.top + plot_height;
  x.begin = left;
  x.end = width - right_margin;
  draw_frame(canvas, chart, x, y);
  for (size_t s = 0; s < chart.series.size(); ++s) {
    std::string line;
    for (const auto& p : chart.series[s].points)
      if (chart.series[s].joined && p.y.has_value() && std::isfinite(p.x))
        line += fmt::format("{}{:.1f} {:.1f}", line.empty() ? "M" : "L", x.at(p.x), y.at(p.y.value));
    if (!line.empty()) canvas.path(line, "curve " + series_class(s));
  }
  each_point(chart, [&](size_t s, const Scatter::Point& p) {
    if (p.y.has_interval())
      canvas.line(x.at(p.x), y.at(p.y.low), x.at(p.x), y.at(p.y.high), "whisker " + series_class(s));
    canvas.mark(x.at(p.x), y.at(p.y.value), 4.2, s,
                fmt::format("{}, {}: {} {}, {}", chart.series[s].name, p.name, chart.x.name,
                            number(p.x, chart.x), estimate(p.y, chart.y)));
  });
  return canvas.svg(width, y.bottom + 38, title);
}

}  // namespace deltacal::reports
