// All stages in one folder. A stage whose output is there is skipped; the folder remembers what it was made with.
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "calib/split.h"
#include "core/error.h"
#include "core/hash.h"
#include "inputs.h"

namespace deltacal::tools {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// The folder's files, in the order in which they are made.
struct Files {
  fs::path dir;
  std::string operator()(const char* name) const { return (dir / name).string(); }
  static constexpr const char* all[] = {"run.json",           "calibration.jsonl", "validation.jsonl", "trace.h5",
                                        "analysis.json",      "delta_config.json", "validation.json",  "report.html",
                                        "report.md",          "trace.h5.partial",  "alternatives"};
};

// What the folder's content follows from.
Json recipe_of(const RunOptions& o, const Inputs& in) {
  Json recipe{{"model_sha256", in.header.description.info.sha256},
              {"dtype", model::name_of(in.dtype)},
              {"data_sha256", in.data.sha256},
              {"chat", in.chat},
              {"limit", o.limit},
              {"max_tokens", o.max_tokens},
              {"min_tokens", o.min_tokens},
              {"steps", o.steps},
              {"k_pages", o.k_pages},
              {"l_pages", o.l_pages},
              {"budget", o.min_recall ? Json(nullptr) : Json(o.budget)},
              {"min_recall", o.min_recall ? Json(*o.min_recall) : Json(nullptr)},
              {"baselines", o.baselines},
              {"max_nll_gap", o.max_nll_gap ? Json(*o.max_nll_gap) : Json(nullptr)},
              {"min_attended_ratio", o.min_attended_ratio ? Json(*o.min_attended_ratio) : Json(nullptr)},
              {"validation_share", o.validation_share},
              {"resamples", o.resamples},
              {"seed", o.made.seed},
              {"tool_version", tool_version}};
  return recipe;
}

// Makes the folder, or checks that what it holds was made the same way.
void open_folder(const RunOptions& o, const Files& files, const Json& recipe) {
  if (fs::exists(files.dir) && !fs::is_directory(files.dir)) throw bad_input("--out-dir {}: that is a file", o.out_dir);
  if (o.force)
    for (const char* name : Files::all) fs::remove_all(files.dir / name);
  std::error_code error;
  fs::create_directories(files.dir, error);
  if (error) throw failure("cannot make the folder {}: {}", o.out_dir, error.message());
  if (!fs::exists(files("run.json"))) {
    for (const char* name : Files::all)
      if (fs::exists(files.dir / name))
        throw bad_input("{} holds {} but no run.json, so it is no folder of `deltacal run`: give another --out-dir, or --force to replace it",
                        o.out_dir, name);
    Json json = artefact_head("deltacal-run", 1, o.made);
    json["recipe"] = recipe;
    write_file_atomically(files("run.json"), json.dump(2) + "\n", Existing::refuse);
    return;
  }
  const Json held = read_artefact(files("run.json"), "deltacal-run", 1);
  for (const auto& [key, value] : recipe.items())
    if (!held.contains("recipe") || held["recipe"].value(key, Json()) != value)
      throw bad_input("{} was made with {} = {}, now it is {}: give another --out-dir, or --force to start again", o.out_dir,
                      key, held.contains("recipe") ? held["recipe"].value(key, Json()).dump() : "?", value.dump());
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

// calibration.jsonl and validation.jsonl: the lines of the data file, every problem on one side.
void split(const RunOptions& o, const Files& files, const Inputs& in) {
  std::vector<calib::SplitSample> samples;
  for (const auto& s : in.data.samples) samples.push_back({s.task, s.problem, s.sha256});
  const calib::Split parts = calib::split_by_problem(samples, o.validation_share, o.made.seed);
  const auto lines = lines_by_id(o.data);
  const auto write = [&](const char* name, const std::vector<int>& members) {
    std::string text;
    for (const int i : members) text += lines.at(in.data.samples[i].id) + "\n";
    write_file_atomically(files(name), text, Existing::replace);
  };
  write("calibration.jsonl", parts.calibration);
  write("validation.jsonl", parts.validation);
}

// A command line that does one stage by itself.
class Stage {
 public:
  Stage(const RunOptions& o, std::string command) : o_(o), command_("deltacal " + std::move(command)) {}
  Stage& arg(const std::string& name, const std::string& value) {
    const bool plain = value.find_first_of(" '\"$\\*?;&|<>()`") == std::string::npos;
    command_ += " " + name + " " + (plain ? value : "'" + value + "'");
    return *this;
  }
  Stage& seed() { return arg("--seed", std::to_string(o_.made.seed)); }
  Stage& model() {
    arg("--model", o_.model).arg("--dtype", o_.dtype);
    return o_.threads ? arg("--threads", std::to_string(o_.threads)) : *this;
  }
  Stage& data(const std::string& path) {
    arg("--data", path).arg("--chat", o_.chat);
    return o_.max_tokens ? arg("--max-tokens", std::to_string(o_.max_tokens)) : *this;
  }
  Provenance made() const { return {command_, o_.made.seed}; }

 private:
  const RunOptions& o_;
  std::string command_;
};

std::string joined(const std::vector<int>& values) { return fmt::format("{}", fmt::join(values, ",")); }

ProfileOptions profile_options(const RunOptions& o, const Files& files) {
  ProfileOptions p;
  static_cast<ModelOptions&>(p) = o;
  p.chat = o.chat;
  p.data = files("calibration.jsonl");
  p.max_tokens = o.max_tokens;
  p.out = files("trace.h5");
  p.steps = o.steps;
  p.resume = fs::exists(files("trace.h5.partial"));
  p.made = Stage(o, "profile").model().data(p.data).arg("--steps", o.steps).arg("--out", p.out).seed().made();
  return p;
}

AnalyzeOptions analyze_options(const RunOptions& o, const Files& files) {
  AnalyzeOptions a;
  static_cast<GridOptions&>(a) = o;
  a.trace = files("trace.h5");
  a.out = files("analysis.json");
  a.resamples = o.resamples;
  a.made = Stage(o, "analyze " + a.trace).arg("--k-pages", joined(o.k_pages)).arg("--l-pages", joined(o.l_pages)).arg("--out", a.out).seed().made();
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
  c.alternatives_dir = o.baselines.empty() ? "" : files("alternatives");
  Stage stage(o, "calibrate " + c.trace);
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
  v.out = files("validation.json");
  v.resamples = o.resamples;
  v.max_nll_gap = o.max_nll_gap;
  v.min_attended_ratio = o.min_attended_ratio;
  Stage stage(o, "validate");
  stage.model().data(v.data);
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

void make_report(const RunOptions& o, const Files& files, const char* name, const char* format) {
  ReportOptions r;
  r.files = {files("analysis.json"), files("delta_config.json"), files("validation.json")};
  r.format = format;
  r.out = files(name);
  (void)o;
  unless_done(r.out, [&] { report(r); });
}

std::string interval(const Json& estimate) {
  if (estimate.value("low", Json()).is_null()) return fmt::format("{:.4f} (no interval)", estimate["mean"].get<double>());
  return fmt::format("{:.4f} ({:.4f} to {:.4f})", estimate["mean"].get<double>(), estimate["low"].get<double>(), estimate["high"].get<double>());
}

// What the folder holds, for people; the exit status of the verdict.
int summarise(const Files& files) {
  const Json validation = read_artefact(files("validation.json"), "deltacal-validation", 1);
  fmt::print("\n{}\nschedule  {}\n\n", validation["model"]["name"].get<std::string>(), validation["config"]["schedule"].get<std::string>());
  fmt::print("{:<20} {:>14}  {}\n", "on held-out traces", "attended ratio", "NLL gap, nats a token (95% interval)");
  for (const auto& policy : validation["policies"]) {
    const Json& gap = policy["active"]["nll_gap"];
    if (policy["name"] == "full" || gap["mean"].is_null()) continue;
    fmt::print("{:<20} {:>14.2f}  {}\n", policy["name"].get<std::string>(), policy["attended_ratio"].get<double>(), interval(gap));
  }
  const Json& passed = validation["verdict"]["passed"];
  if (!passed.is_null()) fmt::print("\nverdict   {}\n", passed.get<bool>() ? "passed" : "not passed: see the report");
  fmt::print("\nconfig    {}\nreport    {}\n", files("delta_config.json"), files("report.html"));
  return passed.is_null() || passed.get<bool>() ? 0 : static_cast<int>(Status::not_met);
}

}  // namespace

int run(const RunOptions& o) {
  const Files files{fs::path(o.out_dir)};
  const Inputs in = read_inputs(o, o);
  if (o.dry_run) {
    fmt::print("would split {} samples of {} by problem, then profile, analyze, calibrate, validate and report into {}\n",
               in.data.samples.size(), o.data, o.out_dir);
    return 0;
  }
  open_folder(o, files, recipe_of(o, in));
  unless_done(files("validation.jsonl"), [&] { split(o, files, in); });
  unless_done(files("trace.h5"), [&] { profile(profile_options(o, files)); });
  unless_done(files("analysis.json"), [&] { analyze(analyze_options(o, files)); });
  unless_done(files("delta_config.json"), [&] { calibrate(calibrate_options(o, files)); });
  unless_done(files("validation.json"), [&] { validate(validate_options(o, files)); });
  make_report(o, files, "report.html", "html");
  make_report(o, files, "report.md", "md");
  return summarise(files);
}

}  // namespace deltacal::tools
