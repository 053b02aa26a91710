// All stages in one folder. A stage whose output is there is skipped; the folder remembers what it was made
// with.
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "calib/budget.h"
#include "calib/recall.h"
#include "calib/split.h"
#include "core/error.h"
#include "decode/kv_cache.h"
#include "evaluate/evaluate.h"
#include "inputs.h"
#include "record/record.h"
#include "shell.h"

namespace deltacal::tools {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// The folder's files, in the order in which they are made.
struct Files {
  fs::path dir;
  std::string operator()(const char* name) const { return (dir / name).string(); }
  static constexpr const char* all[] = {"run.json",         "calibration.jsonl", "validation.jsonl",
                                        "trace.h5",         "analysis.json",     "delta_config.json",
                                        "validation.json",  "report.html",       "report.md",
                                        "trace.h5.partial", "alternatives"};
};

// What the folder's content follows from, by the stage that first depends on it.
Json recipe_of(const RunOptions& o, const Inputs& in) {
  const auto or_null = [](const std::optional<double>& value) {
    return value ? Json(*value) : Json(nullptr);
  };
  return {{"trace",
           {{"model_sha256", in.header.description.info.sha256},
            {"dtype", model::name_of(in.dtype)},
            {"data_sha256", in.data.sha256},
            {"chat", in.chat},
            {"limit", o.limit},
            {"max_tokens", o.max_tokens},
            {"min_tokens", o.min_tokens},
            {"pack", o.pack > 0 ? Json(o.pack) : Json(nullptr)},
            {"validation_share", o.validation_share},
            {"seed", o.made.seed},
            {"steps", o.steps},
            {"objective", o.objective},
            // The predicted KL is recorded for the grid itself; page maps serve any.
            {"grid", o.objective == "kl" ? Json{o.k_pages, o.l_pages} : Json(nullptr)},
            {"tool_version", tool_version}}},
          {"calibration",
           {{"k_pages", o.k_pages},
            {"l_pages", o.l_pages},
            {"budget", o.min_recall ? Json(nullptr) : Json(o.budget)},
            {"min_recall", or_null(o.min_recall)},
            {"baselines", o.baselines},
            {"resamples", o.resamples}}},
          {"validation",
           {{"max_nll_gap", or_null(o.max_nll_gap)}, {"min_attended_ratio", or_null(o.min_attended_ratio)}}}};
}

// The files that `run` would read are not among those it may remove.
void refuse_own_inputs(const RunOptions& o, const Files& files) {
  for (const std::string& input : {o.data, o.model})
    for (const char* name : Files::all) {
      std::error_code ignored;
      if (fs::equivalent(files.dir / name, input, ignored))
        throw bad_input("{} is a file that `deltacal run` makes in {}: give another --out-dir", input,
                        o.out_dir);
    }
}

void write_recipe(const RunOptions& o, const Files& files, const Json& recipe) {
  Json json = artefact_head("deltacal-run", 1, o.made);
  json["recipe"] = recipe;
  write_file_atomically(files("run.json"), json.dump(2) + "\n", Existing::replace);
}

// Keeps what a changed recipe does not touch: other samples or steps are another experiment and are refused,
// another budget or threshold makes the stages from there on anew.
void follow_recipe(const RunOptions& o, const Files& files, const Json& held, const Json& recipe) {
  const auto changed = [&](const char* stage) -> std::string {
    for (const auto& [key, value] : recipe[stage].items()) {
      const Json before = held.value(stage, Json::object()).value(key, Json());
      if (before != value) return fmt::format("{} = {}, now it is {}", key, before.dump(), value.dump());
    }
    return "";
  };
  if (const std::string what = changed("trace"); !what.empty())
    throw bad_input("{} was made with {}: give another --out-dir, or --force to start again", o.out_dir,
                    what);
  const auto discard = [&](std::initializer_list<const char*> names, const std::string& what) {
    fmt::print(stderr, "{} was made with {}: made anew from there\n", o.out_dir, what);
    for (const char* name : names) fs::remove_all(files.dir / name);
  };
  if (const std::string what = changed("calibration"); !what.empty())
    discard(
        {"analysis.json", "delta_config.json", "alternatives", "validation.json", "report.html", "report.md"},
        what);
  else if (const std::string threshold = changed("validation"); !threshold.empty())
    discard({"validation.json", "report.html", "report.md"}, threshold);
  if (held != recipe) write_recipe(o, files, recipe);
}

// Makes the folder, or takes up what it holds.
void open_folder(const RunOptions& o, const Files& files, const Json& recipe) {
  if (fs::exists(files.dir) && !fs::is_directory(files.dir))
    throw bad_input("--out-dir {}: that is a file", o.out_dir);
  refuse_own_inputs(o, files);
  std::error_code error;
  fs::create_directories(files.dir, error);
  if (error) throw failure("cannot make the folder {}: {}", o.out_dir, error.message());
  if (!fs::exists(files("run.json"))) {
    for (const char* name : Files::all)
      if (fs::exists(files.dir / name))
        throw bad_input(
            "{} holds {} but no run.json, so it is no folder of `deltacal run`: give another --out-dir",
            o.out_dir, name);
    write_recipe(o, files, recipe);
    return;
  }
  const Json held = read_artefact(files("run.json"), "deltacal-run", 1);
  if (o.force) {
    for (const char* name : Files::all) fs::remove_all(files.dir / name);
    write_recipe(o, files, recipe);
  } else {
    follow_recipe(o, files, held.value("recipe", Json::object()), recipe);
  }
}

// The raw line of each sample of a data file, by its id.
std::map<std::string, std::string> lines_by_id(const std::string& path) {
  std::map<std::string, std::string> lines;
  const auto samples = text::read_jsonl(path);
  const std::string content = read_file(path);
  size_t next = 0;
  for (size_t begin = 0; begin < content.size();) {
    const size_t end = std::min(content.find('\n', begin), content.size());
    std::string line = content.substr(begin, end - begin);
    begin = end + 1;
    if (line.find_first_not_of(" \t\r\xef\xbb\xbf") == std::string::npos) continue;
    lines[samples.at(next++).id] = std::move(line);
  }
  return lines;
}

calib::Split parts_of(const RunOptions& o, const Inputs& in) {
  std::vector<calib::SplitSample> samples;
  for (const auto& s : in.data.samples) samples.push_back(to_split(s));
  return calib::split_by_problem(samples, o.validation_share, o.made.seed);
}

// calibration.jsonl and validation.jsonl: the lines of the data file, every problem on one side. The lines of
// a packed sample follow each other, so that packing them again gives the same samples.
void split(const RunOptions& o, const Files& files, const Inputs& in, const calib::Split& parts) {
  const auto lines = lines_by_id(o.data);
  const auto write = [&](const char* name, const std::vector<int>& members) {
    std::string content;
    for (const int i : members) {
      const text::TokenizedSample& sample = in.data.samples[i];
      if (sample.parts.empty()) content += lines.at(sample.id) + "\n";
      for (const text::Part& part : sample.parts) content += lines.at(part.id) + "\n";
    }
    write_file_atomically(files(name), content, Existing::replace);
  };
  write("calibration.jsonl", parts.calibration);
  write("validation.jsonl", parts.validation);
}

// A command line that does one stage by itself.
class Stage {
 public:
  Stage(const RunOptions& o, std::string command) : o_(o), command_("deltacal " + std::move(command)) {}
  Stage& word(const std::string& value) {
    command_ += " " + shell_word(value);
    return *this;
  }
  Stage& arg(const std::string& name, const std::string& value) { return word(name).word(value); }
  Stage& resamples() { return arg("--resamples", std::to_string(o_.resamples)); }
  Stage& seed() { return arg("--seed", std::to_string(o_.made.seed)); }
  Stage& model() {
    arg("--model", o_.model).arg("--dtype", o_.dtype);
    return o_.threads ? arg("--threads", std::to_string(o_.threads)) : *this;
  }
  Stage& data(const std::string& path) {
    arg("--data", path).arg("--chat", o_.chat);
    if (o_.pack) arg("--pack", std::to_string(o_.pack));
    return o_.max_tokens ? arg("--max-tokens", std::to_string(o_.max_tokens)) : *this;
  }
  Provenance made() const { return {command_, o_.made.seed}; }

