#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "gpu_trace/raw.h"
#include "gpu_trace/session.h"
#include "gpu_trace/trace.h"

namespace deltacal::gpu_trace {
namespace {

RawRecord record(int name, uint64_t start, uint64_t end, uint32_t correlation, uint64_t node = 0,
                 uint32_t stream = 7) {
  RawRecord r;
  r.event.name = name;
  r.event.start_ns = start, r.event.end_ns = end;
  r.event.stream = stream, r.event.graph = node ? 1 : 0, r.event.node = node;
  r.correlation = correlation;
  return r;
}

TEST_CASE(
    "gpu trace: a kernel launched by itself has the label of its launch, a node's that of its capture") {
  Raw raw;
  const int attention = raw.label_index(3, "attention"), selection = raw.label_index(3, "selection");
  REQUIRE(raw.label_index(3, "attention") == attention);
  raw.launches = {{11, attention}, {12, selection}};
  raw.nodes.created(100, selection);
  raw.nodes.created(101, -1);
  raw.nodes.cloned(100, 200);  // instantiated
  raw.nodes.cloned(101, 201);
  raw.nodes.cloned(200, 300);  // and once more
  raw.nodes.cloned(999, 400);  // of a graph made before the session
  const int name = raw.name_index("k");
  // The launch of the graph has correlation 11 as well: where there is a node, the node says it.
  raw.records = {record(name, 50, 60, 12),      record(name, 10, 20, 11),      record(name, 20, 30, 11, 200),
                 record(name, 30, 40, 11, 201), record(name, 40, 50, 11, 300), record(name, 60, 70, 13),
                 record(name, 70, 80, 12, 400)};
  const Trace trace = attribute(std::move(raw));
  std::vector<int> labels;
  for (const Event& e : trace.events) labels.push_back(e.label);
  REQUIRE(labels == std::vector<int>{attention, selection, -1, selection, selection, -1, -1});
}

TEST_CASE("gpu trace: names are those of the source") {
  Raw raw;
  raw.name_index("_Z6appendPKfi");
  raw.name_index("not mangled");
  REQUIRE(raw.name_index("_Z6appendPKfi") == 0);
  REQUIRE(attribute(std::move(raw)).names ==
          std::vector<std::string>{"append(float const*, int)", "not mangled"});
}

// Two phases that overlap, one event outside, a gap.
Trace example() {
  Raw raw;
  const int a = raw.label_index(0, "attention"), s = raw.label_index(-1, "sampling");
  raw.launches = {{1, a}, {2, s}};
  const int kernel = raw.name_index("k"), quoted = raw.name_index("say \"x\"\n\xff");
  raw.records = {record(kernel, 1000, 3000, 1), record(kernel, 2500, 4000, 1), record(quoted, 3500, 6123, 2),
                 record(kernel, 9000, 9500, 3), record(kernel, 9600, 9700, 1, 0, 8)};
  raw.records[3].event.kind = Kind::memcpy, raw.records[3].event.bytes = 4096;
  raw.n_dropped = 2;
  return attribute(std::move(raw));
}

TEST_CASE("gpu trace: time by phase counts overlap once, and work outside any scope apart") {
  const Times times = time_by_phase(example());
  REQUIRE(times.phases.size() == 3);
  REQUIRE(times.phases[0].phase == "attention");
  REQUIRE(times.phases[0].n_events == 3);
  REQUIRE(times.phases[0].sum_ns == 2000 + 1500 + 100);
  REQUIRE(times.phases[0].busy_ns == 3000 + 100);
  REQUIRE(times.phases[1].phase == "sampling");
  REQUIRE(times.phases[1].busy_ns == 2623);
  REQUIRE(times.phases[2].phase.empty());
  REQUIRE(times.phases[2].busy_ns == 500);
  REQUIRE(times.busy_ns == 5123 + 500 + 100);
  REQUIRE(times.span_ns == 8700);
  REQUIRE(time_by_phase(Trace()).phases.empty());
}

TEST_CASE("gpu trace: the JSON has every event, spans of layers and phases, and names for its tracks") {
  const nlohmann::json json = nlohmann::json::parse(chrome_json(example()));
  REQUIRE(json["otherData"]["dropped_records"] == 2);
  std::vector<nlohmann::json> kernels, copies, spans, tracks;
  for (const nlohmann::json& e : json["traceEvents"]) {
    if (e["ph"] == "M")
      tracks.push_back(e);
    else if (e["cat"] == "kernel")
      kernels.push_back(e);
    else if (e["cat"] == "memcpy")
      copies.push_back(e);
    else
      spans.push_back(e);
  }
  REQUIRE(tracks.size() == 1 + 2 * 2);
  REQUIRE(kernels.size() == 4);
  REQUIRE(kernels[0]["ts"] == 0);
  REQUIRE(kernels[0]["dur"] == 2);
  REQUIRE(kernels[0]["args"]["layer"] == 0);
  REQUIRE(kernels[0]["args"]["phase"] == "attention");
  REQUIRE(kernels[2]["name"].get<std::string>().substr(0, 8) == "say \"x\"\n");
  REQUIRE(kernels[2]["dur"] == 2.623);
  REQUIRE(copies.size() == 1);
  REQUIRE(copies[0]["args"]["bytes"] == 4096);
  REQUIRE_FALSE(copies[0]["args"].contains("phase"));
  REQUIRE(spans.size() == 3);
  REQUIRE(spans[0]["name"] == "layer 0 attention");
  REQUIRE(spans[0]["dur"] == 2.5);  // until the next phase begins
  REQUIRE(spans[1]["name"] == "sampling");
  REQUIRE(spans[2]["ts"] == 8.6);
  for (const nlohmann::json& s : spans) REQUIRE(s["tid"] != kernels[0]["tid"]);
  REQUIRE(nlohmann::json::parse(chrome_json(Trace()))["traceEvents"].empty());
}

TEST_CASE("gpu trace: a scope without a session does nothing") {
  const Scope scope(nullptr, 3, "attention");
}

}  // namespace
}  // namespace deltacal::gpu_trace
