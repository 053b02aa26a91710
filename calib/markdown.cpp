#include "calib/markdown.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

namespace deltacal::calib::markdown {

std::string number(double value, int digits) {
  return std::isnan(value) ? "-" : fmt::format("{:.{}f}", value, digits);
}

std::string interval(const Estimate& estimate, int digits) {
  if (!estimate.low) return number(estimate.mean, digits);
  return fmt::format("{} ({} to {})", number(estimate.mean, digits), number(*estimate.low, digits),
                     number(*estimate.high, digits));
}

std::string interval(const std::optional<Estimate>& estimate, int digits) {
  return estimate ? interval(*estimate, digits) : "-";
}

std::string cell(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '|' ? "\\|" : std::string(1, c);
  return out;
}

std::string row(const std::vector<std::string>& cells) {
  return fmt::format("| {} |\n", fmt::join(cells, " | "));
}

}  // namespace deltacal::calib::markdown
