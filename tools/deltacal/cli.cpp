#include "cli.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>
#include <iostream>
#include <new>
#include <nlohmann/json.hpp>

#include "config/export.h"
#include "core/error.h"
#include "model/device.h"
#include "model/shape.h"
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

// ---- options that mean something beside others alone ----

using Options = std::vector<const CLI::Option*>;

Options options_of(CLI::App* app, std::initializer_list<const char*> names) {
  Options options;
  for (const char* name : names) options.push_back(app->get_option(name));
  return options;
}
// For callbacks, where it is known that the options would have no effect.
void refuse_given(const Options& options, const std::string& why) {
  for (const CLI::Option* option : options)
    if (option->count() > 0) throw CLI::ValidationError(option->get_name(), why);
}

CLI::Validator at_least(int least) {
  return CLI::Validator(
      [least](std::string& text) {
        double value = 0;
        const bool is_number = CLI::detail::lexical_cast(text, value);
        return is_number && value >= least ? std::string() : fmt::format("{}: give {} or more", text, least);
      },
      "");
}

// ---- options shared by several commands ----

void add_output(CLI::App* app, Output& o, const char* what) {
  app->add_option("--out", o.out, what)->required();
  app->add_flag("--force", o.force, "replace an existing output");
}
void add_model(CLI::App* app, ModelOptions& o, bool required = true) {
  app->add_option("--model", o.model, "model file (GGUF)")->required(required);
  app->add_option("--device", o.device, "auto, cpu or cuda")->capture_default_str();
  app->add_option("--dtype", o.dtype, "auto, f32 or bf16: linear layers and KV cache")->capture_default_str();
  app->add_option("--threads", o.threads, "threads; 0: all")->capture_default_str()->check(at_least(0));
}
void add_data(CLI::App* app, DataOptions& o, bool required = true) {
  auto* data = app->add_option("--data", o.data, "samples (JSON lines)")->required(required);
  app->add_option("--chat", o.chat, "auto, none, chatml, llama3 or deepseek-r1")->capture_default_str();
  app->add_option("--limit", o.limit, "samples at most; 0: all")->capture_default_str()->check(at_least(0));
  app->add_option("--max-tokens", o.max_tokens, "the first N tokens of each sample; 0: all")
      ->capture_default_str()
      ->check(at_least(0));
  app->add_option("--min-tokens", o.min_tokens, "leave out shorter samples")
      ->capture_default_str()
      ->check(at_least(0));
  app->add_option(
         "--pack", o.pack,
         "join the lines of a task, in their order, to samples of at least N tokens; lines as long as that "
         "stay alone")
      ->needs(data)
      ->check(at_least(1));
}
const CLI::Option* add_gpu_trace(CLI::App* app, std::string& path) {
  return app->add_option(
      "--gpu-trace", path,
      "Chrome trace (JSON) of the CUDA device's work by layer and phase, with a table of time by phase");
}
const CLI::Option* add_counters(CLI::App* app, std::string& wanted, const char* what) {
  return app
      ->add_flag(
          "--counters{required}", wanted,
          fmt::format("on a CUDA device, {}: bytes read and written and bandwidth by kernel, by the device's "
                      "counters; --counters=auto: without them where they cannot be had",
                      what))
      ->check(CLI::IsMember({"required", "auto"}));
}
// Returns the options, for commands that take them in one mode only.
Options add_sampling(CLI::App* app, SamplingArguments& o) {
  return {app->add_option("--max-new-tokens", o.max_new_tokens, "tokens to decode")
              ->capture_default_str()
              ->check(at_least(1)),
          app->add_option("--temperature", o.temperature, "0: greedy")->capture_default_str(),
          app->add_option("--top-p", o.top_p, "nucleus: smallest set with this probability")
              ->capture_default_str(),
          app->add_option("--top-k", o.top_k, "most likely tokens kept; 0: all")->capture_default_str()};
}
CLI::Option* add_batch(CLI::App* app, int& batch) {
  return app
      ->add_option("--batch", batch,
                   "sequences decoded at once; 0: one on the CPU, on a CUDA device as many as fit, up to 32")
      ->capture_default_str()
      ->check(at_least(0));
}
void add_grid(CLI::App* app, GridOptions& o) {
  app->add_option("--k-pages", o.k_pages, "grid of K, pages")->delimiter(',')->capture_default_str();
  app->add_option("--l-pages", o.l_pages, "grid of L, pages")->delimiter(',')->capture_default_str();
}
void add_seed(CLI::App* app, Provenance& made) {
  app->add_option("--seed", made.seed, "seed of everything random")->capture_default_str();
}
void add_resamples(CLI::App* app, int& resamples) {
  app->add_option("--resamples", resamples, "bootstrap resamples")->capture_default_str()->check(at_least(1));
}

