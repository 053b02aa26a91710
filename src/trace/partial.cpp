#include "trace/partial.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "core/error.h"
#include "trace/layout.h"

namespace deltacal::trace {
namespace fs = std::filesystem;
namespace {

constexpr const char* plan_format = "deltacal-trace-plan";
constexpr int plan_version = 1;

nlohmann::ordered_json to_json(const ModelInfo& model) {
  return {
      {"name", model.name},         {"architecture", model.architecture}, {"sha256", model.sha256},
      {"n_layers", model.n_layers}, {"n_heads", model.n_heads},           {"n_kv_heads", model.n_kv_heads},
      {"head_dim", model.head_dim}, {"page_size", model.page_size},       {"dtype", model.dtype}};
}

// What decides the result: the options, and the model but for its name.
nlohmann::json deciding(const nlohmann::json& plan) {
  nlohmann::json found = {{"model", plan.value("model", nlohmann::json())},
                          {"options", plan.value("options", nlohmann::json())}};
  if (found["model"].is_object()) found["model"].erase("name");
  return found.flatten();  // {"/options/steps": 256, ...}
}

// "options.steps: 128 there, 256 now", for each that differs.
std::vector<std::string> differences(const nlohmann::json& old_plan, const nlohmann::json& new_plan) {
  const nlohmann::json before = deciding(old_plan), now = deciding(new_plan);
  nlohmann::json keys = before;
  keys.update(now);
  std::vector<std::string> found;
  for (const auto& [key, unused] : keys.items()) {
    const std::string was = before.contains(key) ? dump(before[key]) : "not given";
    const std::string is = now.contains(key) ? dump(now[key]) : "not given";
    std::string name = key.substr(1);
    std::replace(name.begin(), name.end(), '/', '.');
    if (was != is) found.push_back(fmt::format("{}: {} there, {} now", name, was, is));
  }
  return found;
}

bool is_sample_file(const fs::path& path) {
  const std::string stem = path.stem().string();
  return path.extension() == ".h5" && stem.size() >= 6 &&
         std::all_of(stem.begin(), stem.end(), [](char c) { return c >= '0' && c <= '9'; });
}

bool is_our_file(const fs::path& path) {
  return is_sample_file(path) || path.extension() == ".tmp" || path.filename() == "plan.json";
}

}  // namespace

std::string dump(const nlohmann::ordered_json& json, int indent) {
  return json.dump(indent, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

FolderLock::~FolderLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void FolderLock::acquire(const std::string& folder) {
  descriptor_ = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor_ < 0) throw failure("cannot open the folder {}: {}", folder, std::strerror(errno));
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 &&
      errno == EWOULDBLOCK)  // some file systems have no locks
    throw bad_input("another run is writing {}: wait for it, or give another name", folder);
}

Partial::Partial(const std::string& output, Writer::Start start, const ModelInfo& model,
                 const Provenance& provenance, const nlohmann::json& options)
    : output_(output), folder_(output + ".partial") {
  plan_ = artefact_head(plan_format, plan_version, provenance);
  plan_["model"] = to_json(model);
  plan_["options"] = options;
  const std::string plan_path = folder_ + "/plan.json";
  std::error_code error;
  const bool begun = fs::exists(plan_path, error);
  if (start == Writer::Start::replace) existing_ = Existing::replace;
  if (begun && start == Writer::Start::resume &&
      read_artefact(plan_path, plan_format, plan_version).value("replaces_output", false))
    existing_ = Existing::replace;
  require_free_output(output_, existing_);
  fs::create_directory(folder_, error);
  if (error || !fs::is_directory(folder_))
    throw bad_input("cannot make the folder {}: {}", folder_, error.message());
  lock_.acquire(folder_);
  if (const size_t n = finished().size(); begun && start == Writer::Start::fresh && n > 0)
    throw bad_input(
        "{} holds {} finished samples of an earlier run: --resume continues it, --force discards it", folder_,
        n);
  if (begun && start == Writer::Start::resume) {
    resume(model);
  } else {
    remove_files();
    write_plan(existing_ == Existing::replace);
  }
}

void Partial::write_plan(bool replaces_output) {
  plan_["replaces_output"] = replaces_output;
  write_file_atomically(folder_ + "/plan.json", dump(plan_, 2) + "\n", Existing::replace);
}

void Partial::resume(const ModelInfo& model) {
  const nlohmann::ordered_json before = read_artefact(folder_ + "/plan.json", plan_format, plan_version);
  if (const auto found = differences(before, plan_); !found.empty())
    throw bad_input(
        "{} was made from something else: {}. Give what was given there, or --force to start anew.", folder_,
        fmt::join(found, "; "));
  plan_ = before;
  for (const auto& entry : fs::directory_iterator(folder_))
    if (entry.path().extension() == ".tmp") fs::remove(entry.path());
  for (const std::string& path : finished()) {
    try {
      const Reader sample(path);
      if (sample.n_samples() == 1 && model_difference(sample.model(), model).empty()) continue;
    } catch (const Error&) {  // damaged: recorded again
    }
    fs::remove(path);
  }
}

std::string Partial::sample_path(int index) const {
  return folder_ + "/" + sample_name(index) + ".h5";
}
std::string Partial::temporary_path(int index) const {
  return sample_path(index) + ".tmp";
}
std::string Partial::joined_path() const {
  return folder_ + "/joined.h5.tmp";
}

std::vector<std::string> Partial::finished() const {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder_))
    if (is_sample_file(entry.path())) found.push_back(entry.path().string());
  std::sort(found.begin(), found.end(), [](const std::string& a, const std::string& b) {
    return a.size() != b.size() ? a.size() < b.size() : a < b;  // 1000000 comes after 999999
  });
  return found;
}

void Partial::publish() {
  require_free_output(output_, existing_);  // somebody else may have made it meanwhile
  write_plan(true);                         // from here on the output may be this run's own
  if (::rename(joined_path().c_str(), output_.c_str()) != 0)
    throw failure("cannot rename {} to {}: {}", joined_path(), output_, std::strerror(errno));
  discard();
}

void Partial::discard() {
  remove_files();
  std::error_code kept;  // where somebody put a file of his own there
  fs::remove(folder_, kept);
}

void Partial::remove_files() {
  std::error_code ignored;
  fs::remove(folder_ + "/plan.json", ignored);
  std::vector<fs::path> ours;
  for (const auto& entry : fs::directory_iterator(folder_))
    if (is_our_file(entry.path())) ours.push_back(entry.path());
  for (const fs::path& path : ours) fs::remove(path, ignored);
}

}  // namespace deltacal::trace
