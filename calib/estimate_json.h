// An estimate in the artefacts: {"mean", "low", "high"}, null where a value is missing.
#pragma once
#include <nlohmann/json.hpp>

#include "calib/bootstrap.h"

namespace deltacal::calib {

nlohmann::ordered_json json_estimate(const Estimate&);

// {"method", "resamples", "confidence", "seed", "reason"}: how intervals were made; `reason` says why there
// are none, and is null where it is empty.
nlohmann::ordered_json json_interval(const Bootstrap&, const std::string& reason);

}  // namespace deltacal::calib
