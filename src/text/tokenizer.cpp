#include "text/tokenizer.h"

#include <algorithm>
#include <array>
#include <optional>

#include "core/error.h"
#include "text/bpe.h"
#include "text/byte_alphabet.h"
#include "text/pre_tokenizer.h"
#include "text/unicode.h"

namespace deltacal::text {
namespace {

// GGUF's token types.
constexpr int32_t unknown_type = 2, control_type = 3, user_defined_type = 4;

// Control tokens at which these model families stop, whatever single eos their file names.
constexpr std::array<std::string_view, 7> end_names = {
    "<|im_end|>",      "<|endoftext|>",         "<|eot_id|>", "<|eom_id|>",
    "<|end_of_text|>", "<｜end▁of▁sentence｜>", "<|EOT|>"};

bool is_control(int32_t type) {
  return type == control_type || type == unknown_type;
}
bool is_literal(int32_t type) {
  return is_control(type) || type == user_defined_type;
}

const Vocabulary& checked(const Vocabulary& v) {
  if (v.model != "gpt2")
    throw bad_input(
        "tokenizer '{}' is not supported (tokenizer.ggml.model; supported: gpt2, which is byte-level BPE)",
        v.model);
  if (v.tokens.empty()) throw bad_input("tokenizer: the vocabulary is empty");
  if (v.tokens.size() > INT32_MAX) throw bad_input("tokenizer: {} tokens are too many", v.tokens.size());
  if (v.token_types.size() != v.tokens.size())
    throw bad_input("tokenizer: {} tokens, but {} token types", v.tokens.size(), v.token_types.size());
  for (const auto& [what, id] : {std::pair{"bos", v.bos_id}, {"eos", v.eos_id}})
    if (id < -1 || id >= static_cast<int64_t>(v.tokens.size()))
      throw bad_input("tokenizer: the {} token is {}, outside the vocabulary of {}", what, id,
                      v.tokens.size());
  if (v.add_bos && v.bos_id < 0) throw bad_input("tokenizer: it adds a bos token, but names none");
  return v;
}

TokenIds ids_of(const std::vector<std::string>& tokens) {
  TokenIds ids;
  ids.reserve(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].empty()) throw bad_input("tokenizer: token {} is empty", i);
    const auto [there, is_new] = ids.emplace(tokens[i], static_cast<int32_t>(i));
    if (!is_new) throw bad_input("tokenizer: tokens {} and {} are both '{}'", there->second, i, tokens[i]);
  }
  return ids;
}

// Tokens found in text as they are spelled, the longest at each place first.
class LiteralTokens {
 public:
  void add(const std::string& spelling, int32_t id) {
    auto& same_start = by_first_byte_[static_cast<unsigned char>(spelling[0])];
    same_start.emplace_back(spelling, id);
  }
  void longest_first() {
    for (auto& same_start : by_first_byte_)
      std::ranges::stable_sort(same_start, std::ranges::greater(),
                               [](const Literal& l) { return l.first.size(); });
  }
  struct Found {
    size_t begin, end;
    int32_t id;
  };
  std::optional<Found> find(std::string_view text, size_t from) const {
    for (size_t at = from; at < text.size(); ++at)
      for (const auto& [spelling, id] : by_first_byte_[static_cast<unsigned char>(text[at])])
        if (text.substr(at).starts_with(spelling)) return Found{at, at + spelling.size(), id};
    return std::nullopt;
  }

 private:
  using Literal = std::pair<std::string, int32_t>;
  std::array<std::vector<Literal>, 256> by_first_byte_;
};

}  // namespace

