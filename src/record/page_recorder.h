// Records page score and page mass of chosen steps while a decoder runs: an observer, it changes nothing.
#pragma once
#include <cstdint>
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

 private:
  trace::SampleWriter& writer_;
  std::vector<int32_t> steps_;  // [S]
  bool group_mass_;
  decode::ScoredRows scored_;  // of a chunk; kept for its memory
};

}  // namespace deltacal::record
