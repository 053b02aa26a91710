#include "evaluations.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <limits>
#include <mutex>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/progress.h"
#include "core/provenance.h"
#include "decode/decoder.h"
#include "decode/device_info.h"
#include "decode/kv_cache.h"
#include "decode/policy.h"
#include "evaluate/evaluate.h"
#include "inputs.h"
#include "side_by_side.h"

namespace deltacal::tools {
namespace {

using Json = nlohmann::ordered_json;
constexpr int most_together =
    12;  // schedules that go through a sample together, each with a cache of its own
constexpr double cache_bytes_most = 8e9;  // on the CPU, of all that run at the same time

// Of the first n; a NaN among them is kept.
double mean(const std::vector<float>& values, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += values[i];
  return sum / double(n);
}

}  // namespace

std::string key_of(const config::Schedule& schedule) {
  std::string key = fmt::format("b{:g}", schedule.position_bias);
  if (schedule.refresh_interval > 1) key += fmt::format(" r{}", schedule.refresh_interval);
  if (schedule.refresh)
    key += fmt::format(" q{}/{}", schedule.refresh->threshold, schedule.refresh->max_interval);
  for (const auto& layer : schedule.layers) {
    if (layer.role == config::Role::full) key += " F";
    if (layer.role == config::Role::delta && !config::keeps_lists(schedule))
      key += fmt::format(" D/{}", layer.l_pages);
    if (layer.role == config::Role::delta && config::keeps_lists(schedule))  // it attends to its list
      key += fmt::format(" D{}/{}", layer.k_pages, layer.l_pages);
    if (layer.role == config::Role::sparse) key += fmt::format(" s{}", layer.k_pages);
  }
  if (schedule.page_score != PageScore::sum) key += " " + name_of(schedule.page_score);
  return key;
}

// The file of finished runs: a line of what it is for, then a line a run. A line that a killed run left half
// is cut.
struct Evaluations::File {
  std::string path;
  int descriptor = -1;

  File(std::string path_, const model::Model& model, std::map<Key, SampleLoss>& known)
      : path(std::move(path_)) {
    Json head{{"format", "deltacal-evaluations"},       {"schema_version", 1},
              {"tool_version", tool_version},           {"model_sha256", model.info().sha256},
              {"dtype", model::name_of(model.dtype())}, {"chunk", decode::replay_chunk(model.device())}};
    if (model.device() == model::Device::cuda) head["device"] = model::name_of(model.device());
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
      if (in.eof()) {  // no newline: half a line, of ours or of another file
        if (number == 1 && !line.empty() && !head.dump().starts_with(line)) refuse();
        break;
      }
      const Json entry = Json::parse(line, nullptr, false);
      if (number == 1 && entry != head) refuse();
      if (number > 1) {
        try {
          known[{entry.at("schedule"), entry.at("sample"), entry.at("n_prompt_tokens")}] = {
              entry.at("nll_gap"), entry.at("kl"), entry.at("seconds"),
              entry.value("attended_share", std::nan(""))};
        } catch (const Json::exception&) {
          throw bad_input("{}, line {}: no finished run: remove the line, or give another --evaluations",
                          path, number);
        }
      }
      whole += static_cast<long long>(line.size()) + 1;
    }
    return whole;
  }

  [[noreturn]] void refuse() const {
    throw bad_input(
        "{} holds runs of another model, device, dtype or version, or is another kind of file: give another "
        "--evaluations",
        path);
  }

  void append(const Json& entry) const {
    const std::string line = entry.dump() + "\n";
    if (::write(descriptor, line.data(), line.size()) != static_cast<ssize_t>(line.size()))
      throw failure("cannot write {}: {}", path, std::strerror(errno));
  }
};

Evaluations::Evaluations(const model::Model& model, std::vector<text::TokenizedSample> samples,
                         std::string path)
    : model_(model),
      samples_(std::move(samples)),
      file_(std::make_unique<File>(std::move(path), model, known_)),
      batch_size_(batch_size()) {}
Evaluations::~Evaluations() = default;

