// Recall of the pages that a sparse layer really attends to, on the hidden states of that run.
#pragma once
#include <cstdint>
#include <vector>

#include "decode/decoder.h"
#include "evaluate/evaluate.h"

namespace deltacal::evaluate {

class RecallObserver : public decode::Observer {
 public:
  // steps: ascending positions at which recall is measured.
  RecallObserver(int n_layers, std::vector<int32_t> steps);
  void layer(const decode::LayerView&) override;
  std::vector<LayerRecall> result() const;  // of the layers that were sparse at one of the steps

 private:
  std::vector<int32_t> steps_;
  std::vector<double> sum_;     // [n_layers]
  std::vector<int> n_;          // [n_layers]
};

}  // namespace deltacal::evaluate
