// Schedules whose lists serve several steps: the solver's task under a ranking refresh:N or cosine:T of the
// trace.
#pragma once
#include <string>
#include <vector>

#include "methods.h"

namespace deltacal::tools {

// The rankings whose lists serve several steps, under this page score, that every sample of the trace has: by
// interval, then by signal, each from the most lists to the fewest.
std::vector<Ranking> recorded_refreshes(const trace::Reader&, PageScore);

// Why schedules of a recorded ranking cannot be chosen under these options; empty where they can.
std::string why_not(const CalibrateOptions&, const Ranking&);

// The same task with lists made so. bad_input, with the flag of profile, where the trace has no such ranking.
Problem with_refresh(const Problem&, const CalibrateOptions&, const trace::Reader&, const Ranking&);

// The task that --refresh asks for: as it is, that of a ranking, or (auto) that of the recorded ranking,
// lists at every step among them, whose best schedule meets the goal with the least loss (the least cost, for
// a target of loss).
Problem choose_refresh(Problem, const CalibrateOptions&, const trace::Reader&);

// bad_input unless --refresh is 1, an interval, cosine:T or auto, and goes with the other options.
void check_refresh(const CalibrateOptions&);

}  // namespace deltacal::tools
