// Commands that record traces and tell what they hold.
#include <fmt/ranges.h>

#include "cli_commands.h"
#include "cli_options.h"

namespace deltacal::tools {

void add_inspect(CLI::App& app, InspectOptions& o) {
  CLI::App* c = app.add_subcommand(
      "inspect",
      "tell what a model, trace, analysis, config, validation, compare, transfer, bench or cost file holds");
  c->add_option("file", o.file, "the file")->required();
  c->add_flag("--json", o.json, "as JSON");
  c->footer("Example: deltacal inspect trace.h5");
}

void add_profile(CLI::App& app, ProfileOptions& o) {
  CLI::App* c = app.add_subcommand("profile", "record page attention of real traces into trace.h5");
  add_model(c, o);
  add_data(c, o);
  add_output(c, o, "trace to write (HDF5)");
  c->add_option("--mode", o.mode, "replay (the given text) or decode (the model's own continuation)")
      ->capture_default_str()
      ->check(CLI::IsMember({"replay", "decode"}));
  c->add_option("--task", o.task,
                "name of the samples' task, instead of the one in the data (\"own\" for --mode decode)")
      ->check([](const std::string& name) { return std::string(name.empty() ? "give a name" : ""); });
  c->add_option("--steps", o.steps, "recorded steps a sample: a number, all, or positions a:b")
      ->capture_default_str();
  c->add_option("--maps", o.maps, "none, or heads: also the page mass of each key/value head")
      ->capture_default_str()
      ->check(CLI::IsMember({"none", "heads"}));
  c->add_flag("--sensitivity", o.sensitivity,
              "also the predicted KL of every edge over the grid of K and L: a backward pass of the model");
  c->add_option(
       "--draws", o.draws,
       "labels of the backward pass: 0, the trace's own next tokens; n, so many draws from the model")
      ->capture_default_str()
      ->check(CLI::Range(0, 64));
  c->add_option("--rankings", o.rankings,
                "also the predicted KL under other rankings of the pages: max (a page counts by its largest "
                "attention, not by the sum), refresh:N (a list every N steps), cosine:T (a list where the "
                "cosine of the queries "
                "to those of the last list falls below T, and every 16 steps), max+refresh:N, max+cosine:T")
      ->delimiter(',');
  add_grid(c, o);
  c->add_option("--shard", o.shard, "i/n: the samples i, i+n, i+2n, ...")->capture_default_str();
  auto sampling = add_sampling(c, o);
  sampling.push_back(add_batch(c, o.batch));
  c->callback(
      [&o, sampling, of_sensitivity = options_of(c, {"--k-pages", "--l-pages", "--rankings", "--draws"})] {
        if (!o.sensitivity)
          refuse_given(
              of_sensitivity,
              "--k-pages, --l-pages, --rankings and --draws say what --sensitivity records: they need it");
        if (o.mode == "replay") refuse_given(sampling, "is for new tokens: it needs --mode decode");
      });
  c->add_flag("--resume", o.resume,
              "continue what an earlier call with the same options left in OUT.partial/")
      ->excludes("--force");
  add_gpu_trace(c, o.gpu_trace);
  c->add_flag("--dry-run", o.dry_run, "say what would run and what it would need");
  add_seed(c, o.made);
  c->footer("Example: deltacal profile --model m.gguf --data traces.jsonl --max-tokens 4096 --out trace.h5");
}

void add_merge(CLI::App& app, MergeOptions& o) {
  CLI::App* c = app.add_subcommand("merge", "join traces of one model");
  c->add_option("inputs", o.inputs, "traces")->required();
  add_output(c, o, "trace to write");
  c->footer("Example: deltacal merge shard0.h5 shard1.h5 --out trace.h5");
}

void add_analyze(CLI::App& app, AnalyzeOptions& o) {
  CLI::App* c = app.add_subcommand("analyze", "correlation, recall, drift and half-life of a trace");
  c->add_option("trace", o.trace, "trace.h5")->required();
  add_output(c, o, "analysis to write (JSON)");
  add_grid(c, o);
  add_resamples(c, o.resamples);
  add_seed(c, o.made);
  c->footer("Example: deltacal analyze trace.h5 --out analysis.json");
}

}  // namespace deltacal::tools
