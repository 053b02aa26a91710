#include "transfer.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <numeric>

#include "calib/transfer.h"
#include "calib/transfer_json.h"
#include "compare.h"
#include "core/error.h"
#include "core/hash.h"
#include "development.h"
#include "methods.h"

namespace deltacal::tools {
namespace {

// The learning curve has 32, 64 and 128 steps, then all that were recorded.
constexpr int fewest_steps = 32, steps_below = 256;

std::vector<calib::TransferSample> samples_of(const trace::Reader& trace) {
  std::vector<calib::TransferSample> samples;
  for (int i = 0; i < trace.n_samples(); ++i) {
    const trace::SampleInfo& s = trace.info(i);
    samples.push_back({s.task, s.problem, s.parts, {s.n_prompt_tokens, s.n_tokens}});
  }
  return samples;
}

std::vector<calib::TransferSample> samples_of(const std::vector<text::TokenizedSample>& tokenized) {
  std::vector<calib::TransferSample> samples;
  for (const auto& s : tokenized)
    samples.push_back(
        {s.task, s.problem, to_split(s).parts, {s.n_prompt_tokens, static_cast<int>(s.ids.size())}});
  return samples;
}

// A schedule for each task, then the one for all.
std::vector<calib::TransferSchedule> calibrate_tasks(const CalibrateOptions& o, const trace::Reader& trace,
                                                     const Problem& whole,
                                                     const std::vector<calib::TransferSample>& samples) {
  std::vector<std::string> tasks = calib::tasks_of(samples);
  tasks.push_back(calib::all_tasks);
  std::vector<calib::TransferSchedule> schedules;
  for (const std::string& task : tasks) {
    const Problem p =
        task == calib::all_tasks ? whole : restricted(o, trace, whole, calib::samples_of(samples, task));
    const auto found = solve(p, 1);
    if (found.empty()) {
      const Error error = no_schedule(o, p);
      throw Error(error.status(), fmt::format("calibrated on {}: {}", task, error.what()));
    }
    schedules.push_back({calib::counts_of(samples, task),
                         found[0].schedule,
                         p.ratio_of(found[0].attended),
                         found[0].loss,
                         {},
                         {}});
  }
  return schedules;
}

// One point of the learning curve on its way: what it is calibrated on, and the schedules found.
struct Point {
  calib::MeasuredPoint measured;
  std::vector<config::Schedule> schedules;  // [n_draws]
};

class LearningCurve {
 public:
  LearningCurve(const CalibrateOptions& o, const trace::Reader& trace, const Problem& whole)
      : o_(o), trace_(trace), whole_(whole), all_(trace.n_samples()) {
    whole_.joint = nullptr;  // cross terms are known of all steps alone: all points by the sum over edges
    std::iota(all_.begin(), all_.end(), 0);
    for (const int i : all_) most_steps_ = std::max(most_steps_, static_cast<int>(trace.steps(i).size()));
  }

  // Fewer samples, then fewer steps, then everything, by whose schedule the others are judged. All meet the
  // budget on the lengths of all samples.
  std::vector<Point> points() const {
    std::vector<Point> points;
    std::vector<std::string> problems;
    for (const int i : all_) problems.push_back(trace_.info(i).problem);
    for (const int n : calib::doubling_sizes(1, trace_.n_samples())) {
      Point point{{n, most_steps_, {}, 0}, {}};
      for (int draw = 0; draw < o_.curve_draws; ++draw) {
        std::vector<int> chosen = calib::mixed_order(problems, o_.made.seed + static_cast<uint64_t>(draw));
        chosen.resize(n);
        add(restricted(o_, trace_, whole_, chosen), point);
      }
      points.push_back(std::move(point));
    }
    if (reason().empty())
      for (const int n : calib::doubling_sizes(fewest_steps, std::min(most_steps_, steps_below))) {
        Point point{{trace_.n_samples(), n, {}, 0}, {}};
        Problem p = whole_;
        p.kl = calib::predicted_kl_of_steps(trace_, p.grid, n);
        add(restricted(o_, trace_, p, all_), point);
        points.push_back(std::move(point));
      }
    Point everything{{trace_.n_samples(), most_steps_, {}, 0}, {}};
    add(whole_, everything);
    points.push_back(std::move(everything));
    return points;
  }

  // Why there is no part with fewer steps; empty where there is one.
  std::string reason() const {
    return whole_.objective == "kl" ? ""
                                    : "fewer steps: not tried, since the objective is recall, not the "
                                      "predicted KL of single steps";
  }

