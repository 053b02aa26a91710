#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "reports/format.h"
#include "reports/svg/canvas.h"
#include "reports/svg/svg.h"

namespace deltacal::reports {
namespace {

constexpr double bars_top = 34, bars_height = 70, cell_height = 26;

const char* letter(Role role) {
  return role == Role::full ? "F" : role == Role::delta ? "\u0394" : "S";
}

std::string describe(const Strip& strip, size_t i) {
  const auto& layer = strip.layers[i];
  if (layer.role == Role::full) return fmt::format("layer {}: full", i);
  if (layer.role == Role::delta)
    return fmt::format("layer {}: \u0394, list of {} pages, newest {}, serves {}", i, layer.k_pages,
                       layer.l_pages, layers_served(strip, static_cast<int>(i)));
  return fmt::format("layer {}: sparse, {} pages of the list of layer {}", i, layer.k_pages, layer.source);
}

void draw_legend(Canvas& canvas, double left) {
  double x = left;
  for (const Role role : {Role::full, Role::delta, Role::sparse}) {
    canvas.rect(x, 4, 12, 12, "role-" + name_of(role));
    const std::string text = role == Role::full    ? "full"
                             : role == Role::delta ? "\u0394 (makes the list)"
                                                   : "sparse (k pages, bar above)";
    canvas.text(x + 17, 14, text);
    x += 34 + 6.4 * static_cast<double>(text.size());
  }
}

// The layers one Δ-layer serves are consecutive: sources never cross.
void draw_bracket(Canvas& canvas, const Strip& strip, size_t delta, double left, double w, double y) {
  size_t last = delta;
  while (last + 1 < strip.layers.size() && strip.layers[last + 1].role != Role::delta) ++last;
  while (last > delta && strip.layers[last].source != static_cast<int>(delta)) --last;
  const double a = left + (static_cast<double>(delta) + 0.5) * w,
               b = left + (static_cast<double>(last) + 1) * w - 2;
  if (last > delta)
    canvas.path(fmt::format("M{:.1f} {:.1f}v7H{:.1f}v-7", a, y, b), "bracket", describe(strip, delta));
  const auto& layer = strip.layers[delta];
  std::string text = fmt::format("list {}, L {}", layer.k_pages, layer.l_pages);
  const double room = b - a;
  if (room > 6.2 * static_cast<double>(text.size())) {
    canvas.text((a + b) / 2, y + 20, text, Anchor::middle);
  } else if (room > 34) {
    canvas.text((a + b) / 2, y + 20, fmt::format("{}", layer.k_pages), Anchor::middle);
    canvas.text((a + b) / 2, y + 32, fmt::format("L {}", layer.l_pages), Anchor::middle);
  }
}

}  // namespace

std::string svg(const Strip& strip, double width, const std::string& title) {
  Canvas canvas;
  const double left = 46, n = static_cast<double>(std::max<size_t>(strip.layers.size(), 1));
  const double w = std::min((width - left - 4) / n, 60.0);
  int most = 1;
  for (const auto& layer : strip.layers)
    if (layer.role == Role::sparse) most = std::max(most, layer.k_pages);
  const double cells = bars_top + bars_height, names = cells + cell_height;
  draw_legend(canvas, left);
  canvas.text(left - 8, cells - 4, "k", Anchor::end, "axis");
  canvas.text(left - 8, cells + 17, "role", Anchor::end, "axis");
  canvas.text(left - 8, names + 14, "layer", Anchor::end, "axis");
  canvas.text(left - 8, names + 30, "list", Anchor::end, "axis");
  for (size_t i = 0; i < strip.layers.size(); ++i) {
    const auto& layer = strip.layers[i];
    const double x = left + static_cast<double>(i) * w, middle = x + w / 2;
    if (layer.role == Role::sparse) {
      const double h = 4 + (bars_height - 24) * std::log2(1.0 + layer.k_pages) / std::log2(1.0 + most);
      canvas.rect(x + 0.14 * w, cells - h - 2, 0.72 * w, h, "bar", describe(strip, i));
      const std::string k = fmt::format("{}", layer.k_pages);
      if (w >= 20)
        canvas.text(middle, cells - h - 6, k, Anchor::middle, "number");
      else
        canvas.text_upwards(middle + 3.5, cells - h - 5, k, Anchor::start, "number");
    }
    canvas.rect(x + 0.5, cells, w - 1, cell_height, "role-" + name_of(layer.role), describe(strip, i));
    if (w >= 11) canvas.text(middle, cells + 17, letter(layer.role), Anchor::middle, "role-letter");
    if (w >= 16 || i % (w >= 8 ? 2 : 5) == 0)
      canvas.text(middle, names + 14, fmt::format("{}", i), Anchor::middle);
    if (layer.role == Role::delta) draw_bracket(canvas, strip, i, left, w, names + 20);
  }
  return canvas.svg(std::max(left + n * w + 4, 420.0), names + 58, title);
}

}  // namespace deltacal::reports
