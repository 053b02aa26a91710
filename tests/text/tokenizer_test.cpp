#include "text/tokenizer.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <random>

#include "core/error.h"
#include "golden.h"
#include "text/bpe.h"
#include "text/byte_alphabet.h"
#include "text/pre_tokenizer.h"

using namespace deltacal;
using namespace deltacal::text;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using golden::Ids;

namespace {

// All bytes (id = byte), some merges, control tokens and a user-defined one.
Vocabulary small() {
  Vocabulary v;
  v.model = "gpt2";
  v.pre = "qwen2";
  for (int b = 0; b < 256; ++b) v.tokens.emplace_back(letter_of(static_cast<unsigned char>(b)));
  for (const auto& [left, right] : std::vector<std::pair<std::string, std::string>>{{"a", "a"},
                                                                                    {"aa", "aa"},
                                                                                    {"a", "b"},
                                                                                    {"b", "a"},
                                                                                    {"Ġ", "a"},
                                                                                    {"ab", "c"},
                                                                                    {"Ġa", "b"},
                                                                                    {"aa", "a"}}) {
    v.merges.push_back(left + " " + right);
    v.tokens.push_back(left + right);
  }
  v.token_types.assign(v.tokens.size(), 1);
  for (const auto& [token, type] :
       std::vector<std::pair<std::string, int>>{{"<|x|>", 3}, {"<|x|>y", 3}, {"<u>", 4}, {"<unk>", 2}}) {
    v.tokens.push_back(token);
    v.token_types.push_back(type);
  }
  return v;
}

template <class Change>
Vocabulary changed(Change change) {
  Vocabulary v = small();
  change(v);
  return v;
}

// What BPE is, as its paper has it (Sennrich et al., arXiv 1508.07909): merge all of the best pair, from the
// left, again.
std::vector<std::string> slow_bpe(const std::vector<std::string>& merges, std::string_view bytes) {
  std::vector<std::string> parts;
  for (const char c : bytes) parts.emplace_back(letter_of(static_cast<unsigned char>(c)));
  while (true) {
    size_t best = merges.size();
    for (size_t i = 0; i + 1 < parts.size(); ++i)
      for (size_t rank = 0; rank < best; ++rank)
        if (merges[rank] == parts[i] + " " + parts[i + 1]) best = rank;
    if (best == merges.size()) return parts;
    for (size_t i = 0; i + 1 < parts.size(); ++i)
      if (merges[best] == parts[i] + " " + parts[i + 1]) {
        parts[i] += parts[i + 1];
        parts.erase(parts.begin() + i + 1);
        break;
      }
  }
}

}  // namespace

TEST_CASE("tokenizer: BPE equals the plain algorithm on random vocabularies and pieces") {
  std::mt19937 random(7);
  for (int trial = 0; trial < 60; ++trial) {
    std::vector<std::string> tokens, merges;
    for (const char c : {'a', 'b', 'c'}) tokens.emplace_back(1, c);
    for (int m = 0; m < 20; ++m) {
      const std::string left = tokens[random() % tokens.size()], right = tokens[random() % tokens.size()];
      if (std::ranges::find(tokens, left + right) != tokens.end()) continue;
      tokens.push_back(left + right);
      merges.push_back(left + " " + right);
    }
    std::ranges::shuffle(merges,
                         random);  // ranks need not follow the order in which the tokens could come about
    TokenIds ids;
    for (size_t i = 0; i < tokens.size(); ++i) ids[tokens[i]] = static_cast<int32_t>(i);
    const Bpe bpe(merges, ids);
    for (int t = 0; t < 20; ++t) {
      std::string piece;
      for (size_t i = random() % 40; i > 0; --i) piece += static_cast<char>('a' + random() % 3);
      Ids found;
      bpe.encode(piece, found);
      std::vector<std::string> spelled;
      for (const int id : found) spelled.push_back(tokens[id]);
      CHECK(spelled == slow_bpe(merges, piece));
    }
  }
}

TEST_CASE("tokenizer: special tokens are parsed or spelled out, the longest first") {
  const Tokenizer t(small());
  const int x = t.id_of("<|x|>"), xy = t.id_of("<|x|>y"), u = t.id_of("<u>");
  CHECK(t.encode("<|x|><|x|>y<u>", Special::parse) == Ids{x, xy, u});
  CHECK(t.encode("<|x|><u>", Special::as_text) == Ids{'<', '|', 'x', '|', '>', u});
}

TEST_CASE("tokenizer: decoding can leave out control tokens, and tells which tokens end a text") {
  const Tokenizer t(changed([](Vocabulary& v) {
    v.tokens.insert(v.tokens.end(), {"<|im_end|>", "<|eot_id|>"});
    v.token_types.insert(v.token_types.end(), {3, 1});
    v.eos_id = 7;
  }));
  const Ids ids{t.id_of("<|x|>"), t.id_of("ab"), t.id_of("<u>"), t.id_of("Ġa")};
  CHECK(t.decode(ids) == "<|x|>ab<u> a");
  CHECK(t.decode(ids, false) == "ab<u> a");
  CHECK(t.is_special(t.id_of("<|x|>")));
  CHECK_FALSE(t.is_special(t.id_of("<u>")));
  CHECK(t.ends_generation(7));
  CHECK(t.ends_generation(t.id_of("<|im_end|>")));
  CHECK_FALSE(t.ends_generation(t.id_of("<|eot_id|>")));  // not a control token in this vocabulary
  CHECK_FALSE(t.ends_generation(t.id_of("<|x|>")));
  CHECK(t.id_of("nothing") == -1);
  CHECK_THROWS_AS(t.bytes_of(-1), Error);
  CHECK_THROWS_AS(t.decode(Ids{t.n_vocab()}), Error);
}

