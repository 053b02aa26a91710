// Commands that choose a schedule, judge it and pass it on.
#include <fmt/ranges.h>

#include "cli_commands.h"
#include "cli_options.h"
#include "config/export.h"

namespace deltacal::tools {

void add_run(CLI::App& app, RunOptions& o) {
  CLI::App* c = app.add_subcommand(
      "run", "all stages: split by problem, profile, analyze, calibrate, validate, report");
  add_model(c, o);
  add_data(c, o);
  c->add_option("--out-dir", o.out_dir, "folder for everything it makes")->required();
  c->add_option("--steps", o.steps, "recorded steps a sample")->capture_default_str();
  auto* budget = c->add_option("--budget", o.budget, "as for calibrate")->capture_default_str();
  c->add_option("--min-recall", o.min_recall, "as for calibrate")->excludes(budget);
  c->add_option("--baselines", o.baselines,
                "methods validated beside the chosen schedule: recall-dp, cosine-peaks, kascade, tidal, "
                "uniform, random, or none")
      ->delimiter(',')
      ->capture_default_str()
      ->check(CLI::IsMember({"recall-dp", "cosine-peaks", "kascade", "tidal", "uniform", "random", "none"}));
  c->add_option("--objective", o.objective,
                "kl: profile with --sensitivity and minimise the predicted KL; or recall")
      ->capture_default_str()
      ->check(CLI::IsMember({"kl", "recall"}));
  c->add_option("--max-nll-gap", o.max_nll_gap, "as for validate");
  c->add_option("--min-attended-ratio", o.min_attended_ratio, "as for validate");
  c->add_option("--validation-share", o.validation_share, "share of the samples held out")
      ->capture_default_str()
      ->check(CLI::Range(0.05, 0.95));
  c->add_flag("--force", o.force, "discard what the folder holds and start again");
  c->add_flag("--dry-run", o.dry_run, "say what would run");
  add_grid(c, o);
  add_resamples(c, o.resamples);
  add_seed(c, o.made);
  c->footer("Example: deltacal run --model m.gguf --data traces.jsonl --max-tokens 4096 --out-dir out");
}

void add_calibrate(CLI::App& app, CalibrateOptions& o) {
  CLI::App* c = app.add_subcommand("calibrate", "choose delta layers, k and L");
  c->add_option("trace", o.trace, "trace.h5")->required();
  add_output(c, o, "config to write (JSON)");
  auto* budget = c->add_option(
      "--budget", o.budget,
      "attended=R: attended-token ratio of at least R; bytes=N: KV cache read a step, K, M or G for "
      "powers of 1024; ms=T: time of a step by --cost");
  auto* min_recall =
      c->add_option(
           "--min-recall", o.min_recall,
           "instead: the cheapest schedule that keeps this share of the attention in every sparse layer")
          ->excludes(budget);
  c->add_option("--max-kl", o.max_kl,
                "instead: the cheapest schedule whose predicted KL is at most this, nats a token")
      ->excludes(budget)
      ->excludes(min_recall);
  c->add_option("--cost", o.cost, "times of a decoding step (JSON, deltacal-cost-table)");
  c->add_option("--objective", o.objective,
                "what is minimised: kl (predicted KL; needs profile --sensitivity), recall, or auto: kl "
                "where the trace has it")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "kl", "recall"}));
  c->add_option("--aggregate", o.aggregate,
                "of an edge's loss over the samples: mean, cvar:SHARE (worst share), max")
      ->capture_default_str();
  const std::vector<std::string> methods{"dp",    "recall-dp", "cosine-peaks", "kascade",
                                         "tidal", "uniform",   "random",       "greedy-nll"};
  c->add_option("--method", o.method, fmt::format("{}", fmt::join(methods, ", ")))
      ->capture_default_str()
      ->check(CLI::IsMember(methods));
  c->add_option("--score-page", o.score_page,
                "what a page counts by: sum, of its positions' largest attention of any head (DELTA), or max "
                "(needs profile --sensitivity --rankings max; recall is not known under it)")
      ->capture_default_str()
      ->check(CLI::IsMember({"sum", "max"}));
  c->add_option("--full-layers", o.full_layers,
                "initial layers that are full in any case, or auto: as many as is best (2 for the methods "
                "that do not choose; tidal has 2)")
      ->capture_default_str();
  c->add_option("--candidates", o.candidates,
                "the solver's best sets of delta layers: named in the config, put into order by --order")
      ->capture_default_str()
      ->check(at_least(1));
  c->add_option(
       "--order", o.order,
       "form of the predicted KL that orders the candidates under a budget: additive (what the solver "
       "minimises), layers (with cross terms of layers), steps (of layers and of 16 steps)")
      ->capture_default_str()
      ->check(CLI::IsMember({"additive", "layers", "steps"}));
  c->add_option("--context", o.context,
                "meet the budget on steps 0..N-1 of one sequence; 0: on the samples' own lengths")
      ->capture_default_str()
      ->check(at_least(0));
  c->add_option("--k-per", o.k_per,
                "what has a k of its own: layer, segment (Δ-layer to Δ-layer), or schedule: one K as the "
                "DELTA paper has it")
      ->capture_default_str()
      ->check(CLI::IsMember({"layer", "segment", "schedule"}));
  c->add_option("--refresh", o.refresh,
                "steps that a list serves, or cosine:T, a list where the queries have moved away from those "
                "of the last "
                "one: of what the trace has (profile --rankings refresh:N, cosine:T), or auto: the one that "
                "loses least, "
                "under --max-kl the one that costs least")
      ->capture_default_str();
  c->add_option("--alternatives-dir", o.alternatives_dir,
                "write the schedule of every method as a config into this folder");
  auto* compare = c->add_flag(
      "--compare", o.compare,
      "instead of a config: every method's schedule measured on --data, into OUT (JSON) and beside "
      "it as Markdown");
  std::vector<std::string> rows = methods;
  rows.push_back("dp-refresh");
  c->add_option(
       "--methods", o.methods,
       "rows of --compare, the others compared with the first; dp-refresh: one for every ranking refresh:N "
       "and cosine:T of the trace (the latter not under --context)")
      ->delimiter(',')
      ->capture_default_str()
      ->needs(compare)
      ->check(CLI::IsMember(rows));
  auto* transfer =
      c->add_flag("--transfer", o.transfer,
                  "instead of a config: a schedule calibrated on each task of the trace, measured on each "
                  "task of --data, and how "
                  "many samples and steps are enough; into OUT (JSON) and beside it as Markdown");
  transfer->excludes(compare);
  c->add_option("--curve", o.curve, "of --transfer: both (fewer samples, fewer steps), or none")
      ->capture_default_str()
      ->needs(transfer)
      ->check(CLI::IsMember({"both", "none"}));
  c->add_option("--curve-draws", o.curve_draws, "random choices of each number of samples")
      ->capture_default_str()
      ->needs(transfer)
      ->check(at_least(1));
  c->add_option(
       "--rerank", o.rerank,
       "measure so many candidates on --data, then search around the best (under --k-per layer); 0: none")
      ->capture_default_str()
      ->excludes(compare)
      ->excludes(transfer)
      ->check(CLI::Range(0, 1000));
  c->add_option("--rerank-samples", o.rerank_samples,
                "development samples used, at most (of each task with --transfer): the first of each "
                "problem, then the "
                "second of each, ...")
      ->capture_default_str()
      ->check(at_least(1));
  c->add_option("--evaluations", o.evaluations,
                "file of finished runs, used again; default: OUT.evaluations.jsonl");
  add_model(c, o, false);
  add_data(c, o, false);
  add_grid(c, o);
  add_resamples(c, o.resamples);
  add_seed(c, o.made);
  c->callback([&o, of_data = options_of(c, {"--chat", "--limit", "--max-tokens", "--min-tokens"}),
               of_runs = options_of(c, {"--rerank-samples", "--evaluations"}),
               of_model = options_of(c, {"--device", "--dtype", "--threads"}),
               of_curve = options_of(c, {"--curve-draws"})] {
    if (o.data.empty())
      refuse_given(of_data,
                   "--chat, --limit, --max-tokens and --min-tokens say what is read of --data: they need it");
    if (!runs_schedules(o))
      refuse_given(
          of_runs,
          "--rerank-samples and --evaluations are for runs on --data: --compare, --transfer, --rerank "
          "and --method greedy-nll make some");
    if (o.model.empty())
      refuse_given(of_model, "--device, --dtype and --threads say how --model is run: they need it");
    if (o.curve == "none") refuse_given(of_curve, "--curve none draws no samples");
  });
  c->footer(
      "--compare, --transfer, --rerank and --method greedy-nll run the model on development traces: --model, "
      "--data.\n"
      "Example: deltacal calibrate trace.h5 --budget attended=3 --out delta_config.json");
}

