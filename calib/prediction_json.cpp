#include "calib/prediction_json.h"

#include "calib/estimate_json.h"
#include "calib/json.h"

namespace deltacal::calib {

using Json = nlohmann::ordered_json;

Json to_json(const Prediction& prediction) {
  const auto text = [](const std::string& value) { return value.empty() ? Json() : Json(value); };
  Json residuals = Json::array();
  for (const auto& [deltas, n, mean, least, largest] : prediction.residuals)
    residuals.push_back({{"delta_layers", deltas},
                         {"n_schedules", n},
                         {"mean", json_number(mean)},
                         {"least", json_number(least)},
                         {"largest", json_number(largest)}});
  return {{"spearman", json_estimate(prediction.rank.spearman)},
          {"kendall", json_number(prediction.rank.kendall)},
          {"scale", json_estimate(prediction.scale)},
          {"n_schedules", prediction.n_schedules},
          {"n_left_out", prediction.n_left_out},
          {"residuals", residuals},
          {"warning", text(prediction.warning)},
          {"reason", text(prediction.no_interval_reason)}};
}

}  // namespace deltacal::calib
