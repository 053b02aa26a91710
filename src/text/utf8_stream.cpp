#include "text/utf8_stream.h"

namespace deltacal::text {
namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";

struct Sequence {
  size_t length = 1;  // of the character that this byte starts; 0: no character starts with it
  unsigned char second_low = 0x80, second_high = 0xBF;
};

// Table 3-7 of the Unicode Standard, section 3.9: only the second byte has bounds of its own.
Sequence sequence_of(unsigned char lead) {
  if (lead < 0x80) return {1};
  if (lead < 0xC2) return {0};
  if (lead < 0xE0) return {2};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead < 0xF0) return {3};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead < 0xF4) return {4};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

}  // namespace

std::string Utf8Stream::feed(std::string_view bytes) {
  const std::string text = held_.append(bytes);
  held_.clear();
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Sequence s = sequence_of(static_cast<unsigned char>(text[at]));
    size_t n = 1;
    while (n < s.length && at + n < text.size()) {
      const auto c = static_cast<unsigned char>(text[at + n]);
      const bool fits = n == 1 ? c >= s.second_low && c <= s.second_high : (c & 0xC0) == 0x80;
      if (!fits) break;
      ++n;
    }
    if (n == s.length) {
      out.append(text, at, n);
    } else if (n < s.length && at + n == text.size()) {
      held_ = text.substr(at);
    } else {
      out += replacement;
    }
    at += n;
  }
  return out;
}

std::string Utf8Stream::finish() {
  const bool unfinished = !held_.empty();
  held_.clear();
  return unfinished ? std::string(replacement) : std::string();
}

}  // namespace deltacal::text
