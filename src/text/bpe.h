// Byte-pair merging over token ids.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace deltacal::text {

// Token strings (in GPT-2's byte alphabet) to ids.
using TokenIds = std::unordered_map<std::string_view, int32_t>;

class Bpe {
 public:
  // `merges`: "left right", best first. bad_input: a merge that is not two tokens whose concatenation is a
  // token, or that is listed twice.
  Bpe(const std::vector<std::string>& merges, const TokenIds& ids);

  // Appends the ids of one piece (raw bytes): always the best-ranked pair of neighbours, the leftmost of
  // equals. Time n log n. A byte that is no token of the vocabulary is left out before merging, as the
  // `tokenizers` package does without an unknown token (SmolLM2's vocabulary lacks 8 bytes that occur in
  // UTF-8 text).
  void encode(std::string_view piece, std::vector<int32_t>& out) const;

 private:
  struct Merge {
    int32_t rank, merged;
  };
  const Merge* find(int32_t left, int32_t right) const;

  std::array<int32_t, 256> byte_ids_;             // -1: no token
  std::unordered_map<uint64_t, Merge> merge_of_;  // by left << 32 | right
};

}  // namespace deltacal::text
