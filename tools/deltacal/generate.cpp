#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "bench_timing.h"
#include "config/config.h"
#include "core/error.h"
#include "core/progress.h"
#include "decode/batch.h"
#include "decode/device_info.h"
#include "decode/step_graph.h"
#include "device_tables.h"
#include "gpu_trace_output.h"
#include "inputs.h"
#include "outputs.h"
#include "text/utf8_stream.h"

namespace deltacal::tools {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

decode::Policy policy_of(const GenerateOptions& o, const ModelInfo& info) {
  if (o.config.empty()) return decode::full_policy(info.n_layers);
  const config::Config config = config::read(o.config);
  const std::string warning = config::check_model(config, o.config, info);
  if (!warning.empty()) fmt::print(stderr, "warning: {}\n", warning);
  return decode::delta_policy(config.schedule);
}

struct Question {
  std::string id, task, problem, answer;  // as in the data; empty where it does not say
  std::string text;                       // what the user says last
  std::vector<text::Message> messages;    // all that is said; empty where the prompt is text or ids
  std::vector<int32_t> ids;               // the whole prompt
};

// One of the data, as it will be data again: with the key of its problem, or splits would part samples of
// one.
Question question_of(const text::Sample& sample, const text::Tokenizer& tokenizer, text::ChatPreset preset) {
  Question q{sample.id,
             sample.task,
             "",
             sample.answer,
             sample.text,
             sample.messages,
             text::prompt_ids(sample, tokenizer, preset)};
  const std::string of_task = sample.task + "/";  // where the data names the problem
  if (sample.problem.starts_with(of_task)) q.problem = sample.problem.substr(of_task.size());
  if (sample.form == text::Sample::Form::input_ids) q.text = tokenizer.decode(q.ids, false);
  if (!q.messages.empty() && q.messages.back().role == "assistant") q.messages.pop_back();
  for (const text::Message& message : q.messages)
    if (message.role == "user") q.text = message.content;
  return q;
}

// Those of the command line, then those of the file.
std::vector<Question> questions_of(const GenerateOptions& o, const text::Vocabulary& vocabulary) {
  const text::Tokenizer tokenizer(vocabulary);
  const text::ChatPreset preset = text::choose_preset(o.chat, vocabulary);
  std::vector<Question> questions;
  for (const std::string& prompt : o.prompts) {
    std::vector<text::Message> messages;
    if (!o.system.empty()) messages.push_back({"system", o.system});
    messages.push_back({"user", prompt});
    questions.push_back({fmt::format("prompt:{}", questions.size() + 1), "", "", "", prompt, messages,
                         text::render_prompt(tokenizer, preset, messages)});
  }
  if (o.data.empty()) return questions;
  int n_read = 0;
  for (const text::Sample& sample : text::read_jsonl(o.data)) {
    if (o.limit > 0 && n_read++ == o.limit) break;
    questions.push_back(question_of(sample, tokenizer, preset));
  }
  return questions;
}

int longest_of(const std::vector<Question>& questions, int max_new_tokens, const ModelInfo& info) {
  int longest = 0;
  for (const Question& q : questions) {
    const int n_prompt = static_cast<int>(q.ids.size());
    if (max_new_tokens > info.max_context - n_prompt)
      throw bad_input(
          "{}: a prompt of {} tokens and {} new ones exceed the model's context of {}: lower "
          "--max-new-tokens",
          q.id, n_prompt, max_new_tokens, info.max_context);
    longest = std::max(longest, n_prompt + max_new_tokens);
  }
  return longest;
}

void put(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  if (std::fflush(stdout) != 0) throw failure("cannot write to standard output");
}

// Where the answers go.
class Answers {
 public:
  virtual ~Answers() = default;
  virtual void token(int question, int32_t id) = 0;
  virtual void finished(int question) = 0;
  virtual void end() = 0;
};

// One answer, as it is decoded.
class Streamed : public Answers {
 public:
  explicit Streamed(const text::Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  void token(int, int32_t id) override {
    if (!tokenizer_.is_special(id)) put(stream_.feed(tokenizer_.bytes_of(id)));
  }
  void finished(int) override { put(stream_.finish() + "\n"); }
  void end() override {}

 private:
  const text::Tokenizer& tokenizer_;
  text::Utf8Stream stream_;
};

// JSON lines in the order of the questions: on standard output as they are ready, in a file at the end.
class Lines : public Answers {
 public:
  Lines(const GenerateOptions& o, const std::vector<Question>& questions, const text::Tokenizer& tokenizer)
      : o_(o),
        questions_(questions),
        tokenizer_(tokenizer),
        ids_(questions.size()),
        progress_("generate", double(questions.size()) * o.max_new_tokens, "tokens", o.out.empty()) {}

