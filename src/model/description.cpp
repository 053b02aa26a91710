#include "model/description.h"

#include <fmt/ranges.h>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <set>

#include "core/error.h"

namespace deltacal::model {
namespace {

// The file's keys under its architecture ("llama.block_count"), with ranges.
class Keys {
 public:
  Keys(const Gguf& file, std::string architecture) : file_(file), prefix_(std::move(architecture) + ".") {}

  std::string full(const std::string& key) const { return prefix_ + key; }
  bool has(const std::string& key) const { return file_.has(full(key)); }

  int size(const std::string& key) const {  // a positive int
    const int64_t value = file_.integer(full(key));
    if (value < 1 || value > std::numeric_limits<int>::max())
      throw bad_input("{}: {} is {}, expected 1 or more and below 2^31", file_.path(), full(key), value);
    return static_cast<int>(value);
  }
  int size_or(const std::string& key, int otherwise) const { return has(key) ? size(key) : otherwise; }

  double positive(const std::string& key) const {
    const double value = file_.number(full(key));
    if (!(value > 0) || !std::isfinite(value))
      throw bad_input("{}: {} is {}, expected a positive number", file_.path(), full(key), value);
    return value;
  }
  double positive_or(const std::string& key, double otherwise) const {
    return has(key) ? positive(key) : otherwise;
  }

  // Refuses a key that would change the computation unless it holds the value under which it does nothing.
  void refuse_unless(const std::string& key, double neutral, const char* what) const {
    if (has(key) && file_.number(full(key)) != neutral)
      throw bad_input("{}: {} ({} {}) is not supported", file_.path(), what, full(key),
                      file_.number(full(key)));
  }