// ---- the commands ----

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
  c->add_option("--order", o.order,
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
void add_generate(CLI::App& app, GenerateOptions& o) {
  CLI::App* c = app.add_subcommand(
      "generate", "stream text, with full attention or under a config; of several prompts, JSON lines");
  add_model(c, o);
  c->add_option("--config", o.config, "delta_config.json; without: full attention");
  auto* prompt = c->add_option("--prompt", o.prompts, "the question; again for more")
                     ->take_all()
                     ->allow_extra_args(false);  // a word outside the quotes is no second prompt
  c->add_option("--system", o.system, "system message")->needs(prompt);
  auto* data =
      c->add_option("--data", o.data, "more prompts (JSON lines, as profile --mode decode takes them)");
  c->add_option("--limit", o.limit, "lines of --data at most; 0: all")
      ->capture_default_str()
      ->check(at_least(0))
      ->needs(data);
  c->add_option("--out", o.out,
                "JSON lines to write, one a prompt, in their order (several prompts without it: on "
                "standard output)");
  c->add_flag("--force", o.force, "replace an existing output");
  add_batch(c, o.batch);
  c->callback([&o] {
    if (o.prompts.empty() && o.data.empty())
      throw CLI::ValidationError("--prompt", "give a question, or --data with some");
    if (o.force && o.out.empty() && o.gpu_trace.empty())
      throw CLI::ValidationError("--force",
                                 "nothing is written that it could replace: give --out or --gpu-trace");
  });
  c->add_option("--chat", o.chat, "auto, none, chatml, llama3 or deepseek-r1")->capture_default_str();
  add_sampling(c, o);
  c->add_flag("--stats", o.stats, "tokens a second and pages attended, on stderr");
  add_gpu_trace(c, o.gpu_trace);
  add_counters(c, o.counters,
               "afterwards a step more, of as many sequences, each as long as the longest text and with "
               "random keys and "
               "values");
  add_seed(c, o.made);
  c->footer(
      "Example: deltacal generate --model m.gguf --config delta_config.json --prompt 'What is 12 * 13?' "
      "--stats");
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
void add_bench(CLI::App& app, BenchOptions& o) {
  CLI::App* c = app.add_subcommand(
      "bench", "prefill, recording and decode rates, as ratios to bandwidth and full attention");
  add_model(c, o, false);
  c->add_option("--shape", o.shape,
                fmt::format("instead of a model: random weights of {}, or of a file of that form",
                            fmt::join(model::shape_names(), ", ")))
      ->excludes("--model");
  auto* table = c->add_option("--cost-table", o.cost_table,
                              "instead: times of a step's parts, for calibrate --budget ms=T --cost (JSON)");
  c->add_option("--out", o.out, "also write the figures as JSON")->excludes(table);
  c->add_option("--csv", o.csv, "also write the figures as comma-separated values")->excludes(table);
  c->add_option("--markdown", o.markdown, "also write what is printed, which is Markdown");
  const auto* trace = add_gpu_trace(c, o.gpu_trace);
  const auto* counters = add_counters(c, o.counters, "a step of each batch once more, afterwards");
  table->excludes("--gpu-trace")->excludes("--counters");
  c->add_flag("--force", o.force, "replace an existing output");
  c->add_option("--config", o.config, "also decode under this config")->excludes(table);
  c->add_option("--data", o.data,
                "take tokens from this file's first sample that is long enough; without: random tokens");
  auto* batches =
      c->add_option(
           "--batch", o.batches,
           "on a CUDA device: sequences of a step and positions that each sees, ROWSxCONTEXT; again for "
           "others (default: 32x32768, 8x8192, 1x32768)")
          ->excludes(table);
  auto* rows = c->add_option("--rows", o.rows, "on a CUDA device: sequences of a step of the cost table")
                   ->needs(table)
                   ->capture_default_str()
                   ->check(CLI::Range(1, 4096));
  auto* contexts =
      c->add_option(
           "--contexts", o.contexts,
           "context lengths of the decode rates on the CPU; of the cost table (default: 1 to 8192, on a CUDA "
           "device to 32768, as far as the model goes)")
          ->delimiter(',')
          ->capture_default_str();
  c->add_option("--k-pages", o.k_pages, "pages of the sparse layers in the cost table")
      ->delimiter(',')
      ->needs(table)
      ->capture_default_str();
  c->add_option("--prefill-tokens", o.prefill_tokens, "tokens of the prefill and of the replay")
      ->excludes(table)
      ->capture_default_str()
      ->check(at_least(1));
  c->add_flag("--sensitivity", o.sensitivity,
              "also the replay with the sensitivity pass of profile --sensitivity, 2 draws a position")
      ->excludes(table);
  c->add_option("--repeats", o.repeats,
                "counted repeats after a warm-up; medians are printed (default: 3, on a CUDA device 20)")
      ->check(at_least(1));
  auto* steps =
      c->add_option("--decode-steps", o.decode_steps, "steps a decode rate on the CPU is taken over")
          ->excludes(table)
          ->capture_default_str()
          ->check(at_least(1));
  add_seed(c, o.made);
  c->callback([&o, c, contexts, steps, batches, rows, trace, counters] {
    if (o.model.empty() && o.shape.empty()) throw CLI::RequiredError("--model or --shape");
    if (!o.shape.empty())
      refuse_given(options_of(c, {"--data"}),
                   "random weights of a --shape have no tokenizer: they run on random tokens");
    if (!o.cost_table.empty() && contexts->count() == 0) o.contexts.clear();
    const auto note = [](std::vector<std::string>& to, const CLI::Option* option) {
      if (option->count() > 0) to.push_back(option->get_name());
    };
    if (o.cost_table.empty()) note(o.of_cpu, contexts);
    note(o.of_cpu, steps);
    note(o.of_device, batches);
    note(o.of_device, rows);
    note(o.of_device, trace);
    if (o.counters == "required") note(o.of_device, counters);
  });
  c->footer(
      "Example: deltacal bench --model m.gguf --config delta_config.json\n"
      "On a CUDA device: deltacal bench --shape qwen2.5-7b --batch 32x32768 --out bench.json");
}
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

// ---- errors ----

size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0]++;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitute = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row.back();
}

// "deltacal: unknown option --max-token (nearest: --max-tokens)"
std::string unknown_argument(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  const CLI::App& command = chosen.empty() ? app : *chosen[0];
  std::vector<std::string> known;
  for (const CLI::Option* option : command.get_options())
    for (const auto& name : option->get_lnames()) known.push_back("--" + name);
  if (chosen.empty())
    for (const CLI::App* sub : app.get_subcommands({})) known.push_back(sub->get_name());
  std::string argument = app.remaining(true).front();
  argument = argument.substr(0, argument.find('='));
  const auto nearest = std::min_element(known.begin(), known.end(), [&](const auto& a, const auto& b) {
    return edit_distance(argument, a) < edit_distance(argument, b);
  });
  const std::string where = chosen.empty() ? "" : " " + command.get_name();
  const bool is_option = argument.starts_with("-");
  const std::string hint =
      is_option || chosen.empty() ? "nearest: " + *nearest : "what holds spaces needs quotes";
  return fmt::format("deltacal{}: unknown {} {} ({}; all: deltacal{} --help)", where,
                     is_option ? "option" : "argument", argument, hint, where);
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