 private:
  void add(Problem p, Point& point) const {
    p.steps = whole_.steps;
    p.layers = whole_.layers;
    p.costs = whole_.costs;
    const auto found = solve(p, 1);
    if (found.empty()) {
      ++point.measured.n_unsolved;
    } else {
      point.schedules.push_back(found[0].schedule);
    }
  }

  const CalibrateOptions& o_;
  const trace::Reader& trace_;
  Problem whole_;
  std::vector<int> all_;  // indices of samples
  int most_steps_ = 0;    // recorded of any sample
};

// Each schedule once, on every development sample.
class Losses {
 public:
  Losses(const std::vector<config::Schedule>& schedules, Development& development) {
    std::vector<config::Schedule> different;
    for (const auto& s : schedules)
      if (by_key_.try_emplace(key_of(s)).second) different.push_back(s);
    const int n = static_cast<int>(development.samples().size());
    fmt::print(
        stderr,
        "transfer: {} schedules x {} samples; runs that the file of evaluations has are not made again\n",
        different.size(), n);
    const auto losses = development.evaluations().measure(different, 0, n);
    for (size_t i = 0; i < different.size(); ++i) by_key_[key_of(different[i])] = losses[i];
  }

  void write(const config::Schedule& schedule, std::vector<double>& nll_gap, std::vector<double>& kl) const {
    for (const SampleLoss& loss : by_key_.at(key_of(schedule))) {
      nll_gap.push_back(loss.nll_gap);
      kl.push_back(loss.kl);
    }
  }

 private:
  std::map<std::string, std::vector<SampleLoss>> by_key_;  // schedule: [n_samples]
};

// Runs everything in one batch and fills in what was lost.
std::vector<calib::MeasuredPoint> measure(std::vector<calib::TransferSchedule>& tasks,
                                          std::vector<Point>& points, Development& development) {
  std::vector<config::Schedule> schedules;
  for (const auto& task : tasks) schedules.push_back(task.schedule);
  for (const Point& point : points)
    schedules.insert(schedules.end(), point.schedules.begin(), point.schedules.end());
  const Losses losses(schedules, development);
  for (auto& task : tasks) losses.write(task.schedule, task.nll_gap, task.kl);
  std::vector<calib::MeasuredPoint> measured;
  for (Point& point : points) {
    for (const config::Schedule& schedule : point.schedules) {
      calib::CurveDraw draw{config::describe(schedule), {}, {}};
      losses.write(schedule, draw.nll_gap, draw.kl);
      point.measured.draws.push_back(std::move(draw));
    }
    measured.push_back(std::move(point.measured));
  }
  return measured;
}

}  // namespace

int transfer(const CalibrateOptions& o, const trace::Reader& trace) {
  const std::string markdown = markdown_beside(o);
  const Problem whole = problem_of(o, trace);
  if (whole.goal.kind != calib::Goal::Kind::attended)
    throw bad_input("--transfer compares schedules of equal attended tokens: give --budget attended=R");
  calib::Transfer result;
  result.schedules = calibrate_tasks(o, trace, whole, samples_of(trace));
  Development development(o, trace);
  const auto samples = samples_of(development.samples());
  calib::tasks_of(samples);  // a name that is taken is told before anything runs
  std::vector<Point> points;
  result.curve_reason = "learning curve: not asked for";
  if (o.curve != "none") {
    const LearningCurve curve(o, trace, whole);
    points = curve.points();
    result.curve_reason = curve.reason();
  }
  const auto measured = measure(result.schedules, points, development);
  calib::measure_transfer(samples, measured, whole.bootstrap, result);
  result.model = development.measured_model(trace);
  result.trace_path = trace.path();
  result.trace_sha256 = sha256_of_file(trace.path());
  result.data_path = o.data;
  result.data_sha256 = development.inputs().data.sha256;
  result.max_tokens = o.max_tokens;
  result.pack = o.pack;
  result.budget = o.budget;
  result.context = o.context;
  result.objective = whole.objective;
  write_file_atomically(o.out, calib::to_json(result, o.made).dump() + "\n", o.existing());
  write_file_atomically(markdown, calib::to_markdown(result), o.existing());
  fmt::print("{}\n{}, {}: {} schedules were run on samples that had not been before\n",
             calib::to_markdown(result), o.out, markdown, development.evaluations().n_run());
  return 0;
}

}  // namespace deltacal::tools
