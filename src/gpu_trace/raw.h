// What CUPTI reports, and how it is put together: a kernel launched by itself is known by the correlation id
// of its launch, one of a graph by its node, which was made (and named) once, at the capture, and copied when
// the graph was instantiated.
#pragma once
#include <string_view>
#include <unordered_map>

#include "gpu_trace/trace.h"

namespace deltacal::gpu_trace {

// Labels of graph nodes by id.
class NodeLabels {
 public:
  void created(uint64_t node, int label) { labels_[node] = label; }
  // A copy is what its original was.
  void cloned(uint64_t original, uint64_t copy) { labels_[copy] = at(original); }
  int at(uint64_t node) const {
    const auto found = labels_.find(node);
    return found == labels_.end() ? -1 : found->second;
  }

 private:
  std::unordered_map<uint64_t, int> labels_;
};

struct RawRecord {
  Event event;               // without its label
  uint32_t correlation = 0;  // of the launch; that of the whole graph where there is a node
};

struct Raw {
  // Index of a name, as the compiler wrote it.
  int name_index(std::string_view name);
  // Index of a label, added if new.
  int label_index(int layer, std::string_view phase);

  std::vector<std::string> names;
  std::vector<Label> labels;
  std::vector<RawRecord> records;
  std::unordered_map<uint32_t, int> launches;  // label of a correlation id
  NodeLabels nodes;
  uint64_t n_dropped = 0;

 private:
  std::unordered_map<std::string, int> name_indices_;
};

// A name as in the source.
std::string demangled(const std::string&);

// Events in the order of their starts, with labels, and names as in the source.
Trace attribute(Raw);

}  // namespace deltacal::gpu_trace
