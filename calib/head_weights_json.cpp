#include "calib/head_weights_json.h"

#include "calib/estimate_json.h"
#include "calib/json.h"

namespace deltacal::calib {
namespace {

using Json = nlohmann::ordered_json;

Json one(const HeadChoice& choice) {
  return {{"layer", choice.layer},
          {"served", choice.served},
          {"weights", choice.fit.weights},
          {"predicted_kl",
           {{"all_one", json_number(choice.fit.before)}, {"fitted", json_number(choice.fit.loss)}}},
          {"held_out_gain", json_estimate(choice.gain)},
          {"fold_weights", choice.fold_weights},
          {"kept", choice.kept},
          {"reason", choice.kept ? Json() : Json(choice.reason)}};
}

}  // namespace

Json to_json(std::span<const HeadChoice> choices, const HeadSearch& search, const Bootstrap& bootstrap,
             int n_steps) {
  Json layers = Json::array();
  int n_problems = 0, n_folds = 0;
  for (const HeadChoice& choice : choices) {
    layers.push_back(one(choice));
    n_problems = choice.gain.n_problems;
    n_folds = static_cast<int>(choice.fold_weights.size());
  }
  return {{"labels", "the samples' own next tokens"},
          {"n_steps", n_steps},
          {"factors", search.factors},
          {"folds", n_folds},
          {"interval", json_interval(bootstrap, no_interval_reason(n_problems))},
          {"layers", layers}};
}

}  // namespace deltacal::calib
