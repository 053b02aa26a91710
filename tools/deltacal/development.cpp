#include "development.h"

#include <algorithm>
#include <cstdio>
#include <set>

#include "calib/split.h"
#include "core/error.h"
#include "evaluate/evaluate.h"

namespace deltacal::tools {
namespace {

constexpr int greedy_samples = 4;

void require_same_model(const trace::Reader& trace, const ModelInfo& loaded, const std::string& path) {
  const std::string difference = geometry_difference(trace.model(), loaded);
  if (!difference.empty()) throw bad_input("{} is not the model of {}: {}", path, trace.path(), difference);
  if (trace.model().sha256 != loaded.sha256)
    throw bad_input("{} is not the model of {}: its weights differ (sha256 {:.8}…, the trace's {:.8}…)", path,
                    trace.path(), loaded.sha256, trace.model().sha256);
}

void refuse_overlap(const trace::Reader& trace, const std::vector<text::TokenizedSample>& samples,
                    const std::string& data) {
  std::vector<calib::SplitSample> ours, theirs;
  for (const auto& s : samples) ours.push_back(to_split(s));
  for (int i = 0; i < trace.n_samples(); ++i) theirs.push_back(to_split(trace.info(i)));
  const auto overlap = calib::overlaps(ours, theirs);
  if (overlap.empty()) return;
  throw bad_input(
      "{} of {} samples of {} were recorded in {}, first {} (the same {}): measure on other problems than "
      "those calibrated on",
      overlap.size(), samples.size(), data, trace.path(), samples[overlap[0].ours].id,
      overlap[0].same_tokens ? "tokens" : "problem");
}

// The --rerank-samples that are used (with --transfer so many of each task): of as many problems as can be, also in the
// first few.
void take_mixed(std::vector<text::TokenizedSample>& samples, const CalibrateOptions& o) {
  std::vector<std::pair<std::string, std::vector<int>>> tasks;  // in the order of the file; indices
  for (int i = 0; i < static_cast<int>(samples.size()); ++i) {
    const std::string task = o.transfer ? samples[i].task : std::string();
    auto of_task = std::ranges::find(tasks, task, [](const auto& t) { return t.first; });
    if (of_task == tasks.end()) of_task = tasks.insert(tasks.end(), {task, {}});
    of_task->second.push_back(i);
  }
  std::vector<text::TokenizedSample> taken;
  std::string ids;
  std::set<std::string> problems;
  for (const auto& [task, indices] : tasks) {
    std::vector<calib::SplitSample> of_task;
    for (const int i : indices) of_task.push_back(to_split(samples[i]));
    for (const int j : calib::round_robin_by_problem(of_task, o.rerank_samples)) {
      text::TokenizedSample& sample = samples[indices[j]];
      ids += (taken.empty() ? "" : ", ") + sample.id;
      problems.insert(sample.problem);
      taken.push_back(std::move(sample));
    }
  }
  fmt::print(stderr, "{}: {} of {} samples, of {} problems: {}\n", o.data, taken.size(), samples.size(),
             problems.size(), ids);
  samples = std::move(taken);
}

std::string evaluations_path(const CalibrateOptions& o) {
  return o.evaluations.empty() ? o.out + ".evaluations.jsonl" : o.evaluations;
}

}  // namespace

void check_evaluations(const CalibrateOptions& o) {
  require_free_output(evaluations_path(o), Existing::replace);
}

ModelInfo Development::measured_model(const trace::Reader& trace) const {
  ModelInfo info = trace.model();
  info.device = device_name(inputs_.device);
  info.dtype = model::name_of(inputs_.dtype);
  return info;
}

Development::Development(const CalibrateOptions& o, const trace::Reader& trace) {
  inputs_ = read_inputs(o, o);
  take_mixed(inputs_.data.samples, o);
  for (const auto& s : inputs_.data.samples)
    if (static_cast<int>(s.ids.size()) - s.n_prompt_tokens < 2)
      throw bad_input(
          "{}: sample {} has no token after its first step to score: leave it out, or --min-tokens", o.data,
          s.id);
  require_same_model(trace, inputs_.header.description.info, o.model);
  refuse_overlap(trace, inputs_.data.samples, o.data);
  check_device_memory(
      "calibrate", inputs_,
      evaluate::device_need(inputs_.header.description, 1, longest_tokens(inputs_.data.samples)));
  model_ = std::make_unique<model::Model>(load_model(o, inputs_));
  evaluations_ = std::make_unique<Evaluations>(*model_, inputs_.data.samples, evaluations_path(o));
}

std::vector<std::string> Development::problems() const {
  std::vector<std::string> problems;
  for (const auto& s : samples()) problems.push_back(s.problem);
  return problems;
}

nlohmann::ordered_json Development::provenance(const CalibrateOptions& o) const {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const auto& s : samples()) list.push_back(calib::json_sample(to_record(s)));
  return {{"path", o.data},
          {"sha256", inputs_.data.sha256},
          {"max_tokens", o.max_tokens},
          {"pack", o.pack},
          {"samples", list}};
}

calib::EvaluateSamples Development::gaps() {
  return [this](std::span<const config::Schedule> schedules, int first, int n) {
    std::vector<std::vector<double>> gaps;
    for (const auto& losses : evaluations_->measure(schedules, first, n)) {
      gaps.emplace_back();
      for (const SampleLoss& loss : losses) gaps.back().push_back(loss.nll_gap);
    }
    return gaps;
  };
}

calib::Greedy Development::search_greedily(const Problem& p, const config::Schedule& like) {
  const int n = std::min<int>(greedy_samples, static_cast<int>(samples().size()));
  const auto mean_gaps = [&](std::span<const config::Schedule> searched) {
    std::vector<config::Schedule> schedules(searched.begin(), searched.end());
    for (auto& schedule : schedules) schedule.page_score = p.page_score;
    std::vector<double> means;
    for (const auto& losses : evaluations_->measure(schedules, 0, n)) {
      double sum = 0;
      for (const SampleLoss& loss : losses) sum += loss.nll_gap;
      means.push_back(sum / n);
    }
    return means;
  };
  const auto is_delta = [](const auto& layer) { return layer.role == config::Role::delta; };
  calib::GreedyOptions options{p.full_layers(), usual_l_pages(p), p.grid.k_pages.front(), {}};
  options.delta_layers = {std::max(2, static_cast<int>(std::ranges::count_if(like.layers, is_delta)))};
  return calib::greedy_search(p.n_layers, p.steps, p.costs.budget, options, mean_gaps);
}

}  // namespace deltacal::tools
