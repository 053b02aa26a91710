// The transformer under an attention policy, for any rows: prefill and replay (many positions of one
// sequence), decoding (one position of each sequence). Linear layers by LibTorch, attention by kernels/, on
// the model's device.
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "decode/kv_cache.h"
#include "decode/logits.h"
#include "decode/policy.h"
#include "gpu_trace/session.h"
#include "model/model.h"

namespace deltacal::decode {

// One forward pass. Rows of one sequence are consecutive positions in ascending order.
struct Rows {
  std::span<const int32_t> token;     // [n_rows]
  std::span<const int32_t> position;  // [n_rows]
  std::span<const int32_t> sequence;  // [n_rows]
  // Rows at positions below prefilled_to of their sequence attend to everything, whatever the policy. [n_sequences]
  std::span<const int32_t> prefilled_to;
};

struct LayerTensors;

// What an observer sees of one layer, after keys and values of the rows were appended and before the output
// projection. What hidden(), q(), query() and list() point to is in host memory and stays during the call: on
// a CUDA device they copy, when first asked.
struct LayerView {
  int layer = 0, n_rows = 0, n_heads = 0, head_dim = 0;
  std::span<const int32_t> position;  // [n_rows]
  std::span<const int32_t> sequence;  // [n_rows]
  // Pages attended by each row of a sparse layer, or of a Δ-layer that keeps its lists; -1: all. Empty in
  // layers that attend to everything.
  std::span<const int32_t> list_length;  // [n_rows]
  int list_stride = 0;
  const LayerTensors* tensors = nullptr;

  const float* hidden() const;  // [n_rows, n_embd] what the layer was given
  const float* q() const;       // [n_rows, n_heads, head_dim] after rotary embedding
  const float* query() const;   // the same before it; null unless some observer reads_query()
  const int32_t* list() const;  // [n_rows, list_stride]; null in layers that attend to everything
};

// Watches a decode and changes nothing: the logits with and without it are the same bits.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void layer(const LayerView&) = 0;
  // Then, of the layer's feed-forward part, before its gate: layer, n_rows, position and sequence of the
  // view, and gate_up_of() (view_tensors.h).
  virtual void feed_forward(const LayerView&) {}
  virtual bool reads_query() const { return false; }  // LayerView::query()
};

// What the steps (rows at or after prefilled_to) of one layer have read.
struct LayerReads {
  long long attended = 0;  // positions
  long long lists = 0;     // lists made
  long long ranked = 0;    // positions whose keys were scored for them
};

// Why the decoder cannot run a model on the CUDA device that is there; empty if it can.
std::string why_not_on_cuda(const ModelInfo&);

class Decoder {
 public:
  // Both outlive the decoder. `observers` are called in order. On a CUDA device, `trace` gets the work by
  // layer and phase.
  Decoder(const model::Model&, KvCache&, Policy, std::vector<Observer*> observers = {},
          gpu_trace::Session* trace = nullptr);
  ~Decoder();

  // Runs the rows through all layers; their logits can then be asked for until the next call.
  void forward(const Rows& rows) { forward(rows, 0, nullptr); }
  // The same from layer `first_layer` on, given what that layer gets: hidden [n_rows, n_embd], as
  // LayerView::hidden() shows it. The cache needs nothing of the layers below; no layer may use a list made
  // there.
  void forward(const Rows&, int first_layer, const float* hidden);
  Logits logits(int first_row, int n_rows);
  // -log p(target[i]) of row first_row + i, nats: nll_of() without memory for all rows' logits. [n targets]
  std::vector<float> nll(int first_row, std::span<const int32_t> target);
  const Policy& policy() const;
  model::Device device() const;
  // [n_layers] Since the decoder was made; nothing of layers below `first_layer`, which are not run.
  std::span<const LayerReads> reads() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Rows whose logits nll() has at one time.
constexpr int rows_of_logits = 2048;

// Positions of one forward pass that suit the device.
constexpr int replay_chunk(model::Device device) {
  return device == model::Device::cuda ? 8192 : 512;
}

// Rows of one sequence from which on a device attends them together, and knows their log-sum-exp.
constexpr int rows_of_prefill = 64;

// The next pass of a sequence of which `left` positions are left, as suits the device: where fewer than
// rows_of_prefill would be left to the last pass, a thousand of this one's go with them.
constexpr int replay_rows(model::Device device, int left) {
  const int most = replay_chunk(device), rest = left - most;
  if (device == model::Device::cuda && rest > 0 && rest < rows_of_prefill) return most - 1024;
  return std::min(most, left);
}

// Teacher-forced pass over ids[first..end) of a sequence, in chunks; 0: as suits the device.
// `after_chunk(first_position, n_rows)` is called after each one, while its logits can be asked for.
template <class AfterChunk>
void replay(Decoder& decoder, std::span<const int32_t> ids, int n_prompt_tokens, AfterChunk after_chunk,
            int chunk = 0, int of_sequence = 0) {
  std::vector<int32_t> position, sequence;
  const std::vector<int32_t> prefilled_to(size_t(of_sequence) + 1, n_prompt_tokens);
  for (int first = 0, n = 0; first < static_cast<int>(ids.size()); first += n) {
    const int left = static_cast<int>(ids.size()) - first;
    n = chunk > 0 ? std::min(chunk, left) : replay_rows(decoder.device(), left);
    position.resize(n);
    sequence.assign(n, of_sequence);
    for (int i = 0; i < n; ++i) position[i] = first + i;
    decoder.forward({ids.subspan(first, n), position, sequence, prefilled_to});
    after_chunk(first, n);
  }
}

}  // namespace deltacal::decode
