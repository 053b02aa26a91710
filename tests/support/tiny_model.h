// A tiny random model with the layout of a real one, F32 throughout, for tests of everything that runs a
// model.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "support/gguf_writer.h"

namespace deltacal::test {

struct TinyModel {
  std::string architecture = "llama";  // or "qwen2": biases on q, k and v, pre-tokenizer qwen2
  int n_layers = 4;
  int n_heads = 4;
  int n_kv_heads = 2;
  int head_dim = 32;  // a multiple of 32; written as attention.key_length
  int n_embd = 64;
  int n_ff = 96;
  int n_vocab = 288;  // 256 bytes, 5 merges, 3 special tokens, the rest unused; at least 264
  int max_context = 512;
  uint64_t seed = 1;
  bool tied_output = true;
  double rope_base = 10000;
  // Standard deviation of the attention logits q.k/sqrt(head_dim) for inputs that are not correlated: at 2.5
  // the probabilities are far from uniform and from one-hot.
  double logit_deviation = 2.5;
};

inline constexpr int tiny_endoftext = 261;  // <|endoftext|>
inline constexpr int tiny_im_start = 262;   // <|im_start|>, bos
inline constexpr int tiny_im_end = 263;     // <|im_end|>, eos

// The file as a writer, to which a test may add what it is about.
GgufWriter tiny_model(const TinyModel&);
void write_tiny_model(const TinyModel&, const std::string& path);

// The 256 byte tokens in GPT-2's alphabet, merges' results, special and unused tokens, [n_vocab].
std::vector<std::string> tiny_tokens(int n_vocab);

}  // namespace deltacal::test
