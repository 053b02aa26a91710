#include "evaluations.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/progress.h"
#include "decode/policy.h"
#include "evaluate/evaluate.h"
#include "side_by_side.h"

namespace deltacal::tools {
namespace {

using Json = nlohmann::ordered_json;
constexpr int batch = 12;  // schedules that go through a sample together, each with a cache of its own

double mean(const std::vector<float>& values) {
  double sum = 0;
  int n = 0;
  for (const float v : values)
    if (!std::isnan(v)) sum += v, ++n;
  return n > 0 ? sum / n : std::nan("");
}

}  // namespace

std::string key_of(const config::Schedule& schedule) {
  std::string key = fmt::format("b{:g}", schedule.position_bias);
  for (const auto& layer : schedule.layers) {
    if (layer.role == config::Role::full) key += " F";
    if (layer.role == config::Role::delta) key += fmt::format(" D/{}", layer.l_pages);
    if (layer.role == config::Role::sparse) key += fmt::format(" s{}", layer.k_pages);
  }
  return key;
}

// The file of finished runs: a line of what it is for, then a line a run. A line that a killed run left half is cut.
struct Evaluations::File {
  std::string path;
  int descriptor = -1;

  File(std::string path_, const model::Model& model, std::map<Key, SampleLoss>& known) : path(std::move(path_)) {
    const Json head{{"format", "deltacal-evaluations"},
                    {"schema_version", 1},
                    {"model_sha256", model.info().sha256},
                    {"dtype", model::name_of(model.dtype())}};
    descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (descriptor < 0) throw failure("cannot open {}: {}", path, std::strerror(errno));
    if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
      ::close(descriptor);
      throw bad_input("{} is in use by another process", path);
    }
    const long long whole = read(head, known);
    if (::ftruncate(descriptor, whole) != 0) throw failure("cannot write {}: {}", path, std::strerror(errno));
    if (whole == 0) append(head);
  }
  ~File() { ::close(descriptor); }

  // Bytes of whole lines.
  long long read(const Json& head, std::map<Key, SampleLoss>& known) const {
    std::ifstream in(path, std::ios::binary);
    std::string line;
    long long whole = 0;
    for (int number = 1; std::getline(in, line); ++number) {
      if (in.eof()) break;  // no newline: half a line
      const Json entry = Json::parse(line, nullptr, false);
      if (number == 1 && entry != head)
        throw bad_input("{} holds runs of another model or dtype, or is another kind of file: give another --evaluations", path);
      if (number > 1) {
        try {
          known[{entry.at("schedule"), entry.at("sample")}] = {entry.at("nll_gap"), entry.at("kl")};
        } catch (const Json::exception&) {
          throw bad_input("{}, line {}: no finished run: remove the line, or give another --evaluations", path, number);
        }
      }
      whole += static_cast<long long>(line.size()) + 1;
    }
    return whole;
  }

  void append(const Json& entry) const {
    const std::string line = entry.dump() + "\n";
    if (::write(descriptor, line.data(), line.size()) != static_cast<ssize_t>(line.size()))
      throw failure("cannot write {}: {}", path, std::strerror(errno));
  }
};

Evaluations::Evaluations(const model::Model& model, std::vector<text::TokenizedSample> samples, std::string path)
    : model_(model), samples_(std::move(samples)), file_(std::make_unique<File>(std::move(path), model, known_)) {}
Evaluations::~Evaluations() = default;

std::vector<std::vector<SampleLoss>> Evaluations::measure(std::span<const config::Schedule> schedules, int first, int n) {
  std::vector<std::string> keys;
  for (const auto& s : schedules) keys.push_back(key_of(s));
  std::vector<std::pair<int, std::vector<config::Schedule>>> jobs;  // sample, schedules to run on it
  for (int i = first; i < first + n; ++i) {
    std::map<std::string, config::Schedule> missing;  // sorted: equal beginnings side by side
    for (size_t s = 0; s < schedules.size(); ++s)
      if (!known_.contains({keys[s], samples_[i].sha256})) missing.emplace(keys[s], schedules[s]);
    for (auto& [key, schedule] : missing) {
      if (jobs.empty() || jobs.back().first != i || jobs.back().second.size() == batch) jobs.push_back({i, {}});
      jobs.back().second.push_back(std::move(schedule));
    }
  }
  if (!jobs.empty()) run(jobs);

  std::vector<std::vector<SampleLoss>> out(schedules.size());
  for (size_t s = 0; s < schedules.size(); ++s)
    for (int i = first; i < first + n; ++i) out[s].push_back(known_.at({keys[s], samples_[i].sha256}));
  return out;
}

void Evaluations::run(const std::vector<std::pair<int, std::vector<config::Schedule>>>& jobs) {
  double n_tokens = 0;
  for (const auto& [sample, schedules] : jobs) n_tokens += double(samples_[sample].ids.size()) * double(schedules.size());
  Progress progress("evaluate", n_tokens, "tokens");
  std::mutex mutex;  // of progress, file and known_

  const auto run_one = [&](int sample, const std::vector<config::Schedule>& schedules) {
    std::vector<evaluate::NamedPolicy> policies;
    for (const auto& s : schedules) policies.push_back({"", decode::delta_policy(s)});
    const text::TokenizedSample& of = samples_[sample];
    const auto advance = [&](int positions) {
      const std::lock_guard lock(mutex);
      progress.advance(double(positions) * double(schedules.size()));
    };
    const auto scores = evaluate::evaluate(model_, of.ids, of.n_prompt_tokens, policies, {512, 0}, advance);
    const double full = mean(scores.nll_full);
    const std::lock_guard lock(mutex);
    for (size_t i = 0; i < schedules.size(); ++i) {
      const SampleLoss loss{mean(scores.policies[i].nll) - full, mean(scores.policies[i].kl)};
      if (!std::isfinite(loss.nll_gap) || !std::isfinite(loss.kl))
        throw failure("sample {}: the loss under {} is {}: the model's arithmetic overflowed. Try --dtype f32.", of.id,
                      config::describe(schedules[i]), loss.nll_gap);
      file_->append({{"schedule", key_of(schedules[i])}, {"sample", of.sha256}, {"id", of.id}, {"nll_gap", loss.nll_gap}, {"kl", loss.kl}});
      known_[{key_of(schedules[i]), of.sha256}] = loss;
      ++n_run_;
    }
  };
  side_by_side(jobs.size(), [&](size_t i) { run_one(jobs[i].first, jobs[i].second); });
}

}  // namespace deltacal::tools
