// What a model is, as its file describes it: the geometry, the shapes of all weights, the rotary embedding.
// Nothing is computed with it here. Architectures: llama (also SmolLM2, DeepSeek-R1-Distill-Llama) and qwen2
// (also DeepSeek-R1-Distill-Qwen).
//
// Weights, rows first ([out, in]; the file gives [in, out]), l = 0..n_layers-1, H = n_heads, G = n_kv_heads,
// d = head_dim:
//
//   token_embd.weight           [n_vocab, n_embd]     row of a token
//   blk.l.attn_norm.weight      [n_embd]              RMSNorm before attention
//   blk.l.attn_q.weight         [H d, n_embd]         blk.l.attn_q.bias [H d]   with qkv_bias
//   blk.l.attn_k.weight         [G d, n_embd]         blk.l.attn_k.bias [G d]   with qkv_bias
//   blk.l.attn_v.weight         [G d, n_embd]         blk.l.attn_v.bias [G d]   with qkv_bias
//   blk.l.attn_output.weight    [n_embd, H d]
//   blk.l.ffn_norm.weight       [n_embd]              RMSNorm before the feed-forward part
//   blk.l.ffn_gate.weight       [n_ff, n_embd]        SwiGLU: down(silu(gate x) * (up x))
//   blk.l.ffn_up.weight         [n_ff, n_embd]
//   blk.l.ffn_down.weight       [n_embd, n_ff]
//   output_norm.weight          [n_embd]
//   output.weight               [n_vocab, n_embd]     without tied_output
//   rope_freqs.weight           [rope.dim / 2]        only with llama3 scaling
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "core/model_info.h"
#include "model/gguf.h"

namespace deltacal::model {

// Which elements of a head one rotation turns.
enum class RotaryPairs {
  interleaved,  // (2i, 2i+1): llama, whose converter permutes the rows of q and k to this order
  neox,         // (i, i + dim/2): qwen2
};

enum class RopeScaling {
  none,
  linear,  // all frequencies divided by `factor`
  llama3,  // each frequency divided by its own factor (rope_freqs.weight)
  yarn,    // arXiv 2309.00071: low frequencies divided by `factor`, high ones kept, a ramp between
};

struct Rope {
  double base = 10000;
  int dim = 0;  // rotated elements of a head: all of them
  RotaryPairs pairs = RotaryPairs::interleaved;
  RopeScaling scaling = RopeScaling::none;
  double factor = 1;            // linear, yarn
  std::vector<float> factors;   // [dim / 2], llama3: empty otherwise
  int original_context = 0;     // yarn: positions before the extension
  double beta_fast = 32;        // yarn: rotations over the original context above which a frequency is kept
  double beta_slow = 1;         // yarn: ... below which it is divided by the whole factor
  double attention_factor = 1;  // yarn: on top of 1 + 0.1 ln(factor)
};

struct Description {
  ModelInfo info;     // name: general.name, else the file's name; sha256 and dtype are the caller's to fill
  int n_vocab = 0;    // rows of the token embedding
  int n_embd = 0;     // width of the residual stream
  int n_ff = 0;       // width of the feed-forward part
  float rms_eps = 0;  // RMSNorm: x / sqrt(mean(x^2) + rms_eps) * weight
  Rope rope;
  bool qkv_bias = false;     // biases on q, k and v (qwen2)
  bool tied_output = false;  // the logits come from token_embd.weight
};

// Reads and checks everything but the values of the weights. bad_input, naming file and key or tensor: an
// architecture, rotary scaling or other feature that is not supported, a geometry that contradicts itself, a
// weight that is missing, of another shape, or unknown (it would be left out silently).
Description describe(const Gguf&);

struct WeightShape {
  std::string name;
  std::vector<int64_t> shape;  // rows first: [out, in] or [n]
};
// All weights of the model in the order of the list above (rope_freqs.weight apart).
std::vector<WeightShape> weight_shapes(const Description&);

// Angle per position of each rotated pair, [rope.dim / 2], computed in double: base^(-2i/dim) before scaling.
std::vector<float> inverse_frequencies(const Description&);

// Factor of cos and sin, hence of q and k each: 1, with yarn (1 + 0.1 ln(factor)) * attention_factor.
float rotary_amplitude(const Description&);

std::string_view name_of(RopeScaling);

}  // namespace deltacal::model
