#include "calib/stability.h"

#include "calib/resampled.h"
#include "core/error.h"

namespace deltacal::calib {

Stability stability(const Eigen::Ref<const Eigen::MatrixXd>& loss, std::span<const std::string> problems,
                    const Bootstrap& bootstrap, const SolveLosses& solve) {
  const Resampler resampler(problems, bootstrap);
  const ResampledMeans means(resampler, loss);
  Stability out;
  out.reason = no_interval_reason(means.n_problems());
  if (!out.reason.empty()) return out;
  for (int r = 0; r < means.n_resamples(); ++r) {
    const Eigen::VectorXd losses = means.of(r);
    const auto schedule = solve({losses.data(), static_cast<std::size_t>(losses.size())});
    if (!schedule) {
      ++out.unsolved;
      continue;
    }
    if (out.resamples++ == 0) out.share.assign(schedule->layers.size(), 0);
    if (schedule->layers.size() != out.share.size())
      throw bad_input("stability: schedules of {} and {} layers", out.share.size(), schedule->layers.size());
    for (std::size_t layer = 0; layer < out.share.size(); ++layer)
      out.share[layer] += schedule->layers[layer].role == config::Role::delta;
  }
  for (double& share : out.share) share /= out.resamples;
  if (out.resamples == 0) out.reason = "no schedule meets the budget";
  return out;
}

}  // namespace deltacal::calib
