// GPT-2's byte alphabet: each byte as one printable character, so that tokens of arbitrary bytes are text.
// '!'..'~', U+00A1..U+00AC and U+00AE..U+00FF stand for themselves; the other 68 bytes, in order, are U+0100
// onwards (a space is U+0120 "Ġ"). Source: bytes_to_unicode() of the GPT-2 release.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace deltacal::text {

std::string_view letter_of(unsigned char byte);  // UTF-8, one or two bytes
std::string to_alphabet(std::string_view bytes);
std::optional<std::string> from_alphabet(
    std::string_view letters);  // none if a character is not of the alphabet

}  // namespace deltacal::text
