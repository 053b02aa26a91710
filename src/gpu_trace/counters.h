// What kernels read from and wrote to the device's memory, by its own counters: plain data, made by
// CounterSession (counter_session.h), read without a GPU.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "gpu_trace/trace.h"

namespace deltacal::gpu_trace {

struct KernelCounters {
  int name = 0;    // index of Counters::names
  int label = -1;  // index of Counters::labels; -1: launched outside any scope
  double ns = 0, read_bytes = 0, written_bytes = 0;
};

struct Counters {
  std::vector<std::string> names;  // as in the source
  std::vector<Label> labels;
  std::vector<KernelCounters> kernels;  // in the order of their launches, each by itself on the device
  uint64_t n_dropped = 0;               // kernels that there was no room for
  uint64_t n_runs = 1;  // of each kernel: more than one where the device cannot count all at once
};

// All launches of one kernel in one phase, in all layers.
struct CounterSum {
  std::string phase;   // empty: work outside any scope
  std::string kernel;  // short_name()
  uint64_t n_calls = 0;
  double ns = 0, read_bytes = 0, written_bytes = 0;
  double read_gb_s() const { return ns > 0 ? read_bytes / ns : 0; }
};
std::vector<CounterSum> counters_by_kernel(const Counters&);  // the longest first
CounterSum total(const std::vector<CounterSum>&);

// A kernel's name without its return type, template and other arguments: "at::native::fill_kernel".
std::string short_name(const std::string&);

}  // namespace deltacal::gpu_trace
