#include "reports/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace deltacal::reports {
namespace {
constexpr const char* minus = "\u2212";
constexpr const char* dash = "\u2013";
bool starts(char c) {
  return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
}  // a code point, in UTF-8
}  // namespace

std::string number(double value, const Quantity& quantity) {
  if (!std::isfinite(value)) return dash;
  const double size = std::abs(value);
  if (size == 0) return "0";
  if (quantity.decimals == 0 && size < 1e15 && size == std::floor(size) && !quantity.with_sign)
    return grouped(static_cast<long long>(value));
  const double smallest_shown = 0.5 * std::pow(10.0, -quantity.decimals);
  std::string digits = size < smallest_shown ? fmt::format("{:.1e}", size)
                       : size >= 1e7         ? fmt::format("{:.4g}", size)
                                             : fmt::format("{:.{}f}", size, quantity.decimals);
  const std::string sign = value < 0 ? minus : quantity.with_sign && value > 0 ? "+" : "";
  return sign + digits;
}

std::string estimate(const Estimate& e, const Quantity& quantity) {
  if (!e.has_interval()) return number(e.value, quantity);
  return fmt::format("{} ({} to {})", number(e.value, quantity), number(e.low, quantity),
                     number(e.high, quantity));
}

std::string cell(const Cell& c, const Quantity& quantity) {
  if (const auto* text = std::get_if<std::string>(&c)) return *text;
  return estimate(std::get<Estimate>(c), quantity);
}

std::string exact(double value) {
  return std::isfinite(value) ? fmt::format("{}", value) : "";
}

std::string grouped(long long count) {
  std::string digits = fmt::format("{}", count < 0 ? -count : count);
  for (int at = static_cast<int>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<size_t>(at), ",");
  return count < 0 ? minus + digits : digits;
}

std::string with_unit(const Quantity& quantity) {
  return quantity.unit.empty() ? quantity.name : fmt::format("{} ({})", quantity.name, quantity.unit);
}

std::string escape_html(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 8);
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '\n':
      case '\t':
        out += ' ';
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
          out += "\uFFFD";
        else
          out += c;
    }
  }
  return out;
}

size_t length(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), starts));
}

std::string shortened(std::string_view text, size_t n) {
  if (length(text) <= n) return std::string(text);
  size_t seen = 0, end = 0;
  while (end < text.size() && !(starts(text[end]) && seen + 1 == n)) seen += starts(text[end++]) ? 1 : 0;
  return std::string(text.substr(0, end)) + "\u2026";
}

}  // namespace deltacal::reports