void add_validate(CLI::App& app, ValidateOptions& o) {
  CLI::App* c = app.add_subcommand(
      "validate",
      "full against sparse attention on held-out traces; exit status 3 if thresholds are not met");
  add_model(c, o);
  add_data(c, o);
  add_output(c, o, "validation to write (JSON)");
  c->add_option("--config", o.configs, "config under test; again as NAME=FILE for others beside it")
      ->required()
      ->take_all();
  c->add_option("--policies", o.policies, "full, delta, streaming")
      ->delimiter(',')
      ->capture_default_str()
      ->check(CLI::IsMember({"full", "delta", "streaming"}));
  c->add_option("--max-nll-gap", o.max_nll_gap, "threshold on the upper bound of the NLL gap, nats a token");
  c->add_option("--min-attended-ratio", o.min_attended_ratio, "threshold on the attended-token ratio");
  c->add_option("--recall-steps", o.recall_steps,
                "steps a sample on which recall is measured in the sparse run")
      ->capture_default_str()
      ->check(at_least(0));
  c->add_flag("--allow-overlap", o.allow_overlap, "accept samples that the config was calibrated on");
  c->add_flag("--dry-run", o.dry_run, "say what would run and what it would need");
  add_resamples(c, o.resamples);
  add_gpu_trace(c, o.gpu_trace);
  add_seed(c, o.made);
  c->footer(
      "Example: deltacal validate --model m.gguf --config delta_config.json --data heldout.jsonl "
      "--max-nll-gap 0.02 --out validation.json");
}