TEST_CASE("tokenizer: any bytes come back as they were") {
  const std::string pre = GENERATE("smollm", "qwen2", "llama-bpe", "deepseek-r1-qwen");
  const Tokenizer t(changed([&](Vocabulary& v) { v.pre = pre; }));
  std::mt19937 random(1);
  for (int trial = 0; trial < 300; ++trial) {
    std::string bytes;
    for (size_t i = random() % 60; i > 0; --i) bytes += static_cast<char>(random() % 256);
    if (bytes.find("<") != std::string::npos) continue;
    // Random two-byte characters may be changed by normalisation: break them up.
    for (size_t i = 0; i + 1 < bytes.size(); ++i)
      if (static_cast<unsigned char>(bytes[i]) >= 0xC0) bytes[i + 1] = 'a';
    INFO(pre);
    CHECK(t.decode(t.encode(bytes, Special::parse)) == bytes);
    std::string joined;
    for (const auto& piece : split(pre, bytes)) joined += piece;
    CHECK(joined == bytes);
  }
  CHECK(t.encode("a\xFF"
                 "b",
                 Special::parse)
            .size() == 3);
  CHECK(t.decode(t.encode(std::string("a\0b", 3), Special::parse)) == std::string("a\0b", 3));
}

TEST_CASE("tokenizer: pieces of 262,144 bytes take no quadratic time and meet no limit") {
  const std::string pre = GENERATE("smollm", "qwen2", "llama-bpe", "deepseek-r1-qwen");
  const Tokenizer t(changed([&](Vocabulary& v) { v.pre = pre; }));
  constexpr size_t n = 1 << 18;
  for (const std::string& unit :
       {std::string("a"), std::string("ab"), std::string(" "), std::string("\n"), std::string("\n "),
        std::string("-"), std::string("7"), std::string("\xFF"), std::string("中"), std::string("<")}) {
    std::string text;
    while (text.size() < n) text += unit;
    text += "x";
    INFO(pre << ": " << unit);
    CHECK(t.decode(t.encode(text, Special::parse)) == text);
  }
}

TEST_CASE("tokenizer: a vocabulary that cannot be right is refused with what is wrong") {
  const auto refuses = [](const Vocabulary& v, const std::string& message) {
    CHECK_THROWS_MATCHES(Tokenizer(v), Error, MessageMatches(ContainsSubstring(message)));
  };
  refuses(changed([](Vocabulary& v) { v.model = "llama"; }), "tokenizer 'llama' is not supported");
  refuses(changed([](Vocabulary& v) { v.pre = "tekken"; }),
          "pre-tokenizer 'tekken' is not supported (tokenizer.ggml.pre; supported: smollm, qwen2, llama-bpe, "
          "deepseek-r1-qwen)");
  refuses(changed([](Vocabulary& v) { v.tokens.clear(); }), "empty");
  refuses(changed([](Vocabulary& v) { v.token_types.pop_back(); }), "token types");
  refuses(changed([](Vocabulary& v) { v.tokens[5] = v.tokens[9]; }), "tokens 5 and 9 are both 'ĉ'");
  refuses(changed([](Vocabulary& v) { v.tokens[5] = ""; }), "token 5 is empty");
  refuses(changed([](Vocabulary& v) { v.merges[2] = "a q"; }),
          "merge 2 is 'a q', but 'aq' is not in the vocabulary");
  refuses(changed([](Vocabulary& v) { v.merges[2] = "zz a"; }), "'zz' is not in the vocabulary");
  refuses(changed([](Vocabulary& v) { v.merges[7] = v.merges[0]; }), "listed before");
  for (const std::string bad : {"", "a", " a", "a ", "a a a"})
    refuses(changed([&](Vocabulary& v) { v.merges[1] = bad; }), "merge 1");
  refuses(changed([](Vocabulary& v) { v.bos_id = 100000; }), "bos token is 100000");
  refuses(changed([](Vocabulary& v) { v.eos_id = -2; }), "eos token is -2");
  refuses(changed([](Vocabulary& v) { v.add_bos = true; }), "names none");
  CHECK_THROWS_AS(split("nothing", "a"), Error);
}

TEST_CASE("tokenizer: llama-bpe takes a piece that is a token without its merges") {
  const auto with_whole = [](const std::string& pre) {
    return changed([&](Vocabulary& v) {
      v.pre = pre;
      v.tokens.push_back("ĠabX");  // no merge makes it
      v.token_types.push_back(1);
    });
  };
  const Tokenizer llama(with_whole("llama-bpe")), qwen(with_whole("qwen2"));
  CHECK(llama.encode(" abX", Special::parse) == Ids{llama.id_of("ĠabX")});
  CHECK(qwen.encode(" abX", Special::parse) == Ids{' ', qwen.id_of("ab"), 'X'});
}

TEST_CASE("tokenizer: GPT-2's alphabet is one letter a byte and the known ones for space and newline") {
  CHECK(letter_of(' ') == "Ġ");
  CHECK(letter_of('\n') == "Ċ");
  CHECK(letter_of('!') == "!");
  CHECK(letter_of(0xAD) == "Ń");  // the last of the letters that do not stand for themselves
  std::string all;
  for (int b = 0; b < 256; ++b) all += static_cast<char>(b);
  CHECK(from_alphabet(to_alphabet(all)) == all);
  CHECK_FALSE(from_alphabet("中").has_value());
  CHECK_FALSE(from_alphabet(" ").has_value());
  CHECK_FALSE(from_alphabet("\xC4").has_value());
}
