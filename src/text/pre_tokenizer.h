// Pre-tokenizers: regular expressions that cut text into the pieces inside which BPE merges. The expressions
// are those of the models' own tokenizer.json; the classes of characters are pinned to Unicode 16 whatever
// PCRE2 was built with.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace deltacal::text {

class PreTokenizer {
 public:
  explicit PreTokenizer(const std::string& name);  // bad_input for an unknown name, with those supported
  ~PreTokenizer();
  PreTokenizer(PreTokenizer&&) noexcept;

  // Whether the model's tokenizer puts text into normalisation form C first. split() itself does not.
  bool normalizes() const;
  // Whether a piece that is a token as a whole is taken without looking at the merges.
  bool whole_pieces_first() const;

  // Calls `piece` with each part of `text` in order. Any bytes: one that is not UTF-8 is a piece of its own.
  void split(std::string_view text, const std::function<void(std::string_view)>& piece) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

std::vector<std::string> pre_tokenizer_names();

}  // namespace deltacal::text
