#include "reports/svg/canvas.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>

#include "reports/format.h"

namespace deltacal::reports {
namespace {

std::string px(double v) {
  const double tenths = std::round(v * 10) / 10;
  return fmt::format("{}", tenths == 0 ? 0.0 : tenths);
}

std::string class_attribute(std::string_view classes) {
  return classes.empty() ? "" : fmt::format(" class=\"{}\"", classes);
}

std::string closing(const char* element, std::string_view tooltip) {
  if (tooltip.empty()) return "/>";
  return fmt::format("><title>{}</title></{}>", escape_html(tooltip), element);
}

const char* name_of(Anchor anchor) {
  return anchor == Anchor::start ? "start" : anchor == Anchor::middle ? "middle" : "end";
}

}  // namespace

void Canvas::text(double x, double y, std::string_view text, Anchor anchor, std::string_view classes) {
  body_ += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"{}\"{}>{}</text>", px(x), px(y),
                       name_of(anchor), class_attribute(classes), escape_html(text));
}

void Canvas::text_upwards(double x, double y, std::string_view text, Anchor anchor,
                          std::string_view classes) {
  body_ += fmt::format("<text transform=\"translate({} {}) rotate(-90)\" text-anchor=\"{}\"{}>{}</text>",
                       px(x), px(y), name_of(anchor), class_attribute(classes), escape_html(text));
}

void Canvas::line(double x1, double y1, double x2, double y2, std::string_view classes) {
  body_ +=
      fmt::format("<path d=\"M{} {}L{} {}\"{}/>", px(x1), px(y1), px(x2), px(y2), class_attribute(classes));
}

void Canvas::rect(double x, double y, double w, double h, std::string_view classes,
                  std::string_view tooltip) {
  body_ += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"{}{}", px(x), px(y), px(w), px(h),
                       class_attribute(classes), closing("rect", tooltip));
}

// Cells are many: a path is the shortest element for them.
void Canvas::filled(double x, double y, double w, double h, std::string_view colour,
                    std::string_view tooltip) {
  body_ += fmt::format("<path fill=\"{}\" d=\"M{} {}h{}v{}h-{}z\"{}", colour, px(x), px(y), px(w), px(h),
                       px(w), closing("path", tooltip));
}

void Canvas::path(std::string_view d, std::string_view classes, std::string_view tooltip) {
  body_ += fmt::format("<path d=\"{}\"{}{}", d, class_attribute(classes), closing("path", tooltip));
}

void Canvas::mark(double x, double y, double r, size_t series, std::string_view tooltip) {
  const std::string classes = "mark " + series_class(series);
  switch (series % 4) {
    case 0:
      return dot(x, y, r, classes, tooltip);
    case 1:
      return rect(x - r * 0.9, y - r * 0.9, 1.8 * r, 1.8 * r, classes, tooltip);
    case 2:
      return path(fmt::format("M{} {}L{} {}L{} {}L{} {}z", px(x), px(y - 1.3 * r), px(x + 1.3 * r), px(y),
                              px(x), px(y + 1.3 * r), px(x - 1.3 * r), px(y)),
                  classes, tooltip);
    default:
      return path(fmt::format("M{} {}L{} {}L{} {}z", px(x), px(y - 1.2 * r), px(x + 1.2 * r), px(y + r),
                              px(x - 1.2 * r), px(y + r)),
                  classes, tooltip);
  }
}

void Canvas::dot(double x, double y, double r, std::string_view classes, std::string_view tooltip) {
  body_ += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"{}\"{}{}", px(x), px(y), px(r),
                       class_attribute(classes), closing("circle", tooltip));
}

std::string Canvas::svg(double width, double height, const std::string& title) const {
  return fmt::format(
      "<svg role=\"img\" aria-label=\"{}\" viewBox=\"0 0 {} {}\" width=\"{}\" height=\"{}\">{}</svg>",
      escape_html(title), px(width), px(height), px(width), px(height), body_);
}

std::string Axis::label(double tick) const {
  const std::string text = fmt::format("{:.{}f}", std::abs(tick) < 1e-12 ? 0.0 : std::abs(tick), decimals);
  return tick < -1e-12 ? "\u2212" + text : text;
}

Axis make_axis(double least, double most, int n_ticks) {
  if (!(least <= most)) least = 0, most = 1;  // no value at all
  if (const double size = std::max(std::abs(least), std::abs(most));
      most - least < 1e-6 * std::max(size, 1e-6)) {
    const double pad = size > 0 ? 0.1 * size : 1;
    least -= pad;
    most += pad;
  }
  const double raw = (most - least) / std::max(n_ticks, 1);
  const double power = std::pow(10, std::floor(std::log10(raw)));
  const double step = raw / power <= 1   ? power
                      : raw / power <= 2 ? 2 * power
                      : raw / power <= 5 ? 5 * power
                                         : 10 * power;
  Axis axis;
  axis.from = least;
  axis.to = most;
  axis.decimals = std::clamp(-static_cast<int>(std::floor(std::log10(step) + 1e-9)), 0, 12);
  for (double i = std::ceil(least / step - 1e-9); i * step <= most + 1e-9 * step; ++i)
    axis.ticks.push_back(i * step);
  return axis;
}

// viridis of matplotlib (S. van der Walt and N. Smith, CC0): uniform in lightness, readable with any colour
// vision and in grey. Sixteen of its entries, linear between them.
std::string viridis(double share) {
  using Colour = std::array<int, 3>;
  static constexpr std::array<Colour, 16> entries{{{68, 1, 84},
                                                   {72, 26, 108},
                                                   {71, 47, 125},
                                                   {65, 68, 135},
                                                   {57, 86, 140},
                                                   {49, 104, 142},
                                                   {42, 120, 142},
                                                   {35, 136, 142},
                                                   {31, 152, 139},
                                                   {34, 168, 132},
                                                   {53, 183, 121},
                                                   {84, 197, 104},
                                                   {122, 209, 81},
                                                   {165, 219, 54},
                                                   {210, 226, 27},
                                                   {253, 231, 37}}};
  const double place = std::clamp(share, 0.0, 1.0) * (entries.size() - 1);
  const auto low = std::min(static_cast<size_t>(place), entries.size() - 2);
  const double t = place - static_cast<double>(low);
  std::string colour = "#";
  for (size_t i = 0; i < 3; ++i)
    colour += fmt::format("{:02x}",
                          static_cast<int>(std::lround((1 - t) * entries[low][i] + t * entries[low + 1][i])));
  return colour;
}

std::string series_class(size_t series) {
  return fmt::format("s{}", series % 6);
}

}  // namespace deltacal::reports
