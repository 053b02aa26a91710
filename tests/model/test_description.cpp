#include "model/description.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>

#include "core/files.h"
#include "support/scratch.h"
#include "support/tiny_model.h"

using namespace deltacal;
using namespace deltacal::model;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;
using Catch::Matchers::WithinRel;
using test::GgufWriter;
using test::TinyModel;

namespace {

Description read(const GgufWriter& file) {
  test::Scratch folder;
  file.write(folder / "m.gguf");
  return describe(Gguf(folder / "m.gguf"));
}
std::string error(const GgufWriter& file) {
  return test::error_of([&] { read(file); });
}
// The error of a tiny llama with one more key.
template <class T>
std::string error_with(const std::string& key, T value) {
  GgufWriter file = test::tiny_model({});
  file.set(key, value);
  return error(file);
}

void set_yarn(GgufWriter& file, float factor, uint32_t original) {
  file.set("llama.rope.scaling.type", "yarn");
  file.set("llama.rope.scaling.factor", factor);
  file.set("llama.rope.scaling.original_context_length", original);
}

}  // namespace

TEST_CASE("description: the default model") {
  const Description m = describe(Gguf(DEFAULT_MODEL));
  CHECK(m.info.name == "Smollm2 135M 8k Lc100K Mix1 Ep2");
  CHECK(m.info.architecture == "llama");
  CHECK(m.info.n_layers == 30);
  CHECK(m.info.n_heads == 9);
  CHECK(m.info.n_kv_heads == 3);
  CHECK(m.info.head_dim == 64);
  CHECK(m.info.max_context == 8192);
  CHECK(m.n_vocab == 49152);
  CHECK(m.n_embd == 576);
  CHECK(m.n_ff == 1536);
  CHECK(m.rms_eps == 1e-5f);
  CHECK(m.rope.base == 1e5);
  CHECK(m.rope.dim == 64);
  CHECK(m.rope.pairs == RotaryPairs::interleaved);
  CHECK(m.rope.scaling == RopeScaling::none);
  CHECK_FALSE(m.qkv_bias);
  CHECK(m.tied_output);
  CHECK(weight_shapes(m).size() == 272);  // of the file's header
}

TEST_CASE("description: tiny models of both architectures, tied and untied") {
  for (const std::string architecture : {"llama", "qwen2"})
    for (const bool tied : {true, false}) {
      TinyModel tiny;
      tiny.architecture = architecture;
      tiny.tied_output = tied;
      tiny.n_heads = 6;
      tiny.head_dim = 96;
      tiny.seed = 3;
      const Description m = read(test::tiny_model(tiny));
      CHECK(m.info.architecture == architecture);
      CHECK(m.info.name == "tiny " + architecture);
      CHECK(m.info.head_dim == 96);
      CHECK(m.info.n_kv_heads == 2);
      CHECK(m.tied_output == tied);
      CHECK(m.qkv_bias == (architecture == "qwen2"));
      CHECK((m.rope.pairs == RotaryPairs::neox) == (architecture == "qwen2"));
    }
}

TEST_CASE("description: biases on q, k and v of a llama are taken if whole") {
  GgufWriter file = test::tiny_model({.n_layers = 1}), part = test::tiny_model({.n_layers = 1});
  part.add("blk.0.attn_q.bias", {128}, std::vector<float>(128));
  CHECK_THAT(error(part), ContainsSubstring("blk.0.attn_k.bias is missing"));
  file.add("blk.0.attn_q.bias", {128}, std::vector<float>(128));
  file.add("blk.0.attn_k.bias", {64}, std::vector<float>(64));
  file.add("blk.0.attn_v.bias", {64}, std::vector<float>(64));
  CHECK(read(file).qkv_bias);
}

