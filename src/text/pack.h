// Packing: short samples of one task, joined in the order of the file into samples that are long enough to
// leave something out (a solved GSM8K problem has a median of 177 tokens).
//
// The tokens are those of the lines, each as it would be by itself (its chat template, its bos), one after
// the other. Only the first line's prompt is prefilled in full: the later questions are read as a context is,
// so their positions are steps and count.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "text/data.h"

namespace deltacal::text {

class Packer {
 public:
  explicit Packer(int n_tokens) : n_tokens_(n_tokens) {}  // 0: every line stays a sample
  // Takes the next line; gives the sample that is whole with it, if any. A line of n_tokens or more stays
  // alone and is whole at once. A joined sample has the id "FIRST+N", N lines after the first, and no answer.
  std::optional<TokenizedSample> add(TokenizedSample line);
  int n_open() const;  // lines taken that belong to no whole sample

 private:
  int n_tokens_;
  std::map<std::string, TokenizedSample> open_;  // by task
};

// Samples that share a problem, directly or through others, get one key, so that the statistics take them for
// one problem: the problem's own where it is the only one, else a hash of all of theirs, and each names its
// parts.
void name_problems(std::vector<TokenizedSample>&);

}  // namespace deltacal::text
