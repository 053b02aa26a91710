// Shapes of known models, for random weights (Model::random): what timings need of a model.
#pragma once
#include <string>
#include <vector>

#include "model/description.h"

namespace deltacal::model {

struct Shape {
  Description description;
  std::string source;    // where the numbers are from
  std::string left_out;  // what the model has and random weights of this shape have not; often empty
};

// "llama3-8b", "qwen2.5-7b", ...: data/shapes/*.json, in order.
std::vector<std::string> shape_names();

// A known name, or a file of the same form (data/schema/shape.schema.json) where the name ends in .json.
// bad_input: the known names, or file and field.
Shape read_shape(const std::string& name);

}  // namespace deltacal::model
