// Numbers and matrices in the artefacts: six significant digits, null where a value is missing (NaN).
#pragma once
#include <Eigen/Core>
#include <nlohmann/json.hpp>

#include "calib/analysis.h"
#include "core/provenance.h"

namespace deltacal::calib {

nlohmann::ordered_json json_number(double value);
nlohmann::ordered_json json_row(const Eigen::Ref<const Eigen::VectorXd>& values);
nlohmann::ordered_json json_rows(const Eigen::Ref<const Eigen::MatrixXd>& matrix);  // [target][source]

nlohmann::ordered_json json_model(const ModelInfo&);
// The fields device and dtype, where the device is known.
void say_device(nlohmann::ordered_json& artefact, const ModelInfo&);

// analysis.json (data/schema/analysis.schema.json). `predicted_kl` is an empty list: the trace holds no
// sensitivities.
nlohmann::ordered_json to_json(const Analysis&, const Provenance&);

}  // namespace deltacal::calib
