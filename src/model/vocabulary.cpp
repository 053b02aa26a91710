#include "model/vocabulary.h"

#include "core/error.h"

namespace deltacal::model {
namespace {

int token_id(const Gguf& file, const std::string& key, size_t n_vocab) {
  if (!file.has(key)) return -1;
  const int64_t id = file.integer(key);
  if (id < 0 || static_cast<uint64_t>(id) >= n_vocab)
    throw bad_input("{}: {} is {}, the vocabulary has {} tokens", file.path(), key, id, n_vocab);
  return static_cast<int>(id);
}

std::vector<int32_t> token_types(const Gguf& file, size_t n_vocab) {
  const std::string key = "tokenizer.ggml.token_type";
  if (!file.has(key)) return std::vector<int32_t>(n_vocab, 1);  // normal
  const auto& types = file.integers(key);
  if (types.size() != n_vocab)
    throw bad_input("{}: {} has {} entries, the vocabulary has {} tokens", file.path(), key, types.size(),
                    n_vocab);
  for (size_t i = 0; i < types.size(); ++i)
    if (types[i] < 0 || types[i] > 6)
      throw bad_input("{}: {} of token {} is {}, expected 0 to 6", file.path(), key, i, types[i]);
  return {types.begin(), types.end()};
}

bool flag_or(const Gguf& file, const std::string& key, bool otherwise) {
  return file.has(key) ? file.flag(key) : otherwise;
}

}  // namespace

text::Vocabulary vocabulary_from(const Gguf& file) {
  const std::string at = "tokenizer.ggml.";
  text::Vocabulary v;
  v.model = file.string(at + "model");
  v.pre = file.has(at + "pre") ? file.string(at + "pre") : "default";
  v.tokens = file.strings(at + "tokens");
  if (v.tokens.empty()) throw bad_input("{}: the vocabulary {}tokens is empty", file.path(), at);
  v.token_types = token_types(file, v.tokens.size());
  // Byte-level BPE cannot do without merges; another model is refused by the tokenizer, by name.
  if (v.model == "gpt2" || file.has(at + "merges")) v.merges = file.strings(at + "merges");
  v.bos_id = token_id(file, at + "bos_token_id", v.tokens.size());
  v.eos_id = token_id(file, at + "eos_token_id", v.tokens.size());
  const bool llama3 = v.pre == "llama-bpe" || v.pre == "llama3" || v.pre == "llama-v3";
  v.add_bos = flag_or(file, at + "add_bos_token", llama3);
  if (v.add_bos && v.bos_id < 0)
    throw bad_input("{}: a bos token goes before text, but {}bos_token_id is missing", file.path(), at);
  if (flag_or(file, at + "add_eos_token", false))
    throw bad_input("{}: {}add_eos_token is set, which is not supported: it is meant for embedding models",
                    file.path(), at);
  if (file.has("tokenizer.chat_template")) v.chat_template = file.string("tokenizer.chat_template");
  return v;
}

}  // namespace deltacal::model
