#include "text/unicode.h"

#include <catch2/catch_test_macros.hpp>

#include "golden.h"
#include "text/pre_tokenizer.h"

using namespace deltacal::text;

namespace {

std::string utf8(unsigned c) {
  const auto byte = [](unsigned b) { return static_cast<char>(b); };
  if (c < 0x80) return {byte(c)};
  if (c < 0x800) return {byte(0xC0 | c >> 6), byte(0x80 | (c & 63))};
  if (c < 0x10000) return {byte(0xE0 | c >> 12), byte(0x80 | (c >> 6 & 63)), byte(0x80 | (c & 63))};
  return {byte(0xF0 | c >> 18), byte(0x80 | (c >> 12 & 63)), byte(0x80 | (c >> 6 & 63)),
          byte(0x80 | (c & 63))};
}

std::vector<bool> members(const nlohmann::json& ranges) {
  std::vector<bool> in(0x110000);
  for (const auto& range : ranges)
    for (unsigned c = range[0]; c <= range[1].get<unsigned>(); ++c) in[c] = true;
  return in;
}

template <class F>
void for_each_character(F f) {
  for (unsigned c = 0; c < 0x110000; ++c)
    if (c < 0xD800 || c >= 0xE000) f(c);
}

std::vector<std::string> pieces(const PreTokenizer& pre, const std::string& text) {
  std::vector<std::string> out;
  pre.split(text, [&](std::string_view piece) { out.emplace_back(piece); });
  return out;
}

using Pieces = std::vector<std::string>;

}  // namespace

TEST_CASE("pre-tokenizer: every code point has the class that it has for the tokenizers package") {
  const auto file = golden::read("unicode");
  const auto letters = members(file["letters"]), numbers = members(file["numbers"]),
             spaces = members(file["spaces"]);
  const PreTokenizer qwen2("qwen2");
  int wrong = 0;
  for_each_character([&](unsigned c) {
    // Between two marks: a letter takes the mark before it, a number stands alone, a space cuts, the rest is
    // one run.
    const std::string s = utf8(c), text = "!" + s + "!";
    const Pieces expected = letters[c]               ? Pieces{"!" + s, "!"}
                            : numbers[c]             ? Pieces{"!", s, "!"}
                            : c == '\n' || c == '\r' ? Pieces{"!" + s, "!"}
                            : c == ' '               ? Pieces{"!", " !"}
                            : spaces[c]              ? Pieces{"!", s, "!"}
                                                     : Pieces{text};
    if (pieces(qwen2, text) != expected && ++wrong <= 3) FAIL_CHECK("U+" << std::hex << c);
  });
  CHECK(wrong == 0);
}

TEST_CASE("pre-tokenizer: smollm cuts off exactly the digits of the tokenizers package") {
  const auto file = golden::read("unicode");
  const auto digits = members(file["digits"]), letters = members(file["letters"]);
  const PreTokenizer smollm("smollm");
  int wrong = 0;
  for_each_character([&](unsigned c) {
    if (!digits[c] && !letters[c]) return;
    const std::string s = utf8(c), twice = s + s;
    if (pieces(smollm, twice) != (digits[c] ? Pieces{s, s} : Pieces{twice}) && ++wrong <= 3)
      FAIL_CHECK("U+" << std::hex << c);
  });
  CHECK(wrong == 0);
}

TEST_CASE("normalisation: form C of every code point and of random sequences of marks") {
  const auto file = golden::read("unicode");
  int wrong = 0;
  for_each_character([&](unsigned c) {
    const std::string s = utf8(c);
    const auto changed = file["nfc"].find(s);
    if (nfc(s) != (changed == file["nfc"].end() ? s : changed->get<std::string>()) && ++wrong <= 3)
      FAIL_CHECK("U+" << std::hex << c);
  });
  CHECK(wrong == 0);
  REQUIRE(file["nfc_sequences"].size() >= 1000);
  for (const auto& pair : file["nfc_sequences"])
    CHECK(nfc(pair[0].get<std::string>()) == pair[1].get<std::string>());
}

TEST_CASE("normalisation: 400,000 marks in the worst order take no quadratic time") {
  std::string marks = "a";
  for (int i = 0; i < 200000; ++i)
    marks += "\u0301\u0323";  // classes 230 and 220: all of the second go first
  const std::string normal = nfc(marks);
  std::string expected = "\u1EA1";  // a with dot below
  for (int i = 1; i < 200000; ++i) expected += "\u0323";
  for (int i = 0; i < 200000; ++i) expected += "\u0301";
  CHECK(normal == expected);
}

TEST_CASE("UTF-8: surrogates, overlong forms, cut and too large characters are not well-formed") {
  CHECK(well_formed_prefix("") == 0);
  CHECK(well_formed_prefix("aé中😀") == 10);
  for (const std::string bad :
       {"\xED\xA0\x80", "\xC0\x80", "\xE0\x80\xAF", "\xF4\x90\x80\x80", "\xF0\x9F\x98", "\x80", "\xFF"})
    CHECK(well_formed_prefix("a" + bad) == 1);
}