 private:
  const RunOptions& o_;
  std::string command_;
};

std::string joined(const std::vector<int>& values) {
  return fmt::format("{}", fmt::join(values, ","));
}

ProfileOptions profile_options(const RunOptions& o, const Files& files) {
  ProfileOptions p;
  static_cast<ModelOptions&>(p) = o;
  p.chat = o.chat;
  p.data = files("calibration.jsonl");
  p.max_tokens = o.max_tokens;
  p.pack = o.pack;
  p.out = files("trace.h5");
  p.steps = o.steps;
  p.resume = fs::exists(files("trace.h5.partial"));
  Stage stage(o, "profile");
  stage.model().data(p.data).arg("--steps", o.steps);
  if (o.objective == "kl") {
    p.sensitivity = true;
    static_cast<GridOptions&>(p) = o;
    stage.word("--sensitivity").arg("--k-pages", joined(o.k_pages)).arg("--l-pages", joined(o.l_pages));
  }
  p.made = stage.arg("--out", p.out).seed().made();
  return p;
}

AnalyzeOptions analyze_options(const RunOptions& o, const Files& files) {
  AnalyzeOptions a;
  static_cast<GridOptions&>(a) = o;
  a.trace = files("trace.h5");
  a.out = files("analysis.json");
  a.resamples = o.resamples;
  a.made = Stage(o, "analyze")
               .word(a.trace)
               .resamples()
               .arg("--k-pages", joined(o.k_pages))
               .arg("--l-pages", joined(o.l_pages))
               .arg("--out", a.out)
               .seed()
               .made();
  return a;
}

CalibrateOptions calibrate_options(const RunOptions& o, const Files& files) {
  CalibrateOptions c;
  static_cast<GridOptions&>(c) = o;
  c.trace = files("trace.h5");
  c.out = files("delta_config.json");
  c.resamples = o.resamples;
  c.budget = o.min_recall ? "" : o.budget;
  c.min_recall = o.min_recall;
  c.objective = o.objective;
  c.alternatives_dir = o.baselines.empty() ? "" : files("alternatives");
  Stage stage(o, "calibrate");
  stage.word(c.trace).arg("--objective", c.objective).resamples();
  if (o.min_recall) {
    stage.arg("--min-recall", fmt::format("{}", *o.min_recall));
  } else {
    stage.arg("--budget", o.budget);
  }
  stage.arg("--k-pages", joined(o.k_pages)).arg("--l-pages", joined(o.l_pages)).arg("--out", c.out);
  if (!c.alternatives_dir.empty()) stage.arg("--alternatives-dir", c.alternatives_dir);
  c.made = stage.seed().made();
  return c;
}

ValidateOptions validate_options(const RunOptions& o, const Files& files) {
  ValidateOptions v;
  static_cast<ModelOptions&>(v) = o;
  v.chat = o.chat;
  v.data = files("validation.jsonl");
  v.max_tokens = o.max_tokens;
  v.pack = o.pack;
  v.out = files("validation.json");
  v.resamples = o.resamples;
  v.max_nll_gap = o.max_nll_gap;
  v.min_attended_ratio = o.min_attended_ratio;
  Stage stage(o, "validate");
  stage.model().data(v.data).resamples();
  v.configs = {files("delta_config.json")};
  stage.arg("--config", v.configs[0]);
  for (const auto& method : o.baselines) {
    const std::string path = (files.dir / "alternatives" / (method + ".json")).string();
    if (!fs::exists(path)) continue;  // calibrate said why that method has no schedule
    v.configs.push_back(method + "=" + path);
    stage.arg("--config", v.configs.back());
  }
  if (o.max_nll_gap) stage.arg("--max-nll-gap", fmt::format("{}", *o.max_nll_gap));
  if (o.min_attended_ratio) stage.arg("--min-attended-ratio", fmt::format("{}", *o.min_attended_ratio));
  v.made = stage.arg("--out", v.out).seed().made();
  return v;
}

// Runs a stage unless its output is there.
template <class Work>
void unless_done(const std::string& output, Work work) {
  if (fs::exists(output)) {
    fmt::print("{}: there already, skipped\n", output);
    std::fflush(stdout);
  } else {
    work();
  }
}

void make_report(const Files& files, const char* name, const char* format) {
  ReportOptions r;
  r.files = {files("analysis.json"), files("delta_config.json"), files("validation.json")};
  r.format = format;
  r.out = files(name);
  unless_done(r.out, [&] { report(r); });
}

std::string interval(const Json& estimate) {
  if (estimate.value("low", Json()).is_null())
    return fmt::format("{:.4f} (no interval)", estimate["mean"].get<double>());
  return fmt::format("{:.4f} ({:.4f} to {:.4f})", estimate["mean"].get<double>(),
                     estimate["low"].get<double>(), estimate["high"].get<double>());
}

// What the folder holds, for people; the exit status of the verdict.
int summarise(const Files& files) {
  const Json validation = read_artefact(files("validation.json"), "deltacal-validation", 1);
  fmt::print("\n{}\nschedule  {}\n\n", validation["model"]["name"].get<std::string>(),
             validation["config"]["schedule"].get<std::string>());
  fmt::print("{:<20} {:>14}  {}\n", "on held-out traces", "attended ratio",
             "NLL gap, nats a token (95% interval)");
  for (const auto& policy : validation["policies"]) {
    const Json& gap = policy["active"]["nll_gap"];
    if (policy["name"] == "full") continue;
    if (gap["mean"].is_null()) {
      fmt::print("{:<20} {:>14.2f}  no active step: no sample sees more pages than the smallest k\n",
                 policy["name"].get<std::string>(), policy["attended_ratio"].get<double>());
      continue;
    }
    fmt::print("{:<20} {:>14.2f}  {}\n", policy["name"].get<std::string>(),
               policy["attended_ratio"].get<double>(), interval(gap));
  }
  const Json& passed = validation["verdict"]["passed"];
  if (!passed.is_null())
    fmt::print("\nverdict   {}\n", passed.get<bool>() ? "passed" : "not passed: see the report");
  fmt::print("\nconfig    {}\nreport    {}\n", files("delta_config.json"), files("report.html"));
  return passed.is_null() || passed.get<bool>() ? 0 : static_cast<int>(Status::not_met);
}

// Everything that could be refused later, before anything is made.
void check_options(const RunOptions& o) {
  calib::check(calib::Grid{o.k_pages, o.l_pages});
  record::parse_steps(o.steps);
  if (o.min_recall) {
    calib::min_recall_goal(*o.min_recall);
  } else {
    if (calib::parse_budget(o.budget).kind == calib::Goal::Kind::ms)
      throw bad_input(
          "--budget {}: a budget in milliseconds needs a cost table: run the stages one by one, calibrate "
          "with --cost",
          o.budget);
  }
  if (std::count(o.baselines.begin(), o.baselines.end(), "none") > 0 && o.baselines.size() > 1)
    throw bad_input("--baselines none: it cannot be given with others");
}

std::vector<int> lengths_of(const Inputs& in, const std::vector<int>& members) {
  std::vector<int> out;
  for (const int i : members) out.push_back(static_cast<int>(in.data.samples[i].ids.size()));
  return out;
}

// What its stages take of a CUDA device's memory.
decode::PrefillNeed need_of_profile(const RunOptions& o, const Inputs& in, const calib::Split& parts) {
  record::RecordOptions options;
  if (o.objective == "kl")
    options.sensitivity = sensitivity::Options{{}, {ProfileOptions{}.draws, o.made.seed}};
  return record::device_need(in.header.description, std::ranges::max(lengths_of(in, parts.calibration)),
                             options);
}
decode::PrefillNeed need_of_validate(const RunOptions& o, const Inputs& in, const calib::Split& parts) {
  const int n_policies = 2 + int(o.baselines.size());  // delta, streaming
  return evaluate::device_need(in.header.description, n_policies,
                               std::ranges::max(lengths_of(in, parts.validation)));
}

// Before a trace is made, also of what comes hours later.
void check_stages(const RunOptions& o, const Inputs& in, const calib::Split& parts) {
  check_device_memory("run: profile", in, need_of_profile(o, in, parts));
  check_device_memory(fmt::format("run: validate with {} baselines", o.baselines.size()), in,
                      need_of_validate(o, in, parts));
}

void print_plan(const RunOptions& o, const Inputs& in, const calib::Split& parts) {
  const model::Description& d = in.header.description;
  const double policies = 3.0 + double(o.baselines.size());  // full, delta, streaming
  const double flops =
      // The sensitivity pass runs forward twice and backward once.
      (o.objective == "kl" ? 4 : 1) * forward_flops(d, lengths_of(in, parts.calibration)) +
      policies * forward_flops(d, lengths_of(in, parts.validation));
  const double caches = 1e-9 * policies * std::ranges::max(lengths_of(in, parts.validation)) *
                        double(decode::KvCache::bytes_per_position(d.info, in.dtype));
  fmt::print("would calibrate on {} samples and validate on {}, into {}\n", parts.calibration.size(),
             parts.validation.size(), o.out_dir);
  fmt::print("memory about {:.1f} GB\n", weight_gigabytes(d, in.dtype) + caches + 1);
  print_device_memory(" of profile", in, need_of_profile(o, in, parts));
  print_device_memory(" of validate, for one sample,", in, need_of_validate(o, in, parts));
  if (in.device == model::Device::cpu)
    fmt::print("time at least {:.0f} s\n", flops / model::measure_linear_rate(in.dtype));
}

}  // namespace

int run(const RunOptions& given) {
  RunOptions o = given;
  check_options(o);
  if (o.baselines == std::vector<std::string>{"none"}) o.baselines.clear();
  const Files files{fs::path(o.out_dir)};
  const Inputs in = read_inputs(o, o);
  const calib::Split parts = parts_of(o, in);
  if (o.dry_run) {
    print_plan(o, in, parts);
    return 0;
  }
  if (o.force || !fs::exists(files("trace.h5"))) check_stages(o, in, parts);
  open_folder(o, files, recipe_of(o, in));
  unless_done(files("validation.jsonl"), [&] { split(o, files, in, parts); });
  unless_done(files("trace.h5"), [&] { profile(profile_options(o, files)); });
  unless_done(files("analysis.json"), [&] { analyze(analyze_options(o, files)); });
  unless_done(files("delta_config.json"), [&] { calibrate(calibrate_options(o, files)); });
  unless_done(files("validation.json"), [&] { validate(validate_options(o, files)); });
  make_report(files, "report.html", "html");
  make_report(files, "report.md", "md");
  return summarise(files);
}

}  // namespace deltacal::tools
