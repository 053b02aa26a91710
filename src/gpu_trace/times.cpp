#include <algorithm>
#include <map>

#include "gpu_trace/trace.h"

namespace deltacal::gpu_trace {
namespace {

// Time covered by events that come by their starts.
class Cover {
 public:
  void add(uint64_t start, uint64_t end) {
    if (end <= end_) return;
    covered_ += end - std::max(start, end_);
    end_ = end;
  }
  uint64_t covered() const { return covered_; }

 private:
  uint64_t covered_ = 0, end_ = 0;
};

}  // namespace

Times time_by_phase(const Trace& trace) {
  struct Sums {
    PhaseTime time;
    Cover cover;
  };
  std::map<std::string, Sums> phases;
  Cover all;
  uint64_t last = 0;
  for (const Event& e : trace.events) {
    const std::string phase = e.label < 0 ? std::string() : trace.labels[size_t(e.label)].phase;
    Sums& s = phases[phase];
    s.time.phase = phase;
    ++s.time.n_events;
    s.time.sum_ns += e.end_ns - e.start_ns;
    s.cover.add(e.start_ns, e.end_ns);
    all.add(e.start_ns, e.end_ns);
    last = std::max(last, e.end_ns);
  }
  Times times;
  for (auto& [name, s] : phases) {
    s.time.busy_ns = s.cover.covered();
    times.phases.push_back(std::move(s.time));
  }
  std::stable_sort(times.phases.begin(), times.phases.end(),
                   [](const PhaseTime& a, const PhaseTime& b) { return a.busy_ns > b.busy_ns; });
  times.busy_ns = all.covered();
  if (!trace.events.empty()) times.span_ns = last - trace.events.front().start_ns;
  return times;
}

}  // namespace deltacal::gpu_trace
