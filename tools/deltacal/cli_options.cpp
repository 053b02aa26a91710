#include "cli_options.h"

#include <fmt/format.h>

namespace deltacal::tools {

Options options_of(CLI::App* app, std::initializer_list<const char*> names) {
  Options options;
  for (const char* name : names) options.push_back(app->get_option(name));
  return options;
}

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

void add_output(CLI::App* app, Output& o, const char* what) {
  app->add_option("--out", o.out, what)->required();
  app->add_flag("--force", o.force, "replace an existing output");
}

void add_model(CLI::App* app, ModelOptions& o, bool required) {
  app->add_option("--model", o.model, "model file (GGUF)")->required(required);
  app->add_option("--device", o.device, "auto, cpu or cuda")->capture_default_str();
  app->add_option("--dtype", o.dtype, "auto, f32 or bf16: linear layers and KV cache")->capture_default_str();
  app->add_option("--threads", o.threads, "threads; 0: all")->capture_default_str()->check(at_least(0));
}

void add_data(CLI::App* app, DataOptions& o, bool required) {
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

}  // namespace deltacal::tools
