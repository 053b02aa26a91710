#include "text/utf8_stream.h"

#include <catch2/catch_test_macros.hpp>

using deltacal::text::Utf8Stream;

namespace {
std::string shown(const std::string& bytes, size_t part) {
  Utf8Stream stream;
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += part) out += stream.feed(std::string_view(bytes).substr(i, part));
  return out + stream.finish();
}
}  // namespace

TEST_CASE("text stream: an unfinished character is held back until it is whole") {
  Utf8Stream stream;
  CHECK(stream.feed("a\xF0\x9F") == "a");
  CHECK(stream.feed("\x98") == "");
  CHECK(stream.feed("\x80z\xC3") == "😀z");
  CHECK(stream.feed("") == "");
  CHECK(stream.feed("\xA9") == "é");
  CHECK(stream.finish() == "");
}

TEST_CASE("text stream: well-formed text comes through unchanged in parts of any size") {
  const std::string text = "aé中😀 \u0000\uFFFD\U0010FFFF end";
  for (size_t part = 1; part <= text.size(); ++part) CHECK(shown(text, part) == text);
}

TEST_CASE("text stream: ill-formed bytes become U+FFFD, one for each maximal part") {
  // The examples of the Unicode Standard, section 3.9, tables 3-8 to 3-11.
  const std::string r = "\uFFFD";
  for (size_t part = 1; part <= 4; ++part) {
    CHECK(shown("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82"
                "A",
                part) == r + r + r + r + r + r + r + r + "A");
    CHECK(shown("\xED\xA0\x80\xED\xBF\xBF\xED\xAF"
                "A",
                part) == r + r + r + r + r + r + r + r + "A");
    CHECK(shown("\xF4\x91\x92\x93\xFF"
                "A\x80\xBF"
                "B",
                part) == r + r + r + r + r + "A" + r + r + "B");
    CHECK(shown("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF"
                "A",
                part) == r + r + r + r + "A");
    CHECK(shown("ok\xF0\x9F\x98", part) == "ok" + r);  // the text ends inside a character
  }
}
