// What a fit of head weights found, for the provenance of a config.
#pragma once
#include <nlohmann/json.hpp>
#include <span>

#include "calib/head_weights.h"

namespace deltacal::calib {

// {"labels", "n_steps", "factors", "folds", "interval", "layers": [{"layer", "served", "weights",
// "predicted_kl", "held_out_gain", "fold_weights", "kept", "reason"}]}; n_steps: at most so many steps of a
// sample were used.
nlohmann::ordered_json to_json(std::span<const HeadChoice>, const HeadSearch&, const Bootstrap&, int n_steps);

}  // namespace deltacal::calib
