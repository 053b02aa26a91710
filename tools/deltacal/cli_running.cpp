// Commands that run a model for its text or its speed.
#include <fmt/ranges.h>

#include "cli_commands.h"
#include "cli_options.h"
#include "model/shape.h"

namespace deltacal::tools {

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

}  // namespace deltacal::tools
