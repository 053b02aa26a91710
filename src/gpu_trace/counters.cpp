#include "gpu_trace/counters.h"

#include <algorithm>
#include <map>
#include <utility>

namespace deltacal::gpu_trace {
namespace {

void add(CounterSum& to, uint64_t n_calls, double ns, double read, double written) {
  to.n_calls += n_calls;
  to.ns += ns;
  to.read_bytes += read;
  to.written_bytes += written;
}

}  // namespace

std::string short_name(const std::string& name) {
  static const std::string unnamed = "(anonymous namespace)::";
  std::string out, open;  // open: brackets of template arguments; a ">" within round ones closes nothing
  for (size_t i = 0; i < name.size(); ++i) {
    if (name.compare(i, unnamed.size(), unnamed) == 0) {
      i += unnamed.size() - 1;
      continue;
    }
    const char c = name[i];
    if (c == '(' && open.empty()) break;  // the arguments
    if (c == '<' || c == '(') open += c;
    if (open.empty()) out += c;
    if (!open.empty() && open.back() == (c == '>' ? '<' : c == ')' ? '(' : '\0')) open.pop_back();
    if (c == ' ' && open.empty()) out.clear();  // after the return type
  }
  return out.empty() ? name : out;
}

std::vector<CounterSum> counters_by_kernel(const Counters& counters) {
  std::map<std::pair<std::string, std::string>, CounterSum> sums;
  for (const KernelCounters& k : counters.kernels) {
    const std::string phase = k.label < 0 ? std::string() : counters.labels[size_t(k.label)].phase,
                      kernel = short_name(counters.names[size_t(k.name)]);
    CounterSum& sum = sums[{phase, kernel}];
    sum.phase = phase, sum.kernel = kernel;
    add(sum, 1, k.ns, k.read_bytes, k.written_bytes);
  }
  std::vector<CounterSum> out;
  for (auto& [key, sum] : sums) out.push_back(std::move(sum));
  std::stable_sort(out.begin(), out.end(),
                   [](const CounterSum& a, const CounterSum& b) { return a.ns > b.ns; });
  return out;
}

CounterSum total(const std::vector<CounterSum>& sums) {
  CounterSum all;
  for (const CounterSum& s : sums) add(all, s.n_calls, s.ns, s.read_bytes, s.written_bytes);
  return all;
}

}  // namespace deltacal::gpu_trace
