#include "text/byte_alphabet.h"

#include <array>

namespace deltacal::text {
namespace {

struct Alphabet {
  std::array<std::string, 256> letter;  // of a byte, UTF-8
  std::array<int, 0x144> byte;          // of a code point; -1 if it is no letter

  Alphabet() {
    byte.fill(-1);
    int next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool itself = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      const int codepoint = itself ? b : next++;
      byte[codepoint] = b;
      if (codepoint < 0x80)
        letter[b] = {static_cast<char>(codepoint)};
      else
        letter[b] = {static_cast<char>(0xC0 | codepoint >> 6), static_cast<char>(0x80 | (codepoint & 0x3F))};
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet constant;
  return constant;
}

}  // namespace

std::string_view letter_of(unsigned char byte) {
  return alphabet().letter[byte];
}

std::string to_alphabet(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char c : bytes) out += letter_of(static_cast<unsigned char>(c));
  return out;
}

std::optional<std::string> from_alphabet(std::string_view letters) {
  std::string out;
  out.reserve(letters.size());
  for (size_t i = 0; i < letters.size(); ++i) {
    unsigned codepoint = static_cast<unsigned char>(letters[i]);
    if (codepoint >= 0x80) {  // the alphabet ends at U+0143: two bytes at most
      if (codepoint < 0xC2 || codepoint > 0xDF || i + 1 == letters.size()) return std::nullopt;
      const unsigned low = static_cast<unsigned char>(letters[++i]);
      if ((low & 0xC0) != 0x80) return std::nullopt;
      codepoint = (codepoint & 0x1F) << 6 | (low & 0x3F);
    }
    if (codepoint >= alphabet().byte.size() || alphabet().byte[codepoint] < 0) return std::nullopt;
    out += static_cast<char>(alphabet().byte[codepoint]);
  }
  return out;
}

}  // namespace deltacal::text