std::vector<std::vector<SampleLoss>> Evaluations::measure(std::span<const config::Schedule> schedules,
                                                          int first, int n) {
  std::vector<std::string> keys;
  for (const auto& s : schedules) keys.push_back(key_of(s));
  std::vector<std::pair<int, std::vector<config::Schedule>>> jobs;  // sample, schedules to run on it
  const auto batch = size_t(batch_size_);
  for (int i = first; i < first + n; ++i) {
    std::map<std::string, config::Schedule> missing;  // sorted: equal beginnings side by side
    for (size_t s = 0; s < schedules.size(); ++s)
      if (!known_.contains(key(keys[s], i))) missing.emplace(keys[s], schedules[s]);
    for (auto& [text, schedule] : missing) {
      if (jobs.empty() || jobs.back().first != i || jobs.back().second.size() == batch)
        jobs.push_back({i, {}});
      jobs.back().second.push_back(std::move(schedule));
    }
  }
  if (!jobs.empty()) run(jobs);

  std::vector<std::vector<SampleLoss>> out(schedules.size());
  for (size_t s = 0; s < schedules.size(); ++s)
    for (int i = first; i < first + n; ++i) {
      out[s].push_back(known_.at(key(keys[s], i)));
      seconds_asked_ += out[s].back().seconds;
    }
  return out;
}

decode::PrefillNeed Evaluations::need_of(int n_schedules) const {
  return evaluate::device_need(model_.description(), n_schedules, longest_tokens(samples_));
}

// On a CUDA device so many schedules as fit into its memory. On the CPU so many that the caches of all
// samples that run side by side stay within the limit; at least one.
int Evaluations::batch_size() const {
  if (model_.device() == model::Device::cuda) {
    const int most_at_once = int(most_workers(std::numeric_limits<size_t>::max(), model_.device()));
    return decode::pieces_that_fit(
               most_at_once, most_together, decode::device_info().free_bytes,
               [&](int n) { return decode::prefill_memory(model_.description(), need_of(n)); })
        .size;
  }
  const size_t n_workers = most_workers(samples_.size(), model_.device());
  const double cache = double(longest_tokens(samples_)) *
                       double(decode::KvCache::bytes_per_position(model_.info(), model_.dtype()));
  const double room = cache_bytes_most / (cache * double(n_workers)) - 1;  // one is full attention's
  return room < 1 ? 1 : std::min(most_together, static_cast<int>(room));
}

void Evaluations::run(const std::vector<std::pair<int, std::vector<config::Schedule>>>& jobs) {
  double n_tokens = 0;
  for (const auto& [sample, schedules] : jobs)
    n_tokens += double(samples_[sample].ids.size()) * double(schedules.size());
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
    const auto start = std::chrono::steady_clock::now();
    const auto scores =
        evaluate::evaluate(model_, of.ids, of.n_prompt_tokens, policies, {.recall_steps = 0}, advance);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    const size_t n_steps = scores.nll_full.size(), n_scored = n_steps - 1;  // the last step has no next token
    const double full = mean(scores.nll_full, n_scored);
    const std::lock_guard lock(mutex);
    for (size_t i = 0; i < schedules.size(); ++i) {
      const SampleLoss loss{mean(scores.policies[i].nll, n_scored) - full,
                            mean(scores.policies[i].kl, n_steps), seconds.count() / double(schedules.size()),
                            double(scores.policies[i].attended) / double(scores.positions)};
      if (!std::isfinite(loss.nll_gap) || !std::isfinite(loss.kl))
        throw failure(
            "sample {}: the loss under {} is {}: the model's arithmetic overflowed. Try --device cpu --dtype "
            "f32.",
            of.id, config::describe(schedules[i]), loss.nll_gap);
      file_->append({{"schedule", key_of(schedules[i])},
                     {"sample", of.sha256},
                     {"n_prompt_tokens", of.n_prompt_tokens},
                     {"id", of.id},
                     {"nll_gap", loss.nll_gap},
                     {"kl", loss.kl},
                     {"seconds", loss.seconds},
                     {"attended_share", loss.attended_share}});
      known_[key(key_of(schedules[i]), sample)] = loss;
      ++n_run_;
    }
  };
  size_t most = 0;  // schedules of a job
  for (const auto& job : jobs) most = std::max(most, job.second.size());
  side_by_side(jobs.size(), workers_for(jobs.size(), model_, need_of(int(most))),
               [&](size_t i) { run_one(jobs[i].first, jobs[i].second); });
}

}  // namespace deltacal::tools
