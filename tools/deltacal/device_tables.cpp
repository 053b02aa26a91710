#include "device_tables.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "gpu_trace/built.h"
#include "gpu_trace/counter_session.h"

namespace deltacal::tools {

using Json = nlohmann::ordered_json;

namespace {

std::string named(const std::string& phase) {
  return phase.empty() ? "(none)" : phase;
}

std::string counter_row(const gpu_trace::CounterSum& s, double read_gb_s) {
  return fmt::format("| {} | {} | {} | {:.3f} | {:.1f} | {:.1f} | {:.0f} | {:.1f}% |\n", s.phase, s.kernel,
                     s.n_calls, 1e-6 * s.ns, 1e-6 * s.read_bytes, 1e-6 * s.written_bytes, s.read_gb_s(),
                     100 * s.read_gb_s() / read_gb_s);
}

}  // namespace

std::string phase_table(const gpu_trace::Trace& trace) {
  const gpu_trace::Times times = time_by_phase(trace);
  std::string out = "| phase | events | busy, ms | share |\n|---|---|---|---|\n";
  for (const auto& p : times.phases)
    out +=
        fmt::format("| {} | {} | {:.3f} | {:.1f}% |\n", named(p.phase), p.n_events, 1e-6 * double(p.busy_ns),
                    100.0 * double(p.busy_ns) / double(std::max<uint64_t>(1, times.busy_ns)));
  out += fmt::format("| all | {} | {:.3f} | of {:.3f} ms from the first to the last |\n", trace.events.size(),
                     1e-6 * double(times.busy_ns), 1e-6 * double(times.span_ns));
  if (trace.n_dropped > 0)
    out += fmt::format("\n{} records were lost: the table is short of them\n", trace.n_dropped);
  return out;
}

Json phases_json(const gpu_trace::Trace& trace) {
  Json out = Json::array();
  for (const auto& p : time_by_phase(trace).phases)
    out.push_back({{"phase", p.phase}, {"events", p.n_events}, {"busy_s", 1e-9 * double(p.busy_ns)}});
  return out;
}

std::string counter_table(const gpu_trace::Counters& counters, double read_gb_s) {
  const auto sums = counters_by_kernel(counters);
  std::string out =
      "| phase | kernel | calls | ms | MB read | MB written | GB/s read | of read bandwidth |\n"
      "|---|---|---|---|---|---|---|---|\n";
  for (gpu_trace::CounterSum s : sums) {
    s.phase = named(s.phase);
    out += counter_row(s, read_gb_s);
  }
  gpu_trace::CounterSum all = total(sums);
  all.phase = "all";
  out += counter_row(all, read_gb_s);
  if (counters.n_runs > 1) out += fmt::format("\neach kernel was run {} times\n", counters.n_runs);
  if (counters.n_dropped > 0)
    out += fmt::format("\n{} kernels were not counted: the table is short of them\n", counters.n_dropped);
  return out;
}

Json counters_json(const gpu_trace::Counters& counters, double read_gb_s) {
  Json out = Json::array();
  for (const auto& s : counters_by_kernel(counters))
    out.push_back({{"phase", s.phase},
                   {"kernel", s.kernel},
                   {"calls", s.n_calls},
                   {"seconds", 1e-9 * s.ns},
                   {"read_bytes", s.read_bytes},
                   {"written_bytes", s.written_bytes},
                   {"share_of_read_bandwidth", s.read_gb_s() / read_gb_s}});
  return out;
}

std::string settle_counters(const std::string& wanted, model::Device device) {
  std::string why;
  if (device != model::Device::cuda)
    why = "the model runs on the CPU";
  else if (!gpu_trace::has_cupti())
    why = "this build has no CUPTI";
  if (wanted.empty() || why.empty()) return wanted;
  if (wanted == "required")
    throw bad_input("--counters: {}: give --counters=auto to go on without them{}", why,
                    device == model::Device::cuda ? "" : ", or --device cuda");
  fmt::print(stderr, "without counters: {}\n", why);
  return "";
}

std::optional<gpu_trace::Counters> count(std::string& wanted,
                                         const std::function<void(gpu_trace::Session*)>& work) {
  if (wanted.empty()) return std::nullopt;
  const auto go_without = [&](const Error& e) {
    if (wanted == "required") throw e;
    fmt::print(stderr, "without {}\n", e.what());  // "counters: ..."
    wanted.clear();
    return std::nullopt;
  };
  std::unique_ptr<gpu_trace::CounterSession> session;
  try {
    session = std::make_unique<gpu_trace::CounterSession>();
  } catch (const Error& e) {
    return go_without(e);
  }
  work(session.get());
  try {
    return session->finish();
  } catch (const Error& e) {
    return go_without(e);
  }
}

}  // namespace deltacal::tools