void add_report(CLI::App& app, ReportOptions& o) {
  CLI::App* c = app.add_subcommand("report", "one page from the artefacts given");
  c->add_option("files", o.files,
                "analysis.json, delta_config.json, validation.json, compare.json, bench.json: any of them")
      ->required();
  add_output(c, o, "page to write");
  c->add_option("--format", o.format, "html, md, csv or json")
      ->capture_default_str()
      ->check(CLI::IsMember({"html", "md", "csv", "json"}));
  c->footer("Example: deltacal report analysis.json delta_config.json validation.json --out report.html");
}

void add_export(CLI::App& app, ExportOptions& o) {
  CLI::App* c = app.add_subcommand("export", "the same schedule in another program's own form");
  c->add_option("config", o.config, "delta_config.json")->required();
  c->add_option("--to", o.to, "delta, kascade (vllm, sglang, hf: refused, no form is known)")
      ->delimiter(',')
      ->required()
      ->check(CLI::IsMember(config::export_names()));
  c->add_option("--context", o.context,
                "kascade: its budget is a share of the context; at this length it is the schedule's K")
      ->check(at_least(1));
  add_output(c, o, "file to write, which a shell can source; a folder for several forms");
  c->footer(
      "What a form cannot say is refused: calibrate with --k-per schedule and one value of --l-pages.\n"
      "Example: deltacal export delta_config.json --to delta --out delta.sh");
}

}  // namespace deltacal::tools
