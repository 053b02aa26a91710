// The check of the predicted KL as a section of an artefact (data/schema/compare.schema.json, "prediction").
#pragma once
#include <nlohmann/json.hpp>

#include "calib/prediction.h"

namespace deltacal::calib {

nlohmann::ordered_json to_json(const Prediction&);

}  // namespace deltacal::calib
