// Records page score and page mass of chosen steps while a decoder runs: an observer, it changes nothing.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "decode/decoder.h"
#include "trace/trace.h"

namespace deltacal::record {

class PageRecorder : public decode::Observer {
 public:
  // Watches sequence 0. steps [S] ascending positions; n_pages: pages of the longest step planned.
  PageRecorder(trace::SampleWriter&, std::span<const int32_t> steps, bool group_mass);
  void layer(const decode::LayerView&) override;

 private:
  trace::SampleWriter& writer_;
  std::vector<int32_t> steps_;  // [S]
  bool group_mass_;
  std::vector<float> q_, score_, mass_, group_;  // of the recorded rows of a chunk
  std::vector<int32_t> length_;
};

}  // namespace deltacal::record
