#include "support/tiny_model.h"

#include <cmath>
#include <numbers>
#include <random>

#include "core/error.h"

namespace deltacal::test {
namespace {

// Normal numbers that are the same on every machine (std::normal_distribution is not); Box-Muller.
class Normal {
 public:
  explicit Normal(uint64_t seed) : engine_(seed) {}
  double operator()() {
    const double radius = std::sqrt(-2 * std::log(uniform())), angle = 2 * std::numbers::pi * uniform();
    return radius * std::cos(angle);
  }

 private:
  double uniform() { return (static_cast<double>(engine_() >> 11) + 1) * 0x1p-53; }  // (0, 1]
  std::mt19937_64 engine_;
};

std::string utf8(int code) {  // below U+0800
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
}

// GPT-2's byte alphabet (bytes_to_unicode of its encoder.py): printable Latin-1 as it is, the others from
// U+0100 on.
std::vector<std::string> byte_tokens() {
  std::vector<std::string> tokens;
  int others = 0;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    tokens.push_back(utf8(printable ? byte : 256 + others++));
  }
  return tokens;
}

const std::vector<std::string> merges{"t h", "th e", "Ġ the", "i n", "1 2"};

constexpr const char* chatml =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + "
    "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

void add_tokenizer(GgufWriter& file, const TinyModel& m) {
  std::vector<int32_t> types(static_cast<size_t>(m.n_vocab), 5);  // unused
  for (size_t i = 0; i < 261; ++i) types[i] = 1;                  // normal
  for (size_t i = 261; i < 264; ++i) types[i] = 3;                // control
  file.set("tokenizer.ggml.model", "gpt2");
  file.set("tokenizer.ggml.pre", m.architecture == "qwen2" ? "qwen2" : "smollm");
  file.set("tokenizer.ggml.tokens", tiny_tokens(m.n_vocab));
  file.set("tokenizer.ggml.token_type", types);
  file.set("tokenizer.ggml.merges", merges);
  file.set("tokenizer.ggml.bos_token_id", uint32_t{tiny_im_start});
  file.set("tokenizer.ggml.eos_token_id", uint32_t{tiny_im_end});
  file.set("tokenizer.ggml.add_bos_token", false);
  file.set("tokenizer.chat_template", chatml);
}

void add_geometry(GgufWriter& file, const TinyModel& m) {
  const auto set = [&](const std::string& key, int value) {
    file.set(m.architecture + "." + key, static_cast<uint32_t>(value));
  };
  file.set("general.architecture", m.architecture);
  file.set("general.name", "tiny " + m.architecture);
  set("block_count", m.n_layers);
  set("context_length", m.max_context);
  set("embedding_length", m.n_embd);
  set("feed_forward_length", m.n_ff);
  set("attention.head_count", m.n_heads);
  set("attention.head_count_kv", m.n_kv_heads);
  set("attention.key_length", m.head_dim);
  set("attention.value_length", m.head_dim);
  set("rope.dimension_count", m.head_dim);
  file.set(m.architecture + ".rope.freq_base", static_cast<float>(m.rope_base));
  file.set(m.architecture + ".attention.layer_norm_rms_epsilon", 1e-5f);
}

}  // namespace

std::vector<std::string> tiny_tokens(int n_vocab) {
  if (n_vocab < 264) throw bad_input("a tiny model's vocabulary has at least 264 tokens, not {}", n_vocab);
  auto tokens = byte_tokens();
  for (const char* merged : {"th", "the", "Ġthe", "in", "12"}) tokens.push_back(merged);
  for (const char* special : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) tokens.push_back(special);
  while (static_cast<int>(tokens.size()) < n_vocab)
    tokens.push_back("[unused" + std::to_string(tokens.size()) + "]");
  return tokens;
}

GgufWriter tiny_model(const TinyModel& m) {
  GgufWriter file;
  add_geometry(file, m);
  add_tokenizer(file, m);
  Normal normal(m.seed);
  const auto add = [&](const std::string& name, int in, int out, double deviation, double mean = 0) {
    std::vector<float> values(static_cast<size_t>(in) * static_cast<size_t>(out));
    for (float& v : values) v = static_cast<float>(mean + deviation * normal());
    const auto rows = static_cast<uint64_t>(out), columns = static_cast<uint64_t>(in);
    file.add(name, out == 1 ? std::vector<uint64_t>{columns} : std::vector<uint64_t>{columns, rows}, values);
  };
  const int q = m.n_heads * m.head_dim, kv = m.n_kv_heads * m.head_dim;
  // Normalised inputs have unit entries: q.k/sqrt(d) then has the deviation (n_embd s^2) for weights of
  // deviation s.
  const double attention = std::sqrt(m.logit_deviation / m.n_embd), unit = 1 / std::sqrt(m.n_embd);
  add("token_embd.weight", m.n_embd, m.n_vocab, 2 * unit);
  for (int l = 0; l < m.n_layers; ++l) {
    const std::string at = "blk." + std::to_string(l) + ".";
    add(at + "attn_norm.weight", m.n_embd, 1, 0.1, 1);
    add(at + "attn_q.weight", m.n_embd, q, attention);
    add(at + "attn_k.weight", m.n_embd, kv, attention);
    add(at + "attn_v.weight", m.n_embd, kv, unit);
    if (m.architecture == "qwen2") {
      add(at + "attn_q.bias", q, 1, 0.5);
      add(at + "attn_k.bias", kv, 1, 0.5);
      add(at + "attn_v.bias", kv, 1, 0.2);
    }
    add(at + "attn_output.weight", q, m.n_embd, 1 / std::sqrt(q));
    add(at + "ffn_norm.weight", m.n_embd, 1, 0.1, 1);
    add(at + "ffn_gate.weight", m.n_embd, m.n_ff, unit);
    add(at + "ffn_up.weight", m.n_embd, m.n_ff, unit);
    add(at + "ffn_down.weight", m.n_ff, m.n_embd, 1 / std::sqrt(m.n_ff));
  }
  add("output_norm.weight", m.n_embd, 1, 0.1, 1);
  if (!m.tied_output) add("output.weight", m.n_embd, m.n_vocab, 2 * unit);
  return file;
}

void write_tiny_model(const TinyModel& m, const std::string& path) {
  tiny_model(m).write(path);
}

}  // namespace deltacal::test
