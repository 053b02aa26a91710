#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pre_tokenizer.h"

#include <pcre2.h>

#include <array>
#include <cstdint>

#include "core/error.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace deltacal::text {
namespace {

// Members of the classes \s, \p{L} and \p{N}, to be put inside brackets. PCRE2's own \s has U+180E besides
// White_Space, and its tables may be older than the tokenizers' (Debian 12: Unicode 14): the ranges are what
// Unicode 15 to 16 added.
constexpr std::string_view spaces =
    R"(\x09-\x0d\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view letters =
    R"(\p{L}\x{1c89}\x{1c8a}\x{a7cb}-\x{a7cd}\x{a7da}-\x{a7dc}\x{105c0}-\x{105f3}\x{10d4a}-\x{10d65})"
    R"(\x{10d6f}-\x{10d85}\x{10ec2}-\x{10ec4}\x{1123f}\x{11240}\x{11380}-\x{11389}\x{1138b}\x{1138e})"
    R"(\x{11390}-\x{113b5}\x{113b7}\x{113d1}\x{113d3}\x{11bc0}-\x{11be0}\x{11f02}\x{11f04}-\x{11f10})"
    R"(\x{11f12}-\x{11f33}\x{1342f}\x{13441}-\x{13446}\x{13460}-\x{143fa}\x{16100}-\x{1611d})"
    R"(\x{16d40}-\x{16d6c}\x{18cff}\x{1b132}\x{1b155}\x{1df25}-\x{1df2a}\x{1e030}-\x{1e06d})"
    R"(\x{1e4d0}-\x{1e4eb}\x{1e5d0}-\x{1e5ed}\x{1e5f0}\x{2b739}\x{2ebf0}-\x{2ee5d}\x{31350}-\x{323af})";
constexpr std::string_view numbers =
    R"(\p{N}\x{10d40}-\x{10d49}\x{116d0}-\x{116e3}\x{11bf0}-\x{11bf9}\x{11f50}-\x{11f59}\x{16130}-\x{16139})"
    R"(\x{16d70}-\x{16d79}\x{1ccf0}-\x{1ccf9}\x{1d2c0}-\x{1d2d3}\x{1e4f0}-\x{1e4f9}\x{1e5f1}-\x{1e5fa})";

// GPT-2's expression, the built-in one of the step "ByteLevel".
constexpr std::string_view gpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view llama3 = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
                                    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view qwen2 = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
                                   R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct Kind {
  std::string_view name;
  std::array<std::string_view, 2> steps;  // each applied to the pieces of the one before
  bool nfc, whole_pieces_first;
};

// Sources: tokenizer.json of SmolLM2, Qwen2.5, Meta-Llama-3 and DeepSeek-R1-Distill-Qwen.
constexpr std::array<Kind, 4> kinds{{
    // "Digits" one by one (by Rust's tables, those of Unicode 17), then "ByteLevel".
    {"smollm", {R"(\p{N}|[\x{11de0}-\x{11de9}\x{16ff4}-\x{16ff6}])", gpt2}, false, false},
    {"qwen2", {qwen2, ""}, true, false},
    {"llama-bpe", {llama3, ""}, false, true},
    {"deepseek-r1-qwen", {qwen2, ""}, true, false},
}};

// The published expression with \s, \S, \p{L} and \p{N} spelled as the classes above.
std::string pinned(std::string_view expression) {
  std::string out;
  bool in_brackets = false;
  const auto put = [&](std::string_view members, std::string_view open) {
    if (in_brackets)
      out += members;
    else
      out.append(open).append(members).append("]");
  };
  for (size_t i = 0; i < expression.size();) {
    const std::string_view rest = expression.substr(i);
    if (rest.starts_with(R"(\s)") || rest.starts_with(R"(\S)")) {
      put(spaces, rest[1] == 's' ? "[" : "[^");
      i += 2;
    } else if (rest.starts_with(R"(\p{L})") || rest.starts_with(R"(\p{N})")) {
      put(rest[3] == 'L' ? letters : numbers, "[");
      i += 5;
    } else {
      const size_t n = rest[0] == '\\' ? 2 : 1;
      if (rest[0] == '[') in_brackets = true;
      if (rest[0] == ']') in_brackets = false;
      out += rest.substr(0, n);
      i += n;
    }
  }
  return out;
}

struct Freed {
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
};

class Expression {
 public:
  explicit Expression(std::string_view published) {
    const std::string pattern = pinned(published);
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                              PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr));
    if (!code_) throw failure("PCRE2 refuses a pre-tokenizer's expression: error {} at {}", error, offset);
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);  // without JIT: interpreted, same matches
    context_.reset(pcre2_match_context_create(nullptr));
    // The limits guard against expressions that backtrack exponentially; these are linear in a run of spaces.
    pcre2_set_match_limit(context_.get(), UINT32_MAX);
  }

  // Matches and the text between them, in order. `text` is well-formed UTF-8.
  template <class Piece>
  void split(std::string_view text, const Piece& piece) const {
    const std::unique_ptr<pcre2_match_data, Freed> match(pcre2_match_data_create(1, nullptr));
    size_t done = 0;
    while (done < text.size()) {
      const int found = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), done,
                                    PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, match.get(), context_.get());
      if (found == PCRE2_ERROR_NOMATCH) break;
      if (found < 0)
        throw failure("splitting text of {} bytes at byte {}: PCRE2 error {}", text.size(), done, found);
      const PCRE2_SIZE* span = pcre2_get_ovector_pointer(match.get());
      if (span[0] > done) piece(text.substr(done, span[0] - done));
      piece(text.substr(span[0], span[1] - span[0]));
      done = span[1];
    }
    if (done < text.size()) piece(text.substr(done));
  }

 private:
  std::unique_ptr<pcre2_code, Freed> code_;
  std::unique_ptr<pcre2_match_context, Freed> context_;
};

}  // namespace

