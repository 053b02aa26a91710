#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "reports/format.h"
#include "reports/svg/canvas.h"
#include "reports/svg/svg.h"

namespace deltacal::reports {
namespace {

constexpr double legend_width = 62, tick_space = 12;

struct Layout {
  double left, top, cell_w, cell_h, right, bottom;
};

Layout layout(const Heatmap& map, double width) {
  size_t longest = 1;
  for (const auto& row : map.rows) longest = std::max(longest, length(row));
  const double left = 26 + 6.5 * static_cast<double>(longest), top = 6;
  const double columns = static_cast<double>(std::max<size_t>(map.columns.size(), 1));
  double cell = std::clamp((width - left - legend_width - 8) / columns, 2.0, 48.0);
  const bool square = map.lower_triangle || map.rows.size() == map.columns.size();
  if (square) cell = std::min(cell, 640 / columns);
  if (cell > 4) cell = std::floor(cell * 2) / 2;
  const double height = square ? cell : std::clamp(cell, 15.0, 26.0);
  return {
      left, top, cell, height, left + columns * cell, top + static_cast<double>(map.rows.size()) * height};
}

// Every how many names one fits.
size_t stride(double cell, size_t longest_name, bool along) {
  const double need = along ? 6.5 * static_cast<double>(longest_name) + 6 : tick_space;
  for (const size_t step : {1, 2, 5, 10, 20, 50, 100, 200})
    if (static_cast<double>(step) * cell >= need) return step;
  return 500;
}

void draw_cells(Canvas& canvas, const Heatmap& map, const Layout& at) {
  canvas.open_group("cells");
  for (size_t r = 0; r < map.rows.size(); ++r) {
    for (size_t c = 0; c < map.columns.size(); ++c) {
      if (map.lower_triangle && c > r) continue;
      const Estimate& e = map.cells[r][c];
      const double x = at.left + static_cast<double>(c) * at.cell_w,
                   y = at.top + static_cast<double>(r) * at.cell_h;
      const std::string place = fmt::format("{}, {}: ", map.rows[r], map.columns[c]);
      if (!e.has_value()) {
        canvas.rect(x, y, at.cell_w, at.cell_h, "undefined", place + "undefined");
        continue;
      }
      std::string tooltip = fmt::format("{}{:.6g}", place, e.value);
      if (e.has_interval()) tooltip += fmt::format(" ({:.5g} to {:.5g})", e.low, e.high);
      canvas.filled(x, y, at.cell_w, at.cell_h,
                    viridis((e.value - map.scale_min) / (map.scale_max - map.scale_min)), tooltip);
    }
  }
  canvas.close_group();
}

// Neighbours in a column share one frame.
void draw_outlines(Canvas& canvas, const Heatmap& map, const Layout& at) {
  auto cells = map.outlined;
  std::sort(cells.begin(), cells.end(),
            [](auto a, auto b) { return std::tie(a.second, a.first) < std::tie(b.second, b.first); });
  for (size_t i = 0; i < cells.size();) {
    const auto [r, c] = cells[i];
    int n = 1;
    while (i + n < cells.size() && cells[i + n] == std::pair(r + n, c)) ++n;
    const double x = at.left + c * at.cell_w, y = at.top + r * at.cell_h;
    for (const char* stroke : {"outline-back", "outline"})
      canvas.rect(x, y, at.cell_w, n * at.cell_h, stroke);
    i += static_cast<size_t>(n);
  }
}

void draw_names(Canvas& canvas, const Heatmap& map, const Layout& at) {
  size_t longest = 1;
  for (const auto& name : map.columns) longest = std::max(longest, length(name));
  const size_t columns = stride(at.cell_w, longest, true);
  const bool square = map.rows == map.columns;  // one set of names: label the same ones
  const size_t rows = square ? std::max(columns, stride(at.cell_h, 1, false)) : stride(at.cell_h, 1, false);
  for (size_t r = 0; r < map.rows.size(); ++r)
    if (r % rows == 0)
      canvas.text(at.left - 5, at.top + (static_cast<double>(r) + 0.5) * at.cell_h + 3.5, map.rows[r],
                  Anchor::end);
  const double below = map.marked_columns.empty() ? 13 : 24;
  for (size_t c = 0; c < map.columns.size(); ++c)
    if (c % columns == 0)
      canvas.text(at.left + (static_cast<double>(c) + 0.5) * at.cell_w, at.bottom + below, map.columns[c],
                  Anchor::middle);
  for (const int c : map.marked_columns) {
    const double x = at.left + (c + 0.5) * at.cell_w;
    canvas.path(fmt::format("M{:.1f} {:.1f}l4.2 7.5h-8.4z", x, at.bottom + 3), "delta-mark",
                "\u0394-layer " + map.columns[static_cast<size_t>(c)]);
  }
  canvas.text((at.left + at.right) / 2, at.bottom + below + 16, map.column_label, Anchor::middle, "axis");
  canvas.text_upwards(11, (at.top + at.bottom) / 2, map.row_label, Anchor::middle, "axis");
}

void draw_legend(Canvas& canvas, const Heatmap& map, const Layout& at) {
  constexpr int steps = 48;
  const double height = std::min(at.bottom - at.top, 240.0), x = at.right + 12, y = at.top;
  for (int i = 0; i < steps; ++i)
    canvas.filled(x, y + height * i / steps, 11, height / steps + 0.4, viridis(1 - (i + 0.5) / steps));
  Axis axis = make_axis(map.scale_min, map.scale_max, height < 100 ? 2 : 5);
  axis.begin = y + height;
  axis.end = y;
  for (const double tick : axis.ticks) {
    canvas.line(x + 11, axis.at(tick), x + 14, axis.at(tick), "tick");
    canvas.text(x + 17, axis.at(tick) + 3.5, axis.label(tick));
  }
}

}  // namespace

std::string svg(const Heatmap& map, double width, const std::string& title) {
  const Layout at = layout(map, width);
  Canvas canvas;
  draw_cells(canvas, map, at);
  draw_outlines(canvas, map, at);
  draw_names(canvas, map, at);
  draw_legend(canvas, map, at);
  return canvas.svg(at.right + legend_width, at.bottom + (map.marked_columns.empty() ? 36 : 47), title);
}

}  // namespace deltacal::reports
