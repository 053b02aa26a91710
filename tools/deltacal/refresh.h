// Schedules whose lists serve several steps: the solver's task under the ranking `refresh:s` of the trace.
#pragma once
#include <vector>

#include "methods.h"

namespace deltacal::tools {

// The intervals above 1 whose predicted KL, under this page score, every sample of the trace has, ascending.
std::vector<int> recorded_intervals(const trace::Reader&, PageScore);

// The same task with a list every `interval` steps. bad_input, with the flag of profile, where the trace has
// no such ranking.
Problem with_refresh(const Problem&, const CalibrateOptions&, const trace::Reader&, int interval);

// The task that --refresh asks for: as it is, that of an interval, or (auto) that of the recorded interval, 1
// among them, whose best schedule meets the goal with the least loss (the least cost, for a target of loss).
Problem choose_refresh(Problem, const CalibrateOptions&, const trace::Reader&);

// bad_input unless --refresh is 1, an interval, or auto, and goes with the other options.
void check_refresh(const CalibrateOptions&);

}  // namespace deltacal::tools
