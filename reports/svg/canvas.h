// A little paper to draw on: the SVG elements the figures need, with escaped text, and value axes.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "reports/model.h"

namespace deltacal::reports {

enum class Anchor { start, middle, end };

class Canvas {
 public:
  void text(double x, double y, std::string_view text, Anchor = Anchor::start, std::string_view classes = "");
  void text_upwards(double x, double y, std::string_view text, Anchor = Anchor::middle,
                    std::string_view classes = "");
  void line(double x1, double y1, double x2, double y2, std::string_view classes);
  void rect(double x, double y, double w, double h, std::string_view classes, std::string_view tooltip = "");
  void filled(double x, double y, double w, double h, std::string_view colour, std::string_view tooltip = "");
  void path(std::string_view d, std::string_view classes, std::string_view tooltip = "");
  // The series' own mark (disc, square, diamond, triangle ...), so that colour is never the only difference.
  void mark(double x, double y, double radius, size_t series, std::string_view tooltip = "");
  void dot(double x, double y, double radius, std::string_view classes, std::string_view tooltip = "");

  void open_group(std::string_view classes) { body_ += "<g class=\"" + std::string(classes) + "\">"; }
  void close_group() { body_ += "</g>"; }

  std::string svg(double width, double height, const std::string& title) const;

 private:
  std::string body_;
};

// A linear value axis: round ticks and the place of a value.
struct Axis {
  double from = 0, to = 1;    // values at the ends
  double begin = 0, end = 1;  // their places in pixels
  std::vector<double> ticks;
  int decimals = 0;  // of tick labels
  double at(double value) const { return begin + (value - from) / (to - from) * (end - begin); }
  std::string label(double tick) const;
};

// Covers [least, most] and a little more, with about `n_ticks` round ticks.
Axis make_axis(double least, double most, int n_ticks);

// The perceptually uniform colour of a share in 0..1, "#rrggbb".
std::string viridis(double share);

std::string series_class(size_t series);  // "s0".."s5"

}  // namespace deltacal::reports