  void token(int question, int32_t id) override {
    ids_[size_t(question)].push_back(id);
    progress_.advance(1);
  }
  void finished(int question) override {
    ready_[question] = line(size_t(question));
    for (auto next = ready_.find(n_given_); next != ready_.end(); next = ready_.find(++n_given_)) {
      if (o_.out.empty())
        put(next->second);
      else
        file_ += next->second;
      ready_.erase(next);
    }
  }
  void end() override {
    if (!o_.out.empty())
      write_file_atomically(o_.out, file_, o_.force ? Existing::replace : Existing::refuse);
  }

 private:
  std::string line(size_t question) const {
    const Question& q = questions_[question];
    const std::vector<int32_t>& ids = ids_[question];
    text::Utf8Stream stream;
    std::string text;
    for (const int32_t id : ids)
      if (!tokenizer_.is_special(id)) text += stream.feed(tokenizer_.bytes_of(id));
    text += stream.finish();
    nlohmann::ordered_json json{{"id", q.id}};
    for (const auto& [name, value] :
         {std::pair("task", &q.task), std::pair("problem", &q.problem), std::pair("answer", &q.answer)})
      if (!value->empty()) json[name] = *value;
    if (q.messages.size() > 1 || (q.messages.size() == 1 && q.messages[0].role != "user")) {
      for (const text::Message& m : q.messages)
        json["messages"].push_back({{"role", m.role}, {"content", m.content}});
      json["messages"].push_back({{"role", "assistant"}, {"content", text}});
    } else {
      json["prompt"] = q.text;
      json["response"] = text;
    }
    json["n_prompt_tokens"] = q.ids.size();
    json["n_new_tokens"] = ids.size();
    json["stopped"] = tokenizer_.ends_generation(ids.back());
    return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  }

