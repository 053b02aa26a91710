#include "bench_watched.h"

#include <nlohmann/json.hpp>

#include "device_tables.h"
#include "gpu_trace/session.h"

namespace deltacal::tools {

using Json = nlohmann::ordered_json;
using decode::StepGraph;

namespace {

constexpr int n_traced = 3;

// Without what goes before the graph's first launch.
gpu_trace::Trace steps_of(gpu_trace::Trace trace) {
  std::erase_if(trace.events, [](const gpu_trace::Event& e) { return e.graph == 0; });
  return trace;
}

void add_rows(Json& to, const Batch& batch, const NamedPolicy& p, const Json& rows) {
  for (const Json& row : rows) {
    Json full = {{"policy", p.name}, {"rows", batch.rows}, {"context", batch.context}};
    full.update(row);
    to.push_back(std::move(full));
  }
}

}  // namespace

Watched::Watched(const BenchOptions& o, const model::Model& model, double read_gb_s, Printed& page)
    : o_(o), model_(model), read_gb_s_(read_gb_s), page_(page), counters_(o.counters) {}

template <class Work>
void Watched::each(const std::vector<Batch>& batches, const std::vector<NamedPolicy>& policies, Work work) {
  for (const Batch& batch : batches) {
    decode::KvCache cache(model_, batch.rows, batch.context);
    cache.fill_random(o_.made.seed);
    for (const auto& p : policies) work(fmt::format("{}, {}", p.name, in_words(batch)), batch, p, cache);
  }
}

Json Watched::trace(const std::vector<Batch>& batches, const std::vector<NamedPolicy>& policies) {
  Json rows = Json::array();
  if (o_.gpu_trace.empty()) return rows;
  gpu_trace::Trace all;
  each(batches, policies,
       [&](const std::string& what, const Batch& batch, const NamedPolicy& p, decode::KvCache& cache) {
         gpu_trace::TraceSession session;
         StepGraph graph(model_, cache, p.policy, batch.rows, StepGraph::Part::step, &session);
         run(graph, batch.context);
         for (int i = 1; i < n_traced; ++i) graph.launch();
         graph.wait();
         const gpu_trace::Trace part = steps_of(session.finish());
         page_.print("\nTime by phase of {} steps, {}\n\n{}", n_traced, what, phase_table(part));
         add_rows(rows, batch, p, phases_json(part));
         append(all, part, what);
       });
  write_file_atomically(o_.gpu_trace, chrome_json(all), o_.existing());
  return rows;
}

Json Watched::count(const std::vector<Batch>& batches, const std::vector<NamedPolicy>& policies) {
  Json rows = Json::array();
  if (counters_.empty()) return rows;
  each(batches, policies,
       [&](const std::string& what, const Batch& batch, const NamedPolicy& p, decode::KvCache& cache) {
         if (counters_.empty()) return;
         StepGraph graph(model_, cache, p.policy, batch.rows);
         run(graph, batch.context);
         graph.wait();
         const auto counters = tools::count(counters_, [&](gpu_trace::Session* session) {
           graph.launch_kernels(session);
           graph.wait();
         });
         if (!counters) return;
         page_.print("\nRead from and written to memory in one step, kernel by kernel, {}\n\n{}", what,
                     counter_table(*counters, read_gb_s_));
         add_rows(rows, batch, p, counters_json(*counters, read_gb_s_));
       });
  return rows;
}

}  // namespace deltacal::tools