struct PreTokenizer::Impl {
  const Kind* kind = nullptr;
  std::vector<Expression> steps;
};

PreTokenizer::PreTokenizer(const std::string& name) : impl_(std::make_unique<Impl>()) {
  for (const Kind& kind : kinds)
    if (kind.name == name) impl_->kind = &kind;
  if (impl_->kind == nullptr)
    throw bad_input("pre-tokenizer '{}' is not supported (tokenizer.ggml.pre; supported: {})", name,
                    fmt::join(pre_tokenizer_names(), ", "));
  for (const auto step : impl_->kind->steps)
    if (!step.empty()) impl_->steps.emplace_back(step);
}

PreTokenizer::~PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;

bool PreTokenizer::normalizes() const {
  return impl_->kind->nfc;
}
bool PreTokenizer::whole_pieces_first() const {
  return impl_->kind->whole_pieces_first;
}

void PreTokenizer::split(std::string_view text, const std::function<void(std::string_view)>& piece) const {
  while (!text.empty()) {
    const size_t n = well_formed_prefix(text);
    const std::string_view run = text.substr(0, n);
    if (impl_->steps.size() == 1)
      impl_->steps[0].split(run, piece);
    else
      impl_->steps[0].split(run, [&](std::string_view part) { impl_->steps[1].split(part, piece); });
    text.remove_prefix(n);
    if (text.empty()) break;
    piece(text.substr(0, 1));
    text.remove_prefix(1);
  }
}

std::vector<std::string> pre_tokenizer_names() {
  std::vector<std::string> names;
  for (const Kind& kind : kinds) names.emplace_back(kind.name);
  return names;
}

std::vector<std::string> split(std::string_view pre, std::string_view text) {
  std::vector<std::string> pieces;
  PreTokenizer(std::string(pre)).split(text, [&](std::string_view piece) { pieces.emplace_back(piece); });
  return pieces;
}

}  // namespace deltacal::text
