// What a forward pass over one sequence leaves for the backward pass: the residual stream at the input of
// each layer, and of a layer on a CUDA device, where there is room, what would else be computed again:
// queries, attention outputs and their log-sum-exp, and the products that the feed-forward part's gate takes.
// Memory linear in the sequence's length.
#pragma once
#include <cstddef>
#include <memory>

#include "decode/decoder.h"
#include "model/model.h"

namespace deltacal::sensitivity {

class Activations {
 public:
  // besides: bytes of the device's memory that something else is yet to take. The residual stream goes to the
  // host's memory where it does not fit beside that, and then nothing else is kept.
  Activations(const model::Model&, int n_tokens, size_t besides);
  Activations(Activations&&) noexcept;
  ~Activations();
  // What the view's layer was given and attended, at the rows' positions; what its gate was given.
  void take(const decode::LayerView&);
  void take_gate(const decode::LayerView&);
  int n_tokens() const;

  struct Impl;
  Impl& tensors() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace deltacal::sensitivity
