// One figure as an <svg> element for a page that defines its classes (html.cpp): colours follow the page's
// light or dark theme. Width and height are in CSS pixels at natural size. Everything drawn is also reachable
// as text: each mark has a <title> with its numbers.
#pragma once
#include <string>

#include "reports/model.h"

namespace deltacal::reports {

std::string svg(const Heatmap&, double width, const std::string& title);
std::string svg(const LineChart&, double width, const std::string& title);
std::string svg(const DotWhisker&, double width, const std::string& title);
// The value axis is logarithmic; what is not above 0 is drawn at its foot.
std::string svg(const Scatter&, double width, const std::string& title);
std::string svg(const Strip&, double width, const std::string& title);

}  // namespace deltacal::reports
