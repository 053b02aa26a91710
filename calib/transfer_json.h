// transfer.json (data/schema/transfer.schema.json), and the same as Markdown.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

#include "calib/transfer.h"
#include "core/provenance.h"

namespace deltacal::calib {

nlohmann::ordered_json to_json(const Transfer&, const Provenance&);

// The matrix with a row for each schedule, the differences to the measured task's own schedule below it, the
// schedules, and the learning curve.
std::string to_markdown(const Transfer&);

}  // namespace deltacal::calib
