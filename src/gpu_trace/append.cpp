#include <fmt/format.h>

#include <algorithm>

#include "gpu_trace/trace.h"

namespace deltacal::gpu_trace {

void append(Trace& all, const Trace& part, const std::string& what) {
  const int first_name = int(all.names.size()), first_label = int(all.labels.size());
  all.names.insert(all.names.end(), part.names.begin(), part.names.end());
  for (const Label& label : part.labels)
    all.labels.push_back({label.layer, fmt::format("{}: {}", what, label.phase)});
  for (Event event : part.events) {
    event.name += first_name;
    if (event.label >= 0) event.label += first_label;
    all.events.push_back(event);
  }
  std::ranges::stable_sort(all.events, {}, &Event::start_ns);
  all.n_dropped += part.n_dropped;
}

}  // namespace deltacal::gpu_trace
