#include "model/vocabulary.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "support/scratch.h"
#include "support/tiny_model.h"

using namespace deltacal;
using Catch::Matchers::ContainsSubstring;
using test::GgufWriter;

namespace {

text::Vocabulary read(const GgufWriter& file) {
  test::Scratch folder;
  file.write(folder / "m.gguf");
  return model::vocabulary_from(model::Gguf(folder / "m.gguf"));
}
std::string error(const GgufWriter& file) {
  return test::error_of([&] { read(file); });
}

// Three tokens and one merge, the least that a file must have.
GgufWriter least(const std::string& pre) {
  GgufWriter file;
  file.set("tokenizer.ggml.model", "gpt2");
  if (!pre.empty()) file.set("tokenizer.ggml.pre", pre);
  file.set("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "ab"});
  file.set("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
  return file;
}

}  // namespace

TEST_CASE("vocabulary: the default model's tokenizer") {
  // Figures read with the gguf package.
  const auto v = model::vocabulary_from(model::Gguf(DEFAULT_MODEL));
  CHECK(v.model == "gpt2");
  CHECK(v.pre == "smollm");
  CHECK(v.tokens.size() == 49152);
  CHECK(v.token_types.size() == 49152);
  CHECK(v.tokens[2] == "<|im_end|>");
  CHECK(v.token_types[2] == 3);
  CHECK(v.token_types[17] == 1);
  CHECK(v.merges[8] == "Ġt he");
  CHECK(v.bos_id == 1);
  CHECK(v.eos_id == 2);
  CHECK_FALSE(v.add_bos);
  CHECK_THAT(v.chat_template, ContainsSubstring("<|im_start|>"));
}

TEST_CASE("vocabulary: keys that are missing have llama.cpp's defaults") {
  for (const std::string pre : {"smollm", "qwen2", "deepseek-r1-qwen", ""}) {
    const auto v = read(least(pre));
    CHECK(v.pre == (pre.empty() ? "default" : pre));
    CHECK_FALSE(v.add_bos);
    CHECK(v.bos_id == -1);
    CHECK(v.eos_id == -1);
    CHECK(v.token_types == std::vector<int32_t>{1, 1, 1});
    CHECK(v.chat_template.empty());
  }
  GgufWriter llama3 = least("llama-bpe"), no_bos = least("llama-bpe"), deepseek = least("deepseek-r1-qwen");
  llama3.set("tokenizer.ggml.bos_token_id", uint32_t{2});
  CHECK(read(llama3).add_bos);
  no_bos.set("tokenizer.ggml.add_bos_token", false);
  CHECK_FALSE(read(no_bos).add_bos);
  deepseek.set("tokenizer.ggml.bos_token_id", uint32_t{0});
  deepseek.set("tokenizer.ggml.add_bos_token", true);
  CHECK(read(deepseek).add_bos);
}

TEST_CASE("vocabulary: what contradicts itself is refused with the key") {
  GgufWriter id = least("qwen2"), types = least("qwen2"), type = least("qwen2"), eos = least("qwen2"), merges,
             empty;
  id.set("tokenizer.ggml.eos_token_id", uint32_t{3});
  types.set("tokenizer.ggml.token_type", std::vector<int32_t>{1, 1});
  type.set("tokenizer.ggml.token_type", std::vector<int32_t>{1, 7, 1});
  eos.set("tokenizer.ggml.add_eos_token", true);
  merges.set("tokenizer.ggml.model", "gpt2");
  merges.set("tokenizer.ggml.tokens", std::vector<std::string>{"a"});
  empty.set("tokenizer.ggml.model", "gpt2");
  empty.set("tokenizer.ggml.tokens", std::vector<std::string>{});
  CHECK_THAT(error(id), ContainsSubstring("eos_token_id is 3, the vocabulary has 3 tokens"));
  CHECK_THAT(error(types), ContainsSubstring("token_type has 2 entries"));
  CHECK_THAT(error(type), ContainsSubstring("token_type of token 1 is 7"));
  CHECK_THAT(error(eos), ContainsSubstring("add_eos_token is set, which is not supported"));
  CHECK_THAT(error(merges), ContainsSubstring("tokenizer.ggml.merges is missing"));
  CHECK_THAT(error(empty), ContainsSubstring("is empty"));
  CHECK_THAT(error(least("llama-bpe")), ContainsSubstring("bos_token_id is missing"));
  CHECK_THAT(error(GgufWriter()), ContainsSubstring("tokenizer.ggml.model is missing"));
}
