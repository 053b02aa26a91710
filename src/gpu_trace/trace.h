// What ran on the GPU and when, by layer and phase: plain data, made by Session (session.h), read without a
// GPU.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace deltacal::gpu_trace {

// What a piece of work belongs to.
struct Label {
  int layer = -1;     // -1: to none of them
  std::string phase;  // "attention", "selection", ...
  bool operator==(const Label&) const = default;
};

enum class Kind { kernel, memcpy, memset };

struct Event {
  Kind kind = Kind::kernel;
  int name = 0;                       // index of Trace::names
  int label = -1;                     // index of Trace::labels; -1: launched outside any scope
  uint64_t start_ns = 0, end_ns = 0;  // on the device, one clock for all events
  uint32_t device = 0, stream = 0;
  uint32_t graph = 0;               // 0: launched by itself
  uint64_t node = 0;                // of the graph
  uint64_t bytes = 0;               // of a memcpy or memset
  int grid[3] = {}, block[3] = {};  // of a kernel
};

struct Trace {
  std::vector<std::string> names;
  std::vector<Label> labels;
  std::vector<Event> events;  // by start
  uint64_t n_dropped = 0;     // records that CUPTI had no room for
};

// Adds the events of another session, whose phases are named after what they were part of: "full: attention".
void append(Trace& all, const Trace& part, const std::string& what);

struct PhaseTime {
  std::string phase;  // empty: work outside any scope
  uint64_t n_events = 0;
  uint64_t sum_ns = 0;   // of the events' durations
  uint64_t busy_ns = 0;  // time in which some event of the phase ran: less than the sum where they overlap
};

struct Times {
  std::vector<PhaseTime> phases;      // the busiest first
  uint64_t busy_ns = 0, span_ns = 0;  // of all events: some one ran, first start to last end
};
Times time_by_phase(const Trace&);

// The Trace Event format that chrome://tracing and Perfetto read. A process for each device; in it a track
// for each stream, and above it one of the layers and phases its events belong to.
std::string chrome_json(const Trace&);

}  // namespace deltacal::gpu_trace
