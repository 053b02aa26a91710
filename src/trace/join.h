// The samples of several traces of one model in one file.
#pragma once
#include <string>
#include <vector>

#include "core/model_info.h"
#include "core/provenance.h"

namespace deltacal::trace {

// Writes `output` (any existing file of that name is replaced; removed on failure) with the samples of
// `inputs` in their order, numbered anew. Everything in a sample's group comes along, known here or not;
// nothing is decompressed. The inputs have been checked. bad_input where one cannot be read, failure where
// the output cannot be written.
void join(const std::vector<std::string>& inputs, const std::string& output, const ModelInfo&,
          const Provenance&, const std::string& options);

}  // namespace deltacal::trace
