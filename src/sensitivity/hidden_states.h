// The residual stream at the input of each layer at every position of one sequence: memory linear in its
// length. In the device's memory where there is room for it and for what is computed beside it, else the
// host's.
#pragma once
#include <cstddef>
#include <memory>

#include "decode/decoder.h"
#include "model/model.h"

namespace deltacal::sensitivity {

class HiddenStates {
 public:
  // besides: bytes of the device's memory that something else is yet to take.
  HiddenStates(const model::Model&, int n_tokens, size_t besides);
  HiddenStates(HiddenStates&&) noexcept;
  ~HiddenStates();
  void take(const decode::LayerView&);  // what the view's layer was given, at the rows' positions
  int n_tokens() const;
  static size_t bytes(const model::Description&, int n_tokens);

  struct Impl;
  const Impl& tensors() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace deltacal::sensitivity