TEST_CASE("description: architectures and features that are not supported are refused by name") {
  GgufWriter gemma;
  gemma.set("general.architecture", "gemma3");
  CHECK_THAT(error(gemma),
             StartsWith("2: ") &&
                 ContainsSubstring("the architecture gemma3 is not supported; llama and qwen2 are"));
  CHECK_THAT(error_with("llama.expert_count", uint32_t{8}),
             ContainsSubstring("mixture of experts (llama.expert_count 8)"));
  CHECK(error_with("llama.expert_count", uint32_t{0}) == "no error");
  CHECK_THAT(error_with("llama.attention.sliding_window", uint32_t{128}),
             ContainsSubstring("sliding-window attention"));
  CHECK(error_with("llama.attention.sliding_window", uint32_t{512}) == "no error");
  CHECK_THAT(error_with("llama.logit_scale", 0.5f), ContainsSubstring("scaling of logits"));
  CHECK_THAT(error_with("llama.attention.scale", 0.5f), ContainsSubstring("attention scale"));
  CHECK_THAT(error_with("llama.attention.causal", false), ContainsSubstring("not causal"));
  CHECK_THAT(error_with("llama.rope.scaling.type", "longrope"),
             ContainsSubstring("the rotary scaling longrope is not supported"));
  CHECK_THAT(error_with("llama.rope.scaling.type", "linear"),
             ContainsSubstring("rope.scaling.factor is missing") ||
                 ContainsSubstring("rope.scale_linear is missing"));
  CHECK_THAT(error_with("llama.rope.scaling.type", "llama3"),
             ContainsSubstring("rope_freqs.weight is missing"));
  GgufWriter norm = test::tiny_model({});
  norm.add("blk.0.attn_q_norm.weight", {32}, std::vector<float>(32));
  CHECK_THAT(error(norm),
             ContainsSubstring("blk.0.attn_q_norm.weight is not part of the architecture llama"));
}

TEST_CASE("description: a geometry that contradicts itself is refused") {
  CHECK_THAT(error(test::tiny_model({.n_heads = 4, .n_kv_heads = 3})),
             ContainsSubstring("4 query heads are no multiple of 3"));
  CHECK_THAT(error(test::tiny_model({.head_dim = 48})),
             ContainsSubstring("head dimension of 48 is not supported"));

  GgufWriter empty;
  empty.set("general.architecture", "llama");
  CHECK_THAT(error(empty), ContainsSubstring("llama.embedding_length is missing"));

  // The same file with a number changed in place.
  const auto changed = [](const std::string& key, uint32_t value) {
    test::Scratch folder;
    std::string bytes = test::tiny_model({}).bytes();
    const size_t at = bytes.find(key);
    REQUIRE(at != std::string::npos);
    bytes.replace(at + key.size() + 4, 4, test::bytes_of(value));
    write_file_atomically(folder / "m.gguf", bytes, Existing::refuse);
    return test::error_of([&] { describe(Gguf(folder / "m.gguf")); });
  };
  CHECK_THAT(changed("llama.block_count", 5), ContainsSubstring("blk.4.attn_norm.weight is missing"));
  CHECK_THAT(changed("llama.block_count", 3),
             ContainsSubstring("blk.3.") && ContainsSubstring("is not part"));
  CHECK_THAT(changed("llama.block_count", 0), ContainsSubstring("llama.block_count is 0"));
  CHECK_THAT(changed("llama.block_count", 0x7fffffff), ContainsSubstring("llama.block_count is 2147483647"));
  CHECK_THAT(changed("llama.feed_forward_length", 95),
             ContainsSubstring("ffn_gate.weight has the shape [96, 64] (rows first), expected [95, 64]"));
  CHECK_THAT(changed("llama.embedding_length", 63),
             ContainsSubstring("token_embd.weight has the shape [288, 64]"));
  CHECK_THAT(changed("llama.attention.head_count_kv", 4),
             ContainsSubstring("blk.0.attn_k.weight has the shape [64, 64]"));
  CHECK_THAT(changed("llama.rope.dimension_count", 16), ContainsSubstring("a part of the head"));
  CHECK_THAT(changed("llama.context_length", 0x80000000), ContainsSubstring("llama.context_length"));
}

TEST_CASE("description: an embedding and a tokenizer of different size are refused") {
  const GgufWriter tiny = test::tiny_model({});
  std::string bytes = tiny.bytes();
  // The first tensor is token_embd.weight: its second dimension lies 8 bytes behind the first.
  const size_t at = bytes.find("token_embd.weight") + 17 + 4 + 8;
  bytes.replace(at, 8, test::bytes_of<uint64_t>(287));
  test::Scratch folder;
  write_file_atomically(folder / "m.gguf", bytes, Existing::refuse);
  CHECK_THAT(test::error_of([&] { describe(Gguf(folder / "m.gguf")); }),
             ContainsSubstring("token_embd.weight has 287 rows, the tokenizer 288 tokens"));
}

