#include "cli.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>
#include <new>
#include <nlohmann/json.hpp>

#include "cli_commands.h"
#include "cli_errors.h"
#include "core/error.h"
#include "model/device.h"
#include "options.h"
#include "shell.h"

namespace deltacal::tools {
namespace {

// The command line as a shell would take it again.
std::string quoted(int argc, char** argv) {
  std::string line = "deltacal";
  for (int i = 1; i < argc; ++i) line += " " + shell_word(argv[i]);
  return line;
}

}  // namespace

int command_line(int argc, char** argv) {
  CLI::App app(
      "Profiles attention and calibrates DELTA sparse decode attention.\n"
      "model + traces --profile--> trace.h5 --calibrate--> delta_config.json --validate--> validation.json "
      "--report--> report.html",
      "deltacal");
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string("deltacal ") + tool_version);
  app.failure_message(CLI::FailureMessage::simple);
  app.option_defaults()->always_capture_default(false);
  app.get_formatter()->column_width(34);

  InspectOptions inspect_options;
  ProfileOptions profile_options;
  MergeOptions merge_options;
  AnalyzeOptions analyze_options;
  CalibrateOptions calibrate_options;
  ValidateOptions validate_options;
  GenerateOptions generate_options;
  ReportOptions report_options;
  ExportOptions export_options;
  BenchOptions bench_options;
  RunOptions run_options;
  add_run(app, run_options);
  add_inspect(app, inspect_options);
  add_profile(app, profile_options);
  add_merge(app, merge_options);
  add_analyze(app, analyze_options);
  add_calibrate(app, calibrate_options);
  add_validate(app, validate_options);
  add_generate(app, generate_options);
  add_report(app, report_options);
  add_export(app, export_options);
  add_bench(app, bench_options);
  const std::string line = quoted(argc, argv);
  for (Provenance* made :
       {&profile_options.made, &merge_options.made, &analyze_options.made, &calibrate_options.made,
        &validate_options.made, &generate_options.made, &bench_options.made, &run_options.made})
    made->command = line;

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const bool asked = e.get_exit_code() == 0;  // --help, --version
    if (asked) return app.exit(e);
    // An unknown word is said before anything that may be missing because of it.
    const auto chosen = app.get_subcommands();
    const std::string message = !app.remaining(true).empty() ? unknown_argument(app)
                                : chosen.empty()
                                    ? "deltacal: give a command (all: deltacal --help)"
                                    : fmt::format("deltacal {}: {} (all options: deltacal {} --help)",
                                                  chosen[0]->get_name(), e.what(), chosen[0]->get_name());
    fmt::print(stderr, "{}\n", message);
    return static_cast<int>(Status::bad_input);
  }

  const std::vector<std::pair<const char*, std::function<int()>>> commands{
      {"inspect", [&] { return inspect(inspect_options); }},
      {"profile", [&] { return profile(profile_options); }},
      {"merge", [&] { return merge(merge_options); }},
      {"analyze", [&] { return analyze(analyze_options); }},
      {"calibrate", [&] { return calibrate(calibrate_options); }},
      {"validate", [&] { return validate(validate_options); }},
      {"generate", [&] { return generate(generate_options); }},
      {"report", [&] { return report(report_options); }},
      {"export", [&] { return export_config(export_options); }},
      {"bench", [&] { return bench(bench_options); }},
      {"run", [&] { return run(run_options); }}};
  try {
    for (const auto& [name, command] : commands)
      if (app.got_subcommand(name)) return model::with_clear_errors(command);
  } catch (const Error& e) {
    std::fprintf(stderr, "deltacal: %s\n", e.what());
    return static_cast<int>(e.status());
  } catch (const nlohmann::json::exception& e) {
    std::fprintf(stderr,
                 "deltacal: a JSON file has not the fields it should: %s. Make it again with this version.\n",
                 e.what());
    return static_cast<int>(Status::bad_input);
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "deltacal: out of memory: use fewer tokens (--max-tokens) or --dtype bf16\n");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "deltacal: unexpected error: %s\n", e.what());
  }
  return static_cast<int>(Status::failure);
}

}  // namespace deltacal::tools
