// How numbers and strings appear on a page. One place, so that a quantity looks the same everywhere.
#pragma once
#include <string>
#include <string_view>

#include "reports/model.h"

namespace deltacal::reports {

// Fixed decimals of the quantity; two significant digits where that would show a number as 0; "–" if missing.
std::string number(double value, const Quantity&);
// "0.912 (0.890 to 0.931)", without the brackets if there is no interval.
std::string estimate(const Estimate&, const Quantity&);
std::string cell(const Cell&, const Quantity&);
// The shortest text that reads back as the same double; "" if missing.
std::string exact(double value);
// "12,345"
std::string grouped(long long count);
// "NLL gap (nats/token)"
std::string with_unit(const Quantity&);

// For text and attribute values of HTML and SVG; control characters become U+FFFD.
std::string escape_html(std::string_view text);
size_t length(std::string_view text);  // in code points
// At most `n` characters (code points), the last an ellipsis if something was cut.
std::string shortened(std::string_view text, size_t n);

}  // namespace deltacal::reports
