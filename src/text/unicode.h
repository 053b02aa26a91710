// UTF-8 and the two things a tokenizer needs of Unicode besides its regular expressions.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace deltacal::text {

// Length in bytes of the longest prefix of `text` that is well-formed UTF-8 (no surrogates, no overlong
// forms).
size_t well_formed_prefix(std::string_view text);

// Normalisation form C (Unicode Standard Annex 15). `text` must be well-formed UTF-8. Time is n log n also in
// a long run of combining marks.
std::string nfc(std::string_view text);

}  // namespace deltacal::text
