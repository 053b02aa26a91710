#include "calib/estimate_json.h"

#include "calib/json.h"

namespace deltacal::calib {

using Json = nlohmann::ordered_json;

Json json_estimate(const Estimate& estimate) {
  const auto bound = [](const std::optional<double>& value) { return value ? json_number(*value) : Json(); };
  return {{"mean", json_number(estimate.mean)}, {"low", bound(estimate.low)}, {"high", bound(estimate.high)}};
}

Json json_interval(const Bootstrap& bootstrap, const std::string& reason) {
  return {{"method", "percentile bootstrap over problems"},
          {"resamples", bootstrap.resamples},
          {"confidence", bootstrap.confidence},
          {"seed", bootstrap.seed},
          {"reason", reason.empty() ? Json() : Json(reason)}};
}

}  // namespace deltacal::calib
