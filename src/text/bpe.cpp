#include "text/bpe.h"

#include <queue>
#include <tuple>

#include "core/error.h"
#include "text/byte_alphabet.h"

namespace deltacal::text {
namespace {

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

int32_t find_token(const TokenIds& ids, std::string_view token) {
  const auto found = ids.find(token);
  return found == ids.end() ? -1 : found->second;
}

// A token of the piece so far, in a list that keeps its places: merging extends the left one and drops the
// right one.
struct Symbol {
  int32_t id;          // -1: merged into the one before it
  int previous, next;  // -1: none
};

struct Candidate {
  int32_t rank;
  int left;  // place of the left symbol
  int32_t left_id, right_id, merged;
  // std::priority_queue has the largest on top.
  bool operator<(const Candidate& other) const {
    return std::tie(rank, left) > std::tie(other.rank, other.left);
  }
};

}  // namespace

Bpe::Bpe(const std::vector<std::string>& merges, const TokenIds& ids) {
  for (int b = 0; b < 256; ++b) byte_ids_[b] = find_token(ids, letter_of(static_cast<unsigned char>(b)));

  merge_of_.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string& merge = merges[rank];
    const size_t space = merge.find(' ');
    if (space == 0 || space == std::string::npos || space + 1 == merge.size() ||
        merge.find(' ', space + 1) != std::string::npos)
      throw bad_input("tokenizer: merge {} is '{}', not two tokens with a space between them", rank, merge);
    const std::string left = merge.substr(0, space), right = merge.substr(space + 1);
    const int32_t left_id = find_token(ids, left), right_id = find_token(ids, right);
    const int32_t merged = find_token(ids, left + right);
    if (left_id < 0 || right_id < 0 || merged < 0)
      throw bad_input("tokenizer: merge {} is '{}', but '{}' is not in the vocabulary", rank, merge,
                      left_id < 0    ? left
                      : right_id < 0 ? right
                                     : left + right);
    const bool first_time =
        merge_of_.emplace(pair_key(left_id, right_id), Merge{static_cast<int32_t>(rank), merged}).second;
    if (!first_time) throw bad_input("tokenizer: merge {} is '{}', which is listed before", rank, merge);
  }
}

const Bpe::Merge* Bpe::find(int32_t left, int32_t right) const {
  const auto found = merge_of_.find(pair_key(left, right));
  return found == merge_of_.end() ? nullptr : &found->second;
}

void Bpe::encode(std::string_view piece, std::vector<int32_t>& out) const {
  std::vector<Symbol> symbols;
  symbols.reserve(piece.size());
  for (const char c : piece) {
    const int32_t id = byte_ids_[static_cast<unsigned char>(c)];
    const int place = static_cast<int>(symbols.size());
    if (id >= 0) symbols.push_back({id, place - 1, place + 1});
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;

  std::vector<Candidate> storage;
  storage.reserve(symbols.size());
  std::priority_queue<Candidate> candidates(std::less<Candidate>(), std::move(storage));
  const auto consider = [&](int left) {
    if (left < 0 || symbols[left].next < 0) return;
    const int32_t left_id = symbols[left].id, right_id = symbols[symbols[left].next].id;
    if (const Merge* merge = find(left_id, right_id))
      candidates.push({merge->rank, left, left_id, right_id, merge->merged});
  };
  for (int i = 0; i + 1 < static_cast<int>(symbols.size()); ++i) consider(i);

  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Symbol& left = symbols[best.left];
    if (left.id != best.left_id || left.next < 0 || symbols[left.next].id != best.right_id)
      continue;  // out of date
    Symbol& right = symbols[left.next];
    left.id = best.merged;
    right.id = -1;
    left.next = right.next;
    if (left.next >= 0) symbols[left.next].previous = best.left;
    consider(left.previous);
    consider(best.left);
  }
  for (int i = 0; i >= 0; i = symbols[i].next) out.push_back(symbols[i].id);
}

}  // namespace deltacal::text
