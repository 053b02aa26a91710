#include <fmt/format.h>

#include <cstdio>

#include "options.h"
#include "trace/trace.h"

namespace deltacal::tools {

int merge(const MergeOptions& o) {
  trace::merge(o.inputs, o.out, o.existing(), o.made);
  fmt::print("{}: {} samples of {} files\n", o.out, trace::Reader(o.out).n_samples(), o.inputs.size());
  return 0;
}

}  // namespace deltacal::tools
