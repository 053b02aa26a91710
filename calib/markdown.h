// Cells and rows of the Markdown tables beside JSON artefacts.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "calib/bootstrap.h"

namespace deltacal::calib::markdown {

std::string number(double value, int digits);  // "-" for NaN
// "0.0176 (0.0086 to 0.0273)"; the mean alone where there is no interval, "-" where there is no estimate.
std::string interval(const Estimate&, int digits);
std::string interval(const std::optional<Estimate>&, int digits);
std::string cell(const std::string& text);  // a pipe would end the cell
std::string row(const std::vector<std::string>& cells);

}  // namespace deltacal::calib::markdown
