#include "text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "core/error.h"

namespace deltacal::text {
namespace {

// Below U+0300 every character is a starter that never composes with the one before it.
constexpr utf8proc_int32_t first_combining_mark = 0x300;

utf8proc_ssize_t next(std::string_view text, size_t at, utf8proc_int32_t* codepoint) {
  return utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at,
                          static_cast<utf8proc_ssize_t>(text.size() - at), codepoint);
}

utf8proc_propval_t combining_class(utf8proc_int32_t codepoint) {
  return utf8proc_get_property(codepoint)->combining_class;
}

// Full canonical decomposition; marks between two starters in the order of their class. Done here because
// utf8proc_decompose() sorts with exchanges of neighbours, which is quadratic in the length of a run of
// marks.
std::vector<utf8proc_int32_t> decomposed(std::string_view text) {
  std::vector<utf8proc_int32_t> out;
  out.reserve(text.size());
  size_t run = 0;  // where the current run of marks starts
  const auto by_class = [](utf8proc_int32_t a, utf8proc_int32_t b) {
    return combining_class(a) < combining_class(b);
  };
  const auto end_run = [&](size_t end) {
    if (end - run > 1) std::stable_sort(out.begin() + run, out.begin() + end, by_class);
  };
  utf8proc_int32_t codepoint = 0;
  for (size_t at = 0; at < text.size(); at += next(text, at, &codepoint)) {
    next(text, at, &codepoint);
    std::array<utf8proc_int32_t, 8> parts{};  // the longest canonical decomposition has 4
    int boundary = 0;
    const auto n = utf8proc_decompose_char(
        codepoint, parts.data(), parts.size(),
        static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE), &boundary);
    for (utf8proc_ssize_t i = 0; i < n; ++i) {
      if (combining_class(parts[i]) == 0) {
        end_run(out.size());
        run = out.size() + 1;
      }
      out.push_back(parts[i]);
    }
  }
  end_run(out.size());
  return out;
}

}  // namespace

size_t well_formed_prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      ++at;
      continue;
    }
    utf8proc_int32_t codepoint = 0;
    const auto n = next(text, at, &codepoint);
    if (n <= 0) break;
    at += static_cast<size_t>(n);
  }
  return at;
}

std::string nfc(std::string_view text) {
  bool inert = true;
  utf8proc_int32_t codepoint = 0;
  for (size_t at = 0; inert && at < text.size();) {
    at += next(text, at, &codepoint);
    inert = codepoint < first_combining_mark;
  }
  if (inert) return std::string(text);

  auto points = decomposed(text);
  const auto n = utf8proc_normalize_utf32(points.data(), static_cast<utf8proc_ssize_t>(points.size()),
                                          static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (n < 0) throw failure("Unicode normalisation: {}", utf8proc_errmsg(n));
  std::string out;
  out.reserve(text.size());
  for (utf8proc_ssize_t i = 0; i < n; ++i) {
    std::array<utf8proc_uint8_t, 4> bytes{};
    out.append(reinterpret_cast<const char*>(bytes.data()), utf8proc_encode_char(points[i], bytes.data()));
  }
  return out;
}

}  // namespace deltacal::text
