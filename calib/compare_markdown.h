// The comparison of methods for people: Markdown tables.
#pragma once
#include <string>

#include "calib/compare.h"

namespace deltacal::calib {

// Methods in their order, the winner in bold; then surrogates, the check of the prediction with its warning,
// and budgets, each where there is something to say. Missing figures are "-".
std::string to_markdown(const MethodComparison&);

}  // namespace deltacal::calib
