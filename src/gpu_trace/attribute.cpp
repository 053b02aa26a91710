#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "gpu_trace/raw.h"

namespace deltacal::gpu_trace {

std::string demangled(const std::string& name) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(
      abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status), std::free);
  return status == 0 ? std::string(text.get()) : name;
}

int Raw::name_index(std::string_view name) {
  const auto [found, is_new] = name_indices_.try_emplace(std::string(name), int(names.size()));
  if (is_new) names.emplace_back(name);
  return found->second;
}

int Raw::label_index(int layer, std::string_view phase) {
  // Few: phases times layers.
  for (size_t i = 0; i < labels.size(); ++i)
    if (labels[i].layer == layer && labels[i].phase == phase) return int(i);
  labels.push_back({layer, std::string(phase)});
  return int(labels.size()) - 1;
}

Trace attribute(Raw raw) {
  Trace trace;
  trace.labels = std::move(raw.labels);
  trace.n_dropped = raw.n_dropped;
  for (const std::string& name : raw.names) trace.names.push_back(demangled(name));
  for (RawRecord& record : raw.records) {
    if (record.event.node != 0) {
      record.event.label = raw.nodes.at(record.event.node);
    } else if (const auto launch = raw.launches.find(record.correlation); launch != raw.launches.end()) {
      record.event.label = launch->second;
    }
    trace.events.push_back(record.event);
  }
  std::stable_sort(trace.events.begin(), trace.events.end(),
                   [](const Event& a, const Event& b) { return a.start_ns < b.start_ns; });
  return trace;
}

}  // namespace deltacal::gpu_trace
