#include "calib/analysis.h"

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "calib/json.h"
#include "core/progress.h"
#include "options.h"

namespace deltacal::tools {

int analyze(const AnalyzeOptions& o) {
  const calib::Grid grid{o.k_pages, o.l_pages};
  calib::check(grid);
  require_free_output(o.out, o.existing());
  const trace::Reader trace(o.trace);
  double n_steps = 0;
  for (int i = 0; i < trace.n_samples(); ++i) n_steps += double(trace.steps(i).size());
  calib::Analysis analysis;
  {
    Progress progress("analyze", n_steps, "steps");
    analysis =
        calib::analyze(trace, grid, {o.resamples, o.made.seed, 0.95}, [&](double n) { progress.advance(n); });
  }
  write_file_atomically(o.out, calib::to_json(analysis, o.made).dump() + "\n", o.existing());
  fmt::print("{}: {} samples, {} problems, {} steps\n", o.out, analysis.n_samples, analysis.n_problems,
             analysis.n_steps);
  return 0;
}

}  // namespace deltacal::tools