TEST_CASE("rotary: plain and linear frequencies") {
  const auto plain = inverse_frequencies(read(test::tiny_model({.head_dim = 64, .rope_base = 1e6})));
  REQUIRE(plain.size() == 32);
  for (size_t i = 0; i < plain.size(); ++i)
    CHECK_THAT(plain[i], WithinRel(std::exp(-std::log(1e6) * static_cast<double>(i) / 32), 1e-7));
  GgufWriter file = test::tiny_model({.head_dim = 64, .rope_base = 1e6});
  file.set("llama.rope.scaling.factor", 4.0f);  // without a type: linear, as llama.cpp has it
  const Description linear = read(file);
  CHECK(linear.rope.scaling == RopeScaling::linear);
  const auto slower = inverse_frequencies(linear);
  for (size_t i = 0; i < plain.size(); ++i) CHECK_THAT(slower[i], WithinRel(plain[i] / 4, 1e-6f));
  CHECK(rotary_amplitude(linear) == 1);
}

TEST_CASE("rotary: llama3 divides each frequency by its factor, and odd factors are refused") {
  std::vector<float> factors(16);
  for (size_t i = 0; i < 16; ++i) factors[i] = i < 8 ? 1.0f : 8.0f;
  GgufWriter file = test::tiny_model({});
  file.add("rope_freqs.weight", {16}, factors);
  const Description m = read(file);
  CHECK(m.rope.scaling == RopeScaling::llama3);
  const auto plain = inverse_frequencies(read(test::tiny_model({}))), scaled = inverse_frequencies(m);
  for (size_t i = 0; i < 16; ++i) CHECK(scaled[i] == plain[i] / factors[i]);
  GgufWriter length = test::tiny_model({}), zero = test::tiny_model({}), both = test::tiny_model({});
  length.add("rope_freqs.weight", {15}, std::vector<float>(15, 1));
  zero.add("rope_freqs.weight", {16}, std::vector<float>(16, 0));
  both.add("rope_freqs.weight", {16}, factors);
  both.set("llama.rope.scaling.factor", 2.0f);
  CHECK_THAT(error(length), ContainsSubstring("rope_freqs.weight has the shape [15], expected [16]"));
  CHECK_THAT(error(zero), ContainsSubstring("rope_freqs.weight holds 0"));
  CHECK_THAT(error(both), ContainsSubstring("linear together with rope_freqs.weight"));
}

TEST_CASE("rotary: yarn keeps the fast pairs, divides the slow ones and ramps between") {
  GgufWriter file = test::tiny_model({.head_dim = 128, .rope_base = 1e6});
  set_yarn(file, 4, 32768);
  const Description m = read(file);
  const auto angles = inverse_frequencies(m);
  const auto plain = inverse_frequencies(read(test::tiny_model({.head_dim = 128, .rope_base = 1e6})));
  REQUIRE(angles.size() == 64);
  // Qwen2.5's setting: the pairs that turn 32 times and once lie at 23.6 and 39.6, hence a ramp from 23
  // to 40.
  for (size_t i = 0; i <= 23; ++i) CHECK(angles[i] == plain[i]);
  for (size_t i = 40; i < 64; ++i) CHECK_THAT(angles[i], WithinRel(plain[i] / 4, 1e-6f));
  for (const size_t i : {24u, 30u, 39u}) {
    const double divided = (static_cast<double>(i) - 23) / 17;
    CHECK_THAT(angles[i], WithinRel(plain[i] * (1 - divided) + plain[i] / 4 * divided, 1e-6));
  }
  CHECK_THAT(rotary_amplitude(m), WithinRel(1.1386294361119890f, 1e-6f));  // 1 + 0.1 ln 4
  GgufWriter shrinking = test::tiny_model({});
  set_yarn(shrinking, 0.5f, 512);
  CHECK_THAT(error(shrinking), ContainsSubstring("yarn needs a factor"));
}
