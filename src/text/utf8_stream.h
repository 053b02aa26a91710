// Text that arrives in parts (tokens) as whole characters.
#pragma once
#include <string>
#include <string_view>

namespace deltacal::text {

class Utf8Stream {
 public:
  // What can be shown of all bytes so far and was not before: well-formed UTF-8. The start of a character at
  // the end is held back; each maximal part of an ill-formed sequence becomes U+FFFD (Unicode Standard,
  // section 3.9).
  std::string feed(std::string_view bytes);

  // The end of the text: U+FFFD if a character was left unfinished, else nothing.
  std::string finish();

 private:
  std::string held_;  // at most 3 bytes: the start of a character
};

}  // namespace deltacal::text