struct Tokenizer::Impl {
  explicit Impl(Vocabulary v)
      : vocabulary(std::move(v)),
        pre_tokenizer(checked(vocabulary).pre),
        ids(ids_of(vocabulary.tokens)),
        bpe(vocabulary.merges, ids) {
    for (size_t i = 0; i < vocabulary.tokens.size(); ++i) {
      const int32_t type = vocabulary.token_types[i], id = static_cast<int32_t>(i);
      if (is_literal(type)) all_literals.add(vocabulary.tokens[i], id);
      if (type == user_defined_type) user_defined.add(vocabulary.tokens[i], id);
    }
    all_literals.longest_first();
    user_defined.longest_first();
  }

  // Text without literal tokens.
  void encode_plain(std::string_view text, std::vector<int32_t>& out) const {
    const auto piece = [&](std::string_view bytes) {
      if (pre_tokenizer.whole_pieces_first()) {
        const auto whole = ids.find(to_alphabet(bytes));
        if (whole != ids.end()) return out.push_back(whole->second);
      }
      bpe.encode(bytes, out);
    };
    if (pre_tokenizer.normalizes())
      pre_tokenizer.split(normalized(text), piece);
    else
      pre_tokenizer.split(text, piece);
  }

  // Form C of the well-formed stretches; other bytes stay as they are.
  static std::string normalized(std::string_view text) {
    std::string out;
    while (!text.empty()) {
      const size_t n = well_formed_prefix(text);
      out += nfc(text.substr(0, n));
      if (n < text.size()) out += text[n];
      text.remove_prefix(std::min(n + 1, text.size()));
    }
    return out;
  }

  int32_t type_of(int32_t id) const {
    if (id < 0 || id >= static_cast<int64_t>(vocabulary.tokens.size()))
      throw bad_input("token id {} is outside the vocabulary of {}", id, vocabulary.tokens.size());
    return vocabulary.token_types[id];
  }

  const Vocabulary vocabulary;
  const PreTokenizer pre_tokenizer;
  const TokenIds ids;  // keys are views of vocabulary.tokens
  const Bpe bpe;
  LiteralTokens all_literals, user_defined;
};

Tokenizer::Tokenizer(Vocabulary vocabulary) : impl_(std::make_unique<Impl>(std::move(vocabulary))) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;

const Vocabulary& Tokenizer::vocabulary() const {
  return impl_->vocabulary;
}
int Tokenizer::n_vocab() const {
  return static_cast<int>(impl_->vocabulary.tokens.size());
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, Special special) const {
  const LiteralTokens& literals = special == Special::parse ? impl_->all_literals : impl_->user_defined;
  std::vector<int32_t> out;
  size_t done = 0;
  while (const auto found = literals.find(text, done)) {
    impl_->encode_plain(text.substr(done, found->begin - done), out);
    out.push_back(found->id);
    done = found->end;
  }
  impl_->encode_plain(text.substr(done), out);
  return out;
}

std::vector<int32_t> Tokenizer::encode_document(std::string_view text) const {
  auto ids = encode(text, Special::parse);
  const Vocabulary& v = impl_->vocabulary;
  if (v.add_bos && (ids.empty() || ids.front() != v.bos_id)) ids.insert(ids.begin(), v.bos_id);
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool with_special) const {
  std::string out;
  for (const int32_t id : ids)
    if (with_special || !is_special(id)) out += bytes_of(id);
  return out;
}

std::string Tokenizer::bytes_of(int32_t id) const {
  const bool literal = is_literal(impl_->type_of(id));
  const std::string& token = impl_->vocabulary.tokens[id];
  return literal ? token : from_alphabet(token).value_or(token);
}

int32_t Tokenizer::id_of(std::string_view token) const {
  const auto found = impl_->ids.find(token);
  return found == impl_->ids.end() ? -1 : found->second;
}

bool Tokenizer::is_special(int32_t id) const {
  return is_control(impl_->type_of(id));
}

bool Tokenizer::ends_generation(int32_t id) const {
  const bool control = is_special(id);
  if (id == impl_->vocabulary.eos_id) return true;
  return control && std::ranges::find(end_names, impl_->vocabulary.tokens[id]) != end_names.end();
}

}  // namespace deltacal::text
