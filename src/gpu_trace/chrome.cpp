#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "gpu_trace/trace.h"

namespace deltacal::gpu_trace {
namespace {

// A JSON string; what is not UTF-8 is replaced.
std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::vector<std::string> quoted(const std::vector<std::string>& texts) {
  std::vector<std::string> result;
  for (const std::string& text : texts) result.push_back(quoted(text));
  return result;
}

std::string label_name(const Label& label) {
  return label.layer < 0 ? label.phase : fmt::format("layer {} {}", label.layer, label.phase);
}

const char* category(Kind kind) {
  return kind == Kind::kernel ? "kernel" : kind == Kind::memcpy ? "memcpy" : "memset";
}

class Writer {
 public:
  explicit Writer(const Trace& trace)
      : trace_(trace),
        names_(quoted(trace.names)),
        first_ns_(trace.events.empty() ? 0 : trace.events[0].start_ns) {}

  std::string write() {
    tracks();
    for (const Event& e : trace_.events) {
      event(e);
      span(e);
    }
    for (const auto& [track, open] : spans_) close(track, open);
    return "{\"displayTimeUnit\":\"ns\",\"otherData\":" +
           fmt::format("{{\"dropped_records\":{}}}", trace_.n_dropped) + ",\"traceEvents\":[\n" + text_ +
           "\n]}\n";
  }

 private:
  using Track = std::pair<uint32_t, uint32_t>;  // device, stream
  struct Span {
    int label;
    uint64_t start_ns, end_ns;
  };

  template <class... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    if (!text_.empty()) text_ += ",\n";
    fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
  }
  // Microseconds since the first event.
  std::string time(uint64_t ns) const { return fmt::format("{}.{:03}", ns / 1000, ns % 1000); }
  // Of a stream's events, and of the spans above them.
  static uint64_t track_id(uint32_t stream, bool spans) { return 2 * uint64_t(stream) + (spans ? 0 : 1); }

  void tracks() {
    std::set<uint32_t> devices;
    std::set<Track> streams;
    for (const Event& e : trace_.events) devices.insert(e.device), streams.insert({e.device, e.stream});
    for (const uint32_t device : devices)
      add(R"({{"ph":"M","name":"process_name","pid":{},"args":{{"name":"GPU {}"}}}})", device, device);
    for (const auto& [device, stream] : streams)
      for (const bool spans : {true, false})
        add(R"({{"ph":"M","name":"thread_name","pid":{},"tid":{},"args":{{"name":"stream {}{}"}}}})", device,
            track_id(stream, spans), stream, spans ? ", layers and phases" : "");
  }

  void event(const Event& e) {
    std::string args = fmt::format(R"("graph":{},"node":{})", e.graph, e.node);
    if (e.label >= 0) {
      const Label& label = trace_.labels[size_t(e.label)];
      args += fmt::format(R"(,"layer":{},"phase":{})", label.layer, quoted(label.phase));
    }
    if (e.kind == Kind::kernel) {
      args += fmt::format(R"(,"grid":[{},{},{}],"block":[{},{},{}])", e.grid[0], e.grid[1], e.grid[2],
                          e.block[0], e.block[1], e.block[2]);
    } else {
      args += fmt::format(R"(,"bytes":{})", e.bytes);
    }
    add(R"({{"ph":"X","cat":"{}","name":{},"pid":{},"tid":{},"ts":{},"dur":{},"args":{{{}}}}})",
        category(e.kind), names_[size_t(e.name)], e.device, track_id(e.stream, false),
        time(e.start_ns - first_ns_), time(e.end_ns - e.start_ns), args);
  }

  // Neighbouring events of one label are one span.
  void span(const Event& e) {
    const Track track{e.device, e.stream};
    const auto found = spans_.find(track);
    if (found == spans_.end()) {
      spans_.emplace(track, Span{e.label, e.start_ns, e.end_ns});
    } else if (found->second.label == e.label) {
      found->second.end_ns = std::max(found->second.end_ns, e.end_ns);
    } else {
      // Spans do not overlap: the next one's first kernel may start early and wait.
      found->second.end_ns = std::min(found->second.end_ns, e.start_ns);
      close(track, found->second);
      found->second = {e.label, e.start_ns, e.end_ns};
    }
  }
  void close(const Track& track, const Span& s) {
    if (s.label < 0) return;
    add(R"({{"ph":"X","cat":"phase","name":{},"pid":{},"tid":{},"ts":{},"dur":{}}})",
        quoted(label_name(trace_.labels[size_t(s.label)])), track.first, track_id(track.second, true),
        time(s.start_ns - first_ns_), time(s.end_ns - s.start_ns));
  }

  const Trace& trace_;
  const std::vector<std::string> names_;
  const uint64_t first_ns_;
  std::map<Track, Span> spans_;
  std::string text_;
};

}  // namespace

std::string chrome_json(const Trace& trace) {
  return Writer(trace).write();
}

}  // namespace deltacal::gpu_trace
