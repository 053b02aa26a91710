// Records page score and page mass of chosen steps while a decoder runs: an observer, it changes nothing. On
// a CUDA device scores are written when the device has gone on to later layers: nothing waits.
#pragma once
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "decode/scored_rows.h"
#include "trace/trace.h"

namespace deltacal::record {

class PageRecorder : public decode::Observer {
 public:
  // Watches one sequence. steps [S] ascending positions.
  PageRecorder(trace::SampleWriter&, std::span<const int32_t> steps, bool group_mass);
  void layer(const decode::LayerView&) override;
  void finish();  // writes what is still on its way; before the sample is finished

 private:
  struct Pending {
    int layer, first_row, n_rows;
    decode::TakeScores take;
  };
  void write_oldest();

  trace::SampleWriter& writer_;
  std::vector<int32_t> steps_;  // [S]
  bool group_mass_;
  std::deque<Pending> pending_;
  decode::ScoredRows scored_;  // as they are written; kept for its memory
};

}  // namespace deltacal::record
