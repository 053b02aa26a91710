// `bench --gpu-trace` and `--counters`: steps of batches once more, watched, when nothing is timed any
// longer.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "bench_common.h"
#include "bench_graph.h"

namespace deltacal::tools {

class Watched {
 public:
  // `read_gb_s`: the memory's read bandwidth as measured in this run.
  Watched(const BenchOptions&, const model::Model&, double read_gb_s, Printed&);

  // --gpu-trace: three launches of every graph, in one file; nothing unless it is given. Busy seconds by
  // policy, batch and phase.
  nlohmann::ordered_json trace(const std::vector<Batch>&, const std::vector<NamedPolicy>&);

  // --counters: one step of each, kernel by kernel; empty where the device gives none (count()).
  nlohmann::ordered_json count(const std::vector<Batch>&, const std::vector<NamedPolicy>&);

 private:
  template <class Work>
  void each(const std::vector<Batch>&, const std::vector<NamedPolicy>&, Work);

  const BenchOptions& o_;
  const model::Model& model_;
  double read_gb_s_;
  Printed& page_;
  std::string counters_;  // wanted
};

}  // namespace deltacal::tools
