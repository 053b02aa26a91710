// Logits of some rows, and what is computed from them.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "decode/sampling.h"
#include "model/device.h"

namespace deltacal::decode {

// KL(full || sparse) in nats, and whether both have the same most likely token, for each row.
struct Agreement {
  std::vector<float> kl;      // [n_rows] >= 0
  std::vector<uint8_t> top1;  // [n_rows]
};

// The most likely token of each row, the lowest id among equals, and its -log p in nats: all that a greedy
// step brings back from a device.
struct Choice {
  std::vector<int32_t> token;  // [n_rows]
  std::vector<float> nll;      // [n_rows]
};

// Logarithms of unnormalised probabilities, [n_rows, n_vocab] f32.
class Logits {
 public:
  Logits();
  Logits(Logits&&) noexcept;
  Logits& operator=(Logits&&) noexcept;
  ~Logits();
  // Numbers in host memory, [n_rows, n_vocab], copied to a device.
  static Logits of(model::Device, int n_rows, std::span<const float> numbers);
  int n_rows() const;
  std::span<const float> row(int) const;  // [n_vocab]

 private:
  friend class Decoder;
  friend class StepGraph;
  friend std::vector<float> nll_of(const Logits&, std::span<const int32_t>);
  friend Agreement compare(const Logits&, const Logits&);
  friend Choice most_likely(const Logits&);
  friend Choice draw(const Logits&, std::span<const struct Draw>);
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// -log p(target) of the first rows, nats. target [at most n_rows].
std::vector<float> nll_of(const Logits&, std::span<const int32_t> target);

Choice most_likely(const Logits&);

// What Sampler::next() of such options makes of a row when its uniform() is `uniform`, to the rounding of
// sums, on the logits' device. draws [n_rows]
struct Draw {
  SamplingOptions options;
  double uniform = 0;
};
Choice draw(const Logits&, std::span<const Draw> draws);
// Rows drawn at one time, and the most bytes that each takes for a word of the vocabulary: sorted logits,
// their ids and what sorts them; probabilities and their sums in double.
constexpr int rows_of_draw = 32, draw_bytes = 64;

// Both of the same rows.
Agreement compare(const Logits& full, const Logits& sparse);

}  // namespace deltacal::decode
