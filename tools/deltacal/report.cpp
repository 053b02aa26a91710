#include "reports/report.h"

#include <fmt/format.h>

#include <cstdio>

#include "options.h"

namespace deltacal::tools {

int report(const ReportOptions& o) {
  require_free_output(o.out, o.existing());
  const reports::Report page = reports::build(reports::read_inputs(o.files));
  const std::string text = o.format == "md"     ? reports::markdown(page)
                           : o.format == "csv"  ? reports::csv(page)
                           : o.format == "json" ? reports::json(page)
                                                : reports::html(page);
  write_file_atomically(o.out, text, o.existing());
  fmt::print("{}\n", o.out);
  return 0;
}

}  // namespace deltacal::tools