 private:
  const Gguf& file_;
  std::string prefix_;
};

std::string architecture_of(const Gguf& file) {
  const std::string& name = file.string("general.architecture");
  if (name != "llama" && name != "qwen2")
    throw bad_input("{}: the architecture {} is not supported; llama and qwen2 are", file.path(), name);
  return name;
}

void refuse_features(const Gguf& file, const Keys& keys, int head_dim, int context) {
  keys.refuse_unless("expert_count", 0, "a mixture of experts");
  keys.refuse_unless("attention.max_alibi_bias", 0, "ALiBi");
  keys.refuse_unless("attention.clamp_kqv", 0, "clamping of q, k and v");
  keys.refuse_unless("attn_logit_softcapping", 0, "soft-capping of attention logits");
  keys.refuse_unless("final_logit_softcapping", 0, "soft-capping of logits");
  keys.refuse_unless("logit_scale", 1, "scaling of logits");
  keys.refuse_unless("embedding_scale", 1, "scaling of embeddings");
  keys.refuse_unless("residual_scale", 1, "scaling of the residual stream");
  keys.refuse_unless("attention.value_length", head_dim, "a value length other than the key length");
  keys.refuse_unless("rope.dimension_count", head_dim, "a rotary embedding of a part of the head");
  if (keys.has("attention.scale") &&
      std::abs(keys.positive("attention.scale") * std::sqrt(head_dim) - 1) > 1e-6)
    throw bad_input("{}: an attention scale other than 1/sqrt(head_dim) is not supported", file.path());
  if (keys.has("attention.causal") && !file.flag(keys.full("attention.causal")))
    throw bad_input("{}: attention that is not causal is not supported", file.path());
  // A window as long as the context takes nothing away.
  if (!keys.has("attention.sliding_window")) return;
  const int64_t window = file.integer(keys.full("attention.sliding_window"));
  if (window > 0 && window < context)
    throw bad_input(
        "{}: sliding-window attention ({} positions of {}) is not supported: DELTA chooses among all pages",
        file.path(), window, context);
}

RopeScaling scaling_type(const Gguf& file, const Keys& keys) {
  const std::string key = keys.full("rope.scaling.type");
  const bool has_factor = keys.has("rope.scaling.factor") || keys.has("rope.scale_linear");
  const std::string name = file.has(key) ? file.string(key) : has_factor ? "linear" : "none";
  for (const RopeScaling known :
       {RopeScaling::none, RopeScaling::linear, RopeScaling::llama3, RopeScaling::yarn})
    if (name == name_of(known)) return known;
  throw bad_input(
      "{}: the rotary scaling {} is not supported; none, linear, llama3 (by rope_freqs.weight) and yarn are",
      file.path(), name);
}

void read_frequency_factors(const Gguf& file, Rope& rope) {
  const GgufTensor& tensor = file.tensor("rope_freqs.weight");
  if (tensor.shape != std::vector<int64_t>{rope.dim / 2})
    throw bad_input("{}: rope_freqs.weight has the shape [{}], expected [{}]", file.path(),
                    fmt::join(tensor.shape, ", "), rope.dim / 2);
  rope.factors.resize(static_cast<size_t>(rope.dim / 2));
  dequantize(tensor, rope.factors);
  for (const float f : rope.factors)
    if (!(f > 0) || !std::isfinite(f))
      throw bad_input("{}: rope_freqs.weight holds {}, expected positive numbers", file.path(), f);
  rope.scaling = RopeScaling::llama3;
}

Rope read_rope(const Gguf& file, const Keys& keys, const ModelInfo& info) {
  Rope rope;
  rope.base = keys.positive_or("rope.freq_base", 10000);
  rope.dim = info.head_dim;
  rope.pairs = info.architecture == "llama" ? RotaryPairs::interleaved : RotaryPairs::neox;
  rope.scaling = scaling_type(file, keys);
  if (rope.scaling == RopeScaling::linear || rope.scaling == RopeScaling::yarn) {
    // rope.scale_linear is the older name of the same number.
    rope.factor =
        keys.positive(keys.has("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear");
    if (rope.factor == 1) rope.scaling = RopeScaling::none;
  }
  if (rope.scaling == RopeScaling::yarn) {
    rope.original_context = keys.size_or("rope.scaling.original_context_length", info.max_context);
    rope.beta_fast = keys.positive_or("rope.scaling.yarn_beta_fast", rope.beta_fast);
    rope.beta_slow = keys.positive_or("rope.scaling.yarn_beta_slow", rope.beta_slow);
    rope.attention_factor = keys.positive_or("rope.scaling.attn_factor", 1);
    if (rope.factor < 1 || rope.base <= 1)
      throw bad_input("{}: yarn needs a factor and a base above 1, there are {} and {}", file.path(),
                      rope.factor, rope.base);
    keys.refuse_unless("rope.scaling.yarn_log_multiplier", 0, "yarn with a logarithmic multiplier");
    keys.refuse_unless("rope.scaling.yarn_ext_factor", 1, "yarn with an extrapolation factor other than 1");
    keys.refuse_unless("rope.scaling.yarn_attn_factor", 1, "yarn with an attention factor of its own");
  }
  const bool has_factors = file.tensors().contains("rope_freqs.weight");
  if (has_factors && rope.scaling != RopeScaling::none && rope.scaling != RopeScaling::llama3)
    throw bad_input("{}: the rotary scaling {} together with rope_freqs.weight is not supported", file.path(),
                    name_of(rope.scaling));
  if (has_factors || rope.scaling == RopeScaling::llama3) read_frequency_factors(file, rope);
  return rope;
}

ModelInfo read_geometry(const Gguf& file, const Keys& keys, int n_embd) {
  ModelInfo info;
  info.name = file.has("general.name") ? file.string("general.name") : "";
  if (info.name.empty()) info.name = std::filesystem::path(file.path()).filename().string();
  info.architecture = architecture_of(file);
  info.n_layers = keys.size("block_count");
  info.n_heads = keys.size("attention.head_count");
  info.n_kv_heads = keys.size_or("attention.head_count_kv", info.n_heads);
  info.max_context = keys.size("context_length");
  if (static_cast<size_t>(info.n_layers) > file.tensors().size())
    throw bad_input("{}: {} is {}, but the file holds {} tensors in all", file.path(),
                    keys.full("block_count"), info.n_layers, file.tensors().size());
  if (info.n_heads % info.n_kv_heads != 0)
    throw bad_input("{}: {} query heads are no multiple of {} key/value heads", file.path(), info.n_heads,
                    info.n_kv_heads);
  if (!keys.has("attention.key_length") && n_embd % info.n_heads != 0)
    throw bad_input("{}: the width {} is no multiple of {} heads, and {} is missing", file.path(), n_embd,
                    info.n_heads, keys.full("attention.key_length"));
  info.head_dim = keys.size_or("attention.key_length", n_embd / info.n_heads);
  if (info.head_dim % 32 != 0)
    throw bad_input("{}: a head dimension of {} is not supported: multiples of 32 are", file.path(),
                    info.head_dim);
  return info;
}

std::vector<int64_t> rows_first(const GgufTensor& tensor) {
  return {tensor.shape.rbegin(), tensor.shape.rend()};
}

int rows_of_embedding(const Gguf& file, int n_embd) {
  const auto shape = rows_first(file.tensor("token_embd.weight"));
  if (shape.size() != 2 || shape[1] != n_embd || shape[0] > std::numeric_limits<int>::max())
    throw bad_input("{}: token_embd.weight has the shape [{}], expected [n_vocab, {}]", file.path(),
                    fmt::join(shape, ", "), n_embd);
  const int n_vocab = static_cast<int>(shape[0]);
  const std::string tokens = "tokenizer.ggml.tokens";
  if (file.has(tokens) && file.strings(tokens).size() != static_cast<size_t>(n_vocab))
    throw bad_input("{}: token_embd.weight has {} rows, the tokenizer {} tokens", file.path(), n_vocab,
                    file.strings(tokens).size());
  return n_vocab;
}

// Every weight is there in its shape, and none is left over: an unknown one means another computation.
void check_weights(const Gguf& file, const Description& model) {
  std::set<std::string, std::less<>> known{"rope_freqs.weight"};
  for (const auto& [name, shape] : weight_shapes(model)) {
    const auto found = rows_first(file.tensor(name));
    if (found != shape)
      throw bad_input("{}: {} has the shape [{}] (rows first), expected [{}]", file.path(), name,
                      fmt::join(found, ", "), fmt::join(shape, ", "));
    known.insert(name);
  }
  for (const auto& [name, tensor] : file.tensors())
    if (!known.contains(name))
      throw bad_input("{}: the tensor {} is not part of the architecture {} as supported here", file.path(),
                      name, model.info.architecture);
}

}  // namespace

std::string_view name_of(RopeScaling scaling) {
  switch (scaling) {
    case RopeScaling::none:
      return "none";
    case RopeScaling::linear:
      return "linear";
    case RopeScaling::llama3:
      return "llama3";
    case RopeScaling::yarn:
      return "yarn";
  }
  return "";
}

Description describe(const Gguf& file) {
  const Keys keys(file, architecture_of(file));
  Description model;
  model.n_embd = keys.size("embedding_length");
  model.n_ff = keys.size("feed_forward_length");
  model.rms_eps = static_cast<float>(keys.positive("attention.layer_norm_rms_epsilon"));
  model.info = read_geometry(file, keys, model.n_embd);
  refuse_features(file, keys, model.info.head_dim, model.info.max_context);
  model.rope = read_rope(file, keys, model.info);
  model.n_vocab = rows_of_embedding(file, model.n_embd);
  model.qkv_bias = model.info.architecture == "qwen2" || file.tensors().contains("blk.0.attn_q.bias");
  model.tied_output = !file.tensors().contains("output.weight");
  check_weights(file, model);
  return model;
}

std::vector<WeightShape> weight_shapes(const Description& model) {
  const int64_t vocab = model.n_vocab, embd = model.n_embd, ff = model.n_ff;
  const int64_t q = int64_t{model.info.n_heads} * model.info.head_dim;
  const int64_t kv = int64_t{model.info.n_kv_heads} * model.info.head_dim;
  std::vector<WeightShape> all{{"token_embd.weight", {vocab, embd}}};
  for (int l = 0; l < model.info.n_layers; ++l) {
    const auto add = [&](const char* name, std::vector<int64_t> shape) {
      all.push_back({fmt::format("blk.{}.{}", l, name), std::move(shape)});
    };
    add("attn_norm.weight", {embd});
    add("attn_q.weight", {q, embd});
    add("attn_k.weight", {kv, embd});
    add("attn_v.weight", {kv, embd});
    if (model.qkv_bias) {
      add("attn_q.bias", {q});
      add("attn_k.bias", {kv});
      add("attn_v.bias", {kv});
    }
    add("attn_output.weight", {embd, q});
    add("ffn_norm.weight", {embd});
    add("ffn_gate.weight", {ff, embd});
    add("ffn_up.weight", {ff, embd});
    add("ffn_down.weight", {embd, ff});
  }
  all.push_back({"output_norm.weight", {embd}});
  if (!model.tied_output) all.push_back({"output.weight", {vocab, embd}});
  return all;
}

namespace {

// YaRN (arXiv 2309.00071, section 3.2): the share of pair i that keeps its frequency. The paper's ramp runs
// over the number of rotations; its authors' code, and all models trained with it, take a ramp over the
// pair's index between the two pairs that turn beta_fast and beta_slow times over the original context,
// rounded outwards. So does this.
double share_kept(const Rope& rope, int pair) {
  const auto pair_turning = [&](double rotations) {
    return rope.dim * std::log(rope.original_context / (rotations * 2 * M_PI)) / (2 * std::log(rope.base));
  };
  const double first = std::max(std::floor(pair_turning(rope.beta_fast)), 0.0);
  const double last = std::min(std::ceil(pair_turning(rope.beta_slow)), rope.dim - 1.0);
  return 1 - std::clamp((pair - first) / std::max(last - first, 0.001), 0.0, 1.0);
}

}  // namespace

std::vector<float> inverse_frequencies(const Description& model) {
  const Rope& rope = model.rope;
  std::vector<float> angles(static_cast<size_t>(rope.dim / 2));
  for (int i = 0; i < rope.dim / 2; ++i) {
    double angle = std::pow(rope.base, -2.0 * i / rope.dim);
    switch (rope.scaling) {
      case RopeScaling::none:
        break;
      case RopeScaling::linear:
        angle /= rope.factor;
        break;
      case RopeScaling::llama3:
        angle /= double{rope.factors[static_cast<size_t>(i)]};
        break;
      case RopeScaling::yarn: {
        const double kept = share_kept(rope, i);
        angle = angle * kept + angle / rope.factor * (1 - kept);
        break;
      }
    }
    angles[static_cast<size_t>(i)] = static_cast<float>(angle);
  }
  return angles;
}

float rotary_amplitude(const Description& model) {
  if (model.rope.scaling != RopeScaling::yarn) return 1;
  return static_cast<float>((1 + 0.1 * std::log(model.rope.factor)) * model.rope.attention_factor);
}

}  // namespace deltacal::model
