// Byte-level BPE, as the tokenizer of a GGUF file describes it. Exact with respect to the Hugging Face
// `tokenizers` package on the same vocabulary (tests/text/golden).
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace deltacal::text {

// What a model file says of its tokenizer (GGUF: tokenizer.ggml.*).
struct Vocabulary {
  std::string model;                // "gpt2" is byte-level BPE; another one is refused by name
  std::string pre;                  // pre-tokenizer: "smollm", "qwen2", "llama-bpe", "deepseek-r1-qwen"
  std::vector<std::string> tokens;  // [n_vocab] in GPT-2's byte alphabet, special tokens as they are
  std::vector<int32_t>
      token_types;  // [n_vocab] GGUF: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte
  std::vector<std::string> merges;  // "left right", best first
  int bos_id = -1, eos_id = -1;
  bool add_bos = false;       // the tokenizer itself puts bos before text
  std::string chat_template;  // Jinja text of the file, empty if none
};

// The pieces into which a pre-tokenizer splits text before any merge; they concatenate to the text.
std::vector<std::string> split(std::string_view pre, std::string_view text);

enum class Special {
  parse,    // "<|im_start|>" in the text becomes that token
  as_text,  // control tokens are spelled out; user-defined tokens are still found
};

class Tokenizer {
 public:
  // bad_input: unsupported model or pre-tokenizer, a token listed twice, a merge of unknown tokens, ids out
  // of range.
  explicit Tokenizer(Vocabulary);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;

  const Vocabulary& vocabulary() const;
  int n_vocab() const;
  // No bos; invalid UTF-8 is taken byte by byte. `qwen2` and `deepseek-r1-qwen` put text into normalisation
  // form C first, as the models' own tokenizers do: text that was not comes back changed from decode().
  // Control characters whose byte is not in the vocabulary (SmolLM2 lacks six) vanish, as they do in the
  // `tokenizers` package.
  std::vector<int32_t> encode(std::string_view text, Special) const;
  // encode(text, Special::parse), with the bos token first where the vocabulary asks for it and the text does
  // not begin with it already.
  std::vector<int32_t> encode_document(std::string_view text) const;
  // Raw bytes, which may end inside a character (see utf8_stream.h); bad_input for an id that is no token.
  std::string decode(std::span<const int32_t> ids, bool with_special = true) const;
  std::string bytes_of(int32_t id) const;
  int32_t id_of(std::string_view token) const;  // -1 if there is none
  bool is_special(int32_t id) const;            // control token
  bool ends_generation(int32_t id) const;       // eos, <|im_end|>, <|eot_id|>, <|endoftext|>, ...

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace deltacal::text
