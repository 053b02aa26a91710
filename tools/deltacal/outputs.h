// Outputs of commands that write more than one.
#pragma once
#include <string>
#include <vector>

#include "core/files.h"

namespace deltacal::tools {

// bad_input where two of the paths lead to one file. Empty ones are left out, here and below.
void require_different_outputs(const std::vector<std::string>& paths);

// That, and require_free_output() for each. Called before any work.
void require_free_outputs(const std::vector<std::string>& paths, Existing);

}  // namespace deltacal::tools
