// Each declares one command with all its options, and fills these in.
#pragma once
#include <CLI/CLI.hpp>

#include "options.h"

namespace deltacal::tools {

void add_inspect(CLI::App&, InspectOptions&);
void add_profile(CLI::App&, ProfileOptions&);
void add_merge(CLI::App&, MergeOptions&);
void add_analyze(CLI::App&, AnalyzeOptions&);
void add_calibrate(CLI::App&, CalibrateOptions&);
void add_validate(CLI::App&, ValidateOptions&);
void add_generate(CLI::App&, GenerateOptions&);
void add_report(CLI::App&, ReportOptions&);
void add_export(CLI::App&, ExportOptions&);
void add_bench(CLI::App&, BenchOptions&);
void add_run(CLI::App&, RunOptions&);

}  // namespace deltacal::tools
