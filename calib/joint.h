// Predicted KL of a whole schedule from the steps' own changes of the loss (edge_delta), with the cross terms
// that the sum over edges leaves out (method.md, "Predicted KL of an edge"):
//
//   additive:  1/2 mean over t of  sum over layers of delta[l](t)^2         what the solver minimises
//   layers:    1/2 mean over t of (sum over layers of delta[l](t))^2
//   steps:     1/2 mean over windows w of 16 consecutive steps of (sum over t in w and layers of
//   delta[l](t))^2 / |w|
//
// delta[l] is that of the schedule's edge a(l) -> l at its k and L. Windows do not cross bursts.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "calib/recall.h"
#include "config/schedule.h"
#include "trace/trace.h"

namespace deltacal::calib {

inline constexpr int joint_steps = 16;

struct JointKl {
  double additive = 0, layers = 0, steps = 0;  // nats a token; means over samples and sets of labels
};

// Reads a trace's changes as they are needed and keeps them, in half precision as they are stored.
class JointPredictor {
 public:
  // Every sample of the trace must have sensitivities. `grid`: k and L of schedules are rounded down to it.
  JointPredictor(const trace::Reader&, const Grid& grid);
  ~JointPredictor();
  // From all samples, or from those given (indices). NaN where a k or L lies below the grid, where no sample
  // has recorded steps, and for other lists than those the changes are of: other scores, lists for several steps.
  JointKl predict(const config::Schedule&);
  JointKl predict(const config::Schedule&, std::span<const int> samples);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace deltacal::calib
