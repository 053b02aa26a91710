// The solver's candidates in the order of a joint form of the predicted KL (joint.h): the solver minimises the
// sum over edges, which leaves out what layers and steps do to each other.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "calib/joint.h"
#include "calib/schedule/schedule.h"
#include "config/schedule.h"

namespace deltacal::calib {

// The form of JointKl that orders schedules.
enum class Order { additive, layers, steps };
Order parse_order(std::string_view);  // "additive", "layers", "steps"; bad_input: what is accepted
std::string name_of(Order);
double value_of(const JointKl&, Order);

using PredictedLoss = std::function<double(const config::Schedule&)>;  // NaN: unknown

// Best first; equal and unknown ones keep their order, unknown ones last.
void order_by(std::vector<schedule::Candidate>&, const PredictedLoss&);

}  // namespace deltacal::calib