  const GenerateOptions& o_;
  const std::vector<Question>& questions_;
  const text::Tokenizer& tokenizer_;
  std::vector<std::vector<int32_t>> ids_;  // by question
  std::map<int, std::string> ready_;       // those that wait for an earlier one
  int n_given_ = 0;
  std::string file_;
  Progress progress_;
};

void print_stats(const std::vector<Question>& questions, const decode::Policy& policy,
                 const decode::BatchResult& result, double prefill_seconds, double decode_seconds) {
  long long attended = 0, all = 0, lists = 0, n_prompt = 0, n_new = 0;
  const double n_layers = double(policy.layers.size());
  for (const auto& layer : result.reads) attended += layer.attended, lists += layer.lists;
  for (size_t i = 0; i < questions.size(); ++i) {
    const long long first = std::ssize(questions[i].ids), n = std::ssize(result.tokens[i]);
    n_prompt += first, n_new += n;
    all += std::ssize(policy.layers) * (n * first + n * (n + 1) / 2);
  }
  fmt::print(stderr,
             "prompt {} tokens in {:.2f} s ({:.1f} tokens/s); {} new tokens in {:.2f} s ({:.1f} tokens/s)\n"
             "attended {:.1f} of {:.1f} pages a layer and step, attended-token ratio {:.2f}\n",
             n_prompt, prefill_seconds, double(n_prompt) / prefill_seconds, n_new, decode_seconds,
             double(n_new) / decode_seconds, double(attended) / page_size / n_layers / double(n_new),
             double(all) / page_size / n_layers / double(n_new), double(all) / double(attended));
  if (result.n_steps < n_new)
    fmt::print(stderr, "{} steps of {:.1f} sequences\n", result.n_steps,
               double(n_new) / double(result.n_steps));
  const auto n_deltas =
      std::ranges::count(policy.layers, decode::Attend::all_rank, &decode::LayerPolicy::attend);
  if (policy.keeps_lists() && n_deltas > 0)
    fmt::print(stderr, "a Δ-layer made {:.1f} lists in {} steps\n", double(lists) / double(n_deltas), n_new);
}

// The longest prompt and answer, tokens.
int longest_made(const std::vector<Question>& questions, const decode::BatchResult& result) {
  size_t longest = 0;
  for (size_t i = 0; i < questions.size(); ++i)
    longest = std::max(longest, questions[i].ids.size() + result.tokens[i].size());
  return static_cast<int>(longest);
}

// --counters: the step that would follow the longest text, of `n_rows` sequences as long as that; their keys
// and values are random.
void count_step(std::string& wanted, uint64_t seed, const model::Model& model, const decode::Policy& policy,
                int n_rows, int longest) {
  const auto counted = [&] {
    decode::KvCache cache(model, n_rows, longest);
    cache.fill_random(seed);
    decode::StepGraph graph(model, cache, policy, n_rows);
    const std::vector<int32_t> token(size_t(n_rows), 0), position(size_t(n_rows), longest - 1);
    graph.run(token, position);
    return count(wanted, [&](gpu_trace::Session* session) {
      graph.launch_kernels(session);
      graph.wait();
    });
  };
  const auto counters = counted();  // batch and graph go before what the bandwidth is measured with comes
  if (!counters) return;
  const auto read = timing_of(decode::measure_bandwidth(5).read);
  fmt::print(stderr, "\none step of {} at position {}; read bandwidth {:.0f} GB/s\n\n{}",
             n_rows == 1 ? "one sequence" : fmt::format("{} sequences", n_rows), longest - 1, read.median,
             counter_table(*counters, read.median));
}

}  // namespace

int generate(const GenerateOptions& o) {
  const decode::SamplingOptions sampling{o.temperature, o.top_k, o.top_p, o.made.seed};
  decode::check(sampling);
  const Existing existing = o.force ? Existing::replace : Existing::refuse;
  require_free_outputs({o.out, o.gpu_trace}, existing);
  const Inputs in = read_head(o);
  check_gpu_trace(o.gpu_trace, in.device);
  std::string counters = settle_counters(o.counters, in.device);
  const ModelInfo& info = in.header.description.info;
  const decode::Policy policy = policy_of(o, info);
  if (!counters.empty()) decode::check_for_capture(policy, info.n_layers);
  const std::vector<Question> questions = questions_of(o, in.header.vocabulary);
  const int longest = longest_of(questions, o.max_new_tokens, info);
  const int n_rows = settle_batch(o.batch, in, static_cast<int>(questions.size()), longest,
                                  {.prefills = true, .draws = o.temperature > 0});
  if (!counters.empty()) check_bandwidth_memory("generate --counters", in);
  const model::Model model = load_model(o, in);
  const text::Tokenizer& tokenizer = model.tokenizer();

  std::vector<decode::BatchSequence> sequences;
  for (const Question& q : questions) {
    sequences.push_back({q.ids, o.max_new_tokens, sampling});
    sequences.back().sampling.seed += sequences.size() - 1;
  }
  GpuTraceOutput trace(o.gpu_trace, model.device(), existing);
  const decode::BatchOptions options{.n_rows = n_rows,
                                     .stops = [&](int32_t id) { return tokenizer.ends_generation(id); },
                                     .trace = trace.session()};
  const bool streams = questions.size() == 1 && o.out.empty() && o.data.empty();
  const std::unique_ptr<Answers> answers = streams ? std::unique_ptr<Answers>(new Streamed(tokenizer))
                                                   : std::make_unique<Lines>(o, questions, tokenizer);
  decode::BatchCallbacks callbacks;
  callbacks.token = [&](int question, int32_t id, float) { answers->token(question, id); };
  callbacks.finished = [&](int question) { answers->finished(question); };
  const auto start = std::chrono::steady_clock::now();
  const decode::BatchResult result = decode::decode_batch(model, policy, sequences, options, callbacks);
  const double seconds = seconds_since(start);
  answers->end();
  if (o.stats)
    print_stats(questions, policy, result, result.prefill_seconds, seconds - result.prefill_seconds);
  trace.finish();
  if (!counters.empty())
    count_step(counters, o.made.seed, model, policy, n_rows, longest_made(questions, result));
  return 0;
}

}  // namespace deltacal::tools
