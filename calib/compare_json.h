// compare.json (data/schema/compare.schema.json).
#pragma once
#include <nlohmann/json.hpp>

#include "calib/compare.h"
#include "core/provenance.h"

namespace deltacal::calib {

// Missing figures are null.
nlohmann::ordered_json to_json(const MethodComparison&, const Provenance&);

}  // namespace deltacal::calib
