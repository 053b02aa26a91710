// validation.json (data/schema/validation.schema.json).
#pragma once
#include <nlohmann/json.hpp>

#include "calib/comparison.h"
#include "core/provenance.h"

namespace deltacal::calib {

// Missing figures are null. The plain figures of a bin and of a sample are those of the active steps.
nlohmann::ordered_json to_json(const Validation&, const Provenance&);

}  // namespace deltacal::calib
