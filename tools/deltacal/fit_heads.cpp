#include "fit_heads.h"

#include <algorithm>
#include <cstdio>

#include "calib/head_weights_json.h"
#include "core/error.h"
#include "core/progress.h"
#include "development.h"
#include "sensitivity/head_cells.h"

namespace deltacal::tools {
namespace {

constexpr double most_bytes = 2e9;  // of all samples' cells together

std::vector<sensitivity::ListUse> uses_of(const config::Schedule& schedule) {
  std::vector<sensitivity::ListUse> uses;
  for (int layer = 0; layer < static_cast<int>(schedule.layers.size()); ++layer) {
    if (schedule.layers[layer].role != config::Role::sparse) continue;
    const int source = config::source_of(schedule, layer);
    if (uses.empty() || uses.back().layer != source) uses.push_back({source, {}});
    uses.back().served.push_back({layer, schedule.layers[layer].k_pages});
  }
  return uses;
}

// n of the recorded steps, spread evenly over them.
std::vector<int32_t> thinned(const std::vector<int32_t>& steps, int n) {
  const size_t size = steps.size(), kept = std::min(size, static_cast<size_t>(n));
  std::vector<int32_t> out;
  for (size_t i = 0; i < kept; ++i) out.push_back(steps[i * size / kept]);
  return out;
}

double bytes_of(const trace::Reader& trace, const std::vector<sensitivity::ListUse>& uses, int n_steps) {
  double bytes = 0;
  for (int i = 0; i < trace.n_samples(); ++i)
    bytes +=
        double(sensitivity::head_cells_bytes(trace.model().n_heads, thinned(trace.steps(i), n_steps), uses));
  return bytes;
}

// As many steps of a sample as asked for, fewer where their cells would not fit.
int steps_that_fit(const CalibrateOptions& o, const trace::Reader& trace,
                   const std::vector<sensitivity::ListUse>& uses) {
  int n = o.head_weight_steps;
  while (n > 1 && bytes_of(trace, uses, n) > most_bytes) n -= std::max(1, n / 8);
  if (n < o.head_weight_steps)
    fmt::print(stderr, "head weights: {} steps a sample instead of {}, to stay below {:.0f} GB of memory\n",
               n, o.head_weight_steps, 1e-9 * most_bytes);
  return n;
}

// One task for each use, with every sample of the trace.
std::vector<calib::HeadTask> record(const trace::Reader& trace, const config::Schedule& schedule,
                                    const std::vector<sensitivity::ListUse>& uses, int n_steps,
                                    const model::Model& model) {
  std::vector<calib::HeadTask> tasks;
  for (const auto& use : uses)
    tasks.push_back({use.layer,
                     model.info().n_heads,
                     schedule.layers[use.layer].l_pages,
                     schedule.score.page,
                     schedule.position_bias,
                     {}});
  double n_tokens = 0;
  for (int i = 0; i < trace.n_samples(); ++i) n_tokens += trace.info(i).n_tokens;
  Progress progress("head weights: passes", n_tokens, "tokens");
  for (int i = 0; i < trace.n_samples(); ++i) {
    const auto& info = trace.info(i);
    // A third for the forward pass, the rest for the backward pass that follows it.
    auto cells = sensitivity::head_cells(model, trace.token_ids(i), info.n_prompt_tokens,
                                         thinned(trace.steps(i), n_steps), uses,
                                         [&](int n) { progress.advance(n / 3.0); });
    progress.advance(info.n_tokens * 2 / 3.0);
    for (size_t u = 0; u < uses.size(); ++u) {
      cells[u].id = info.id;
      cells[u].problem = info.problem;
      tasks[u].samples.push_back(std::move(cells[u]));
    }
  }
  return tasks;
}

void check_schedule(const config::Schedule& schedule, const std::vector<sensitivity::ListUse>& uses) {
  if (uses.empty())
    throw bad_input(
        "--fit-head-weights: the chosen schedule has no sparse layer, so no list is read: ask for a smaller "
        "budget");
  // calibrate refuses the options that would make such schedules before it solves anything.
  if (schedule.score.carry > 0 || config::keeps_lists(schedule))
    throw bad_input(
        "--fit-head-weights: the lists of {} depend on more than one step of one layer, which is all that "
        "weights are fitted to",
        config::describe(schedule));
}

}  // namespace

void check_head_fit(const CalibrateOptions& o, const trace::Reader& trace) {
  const std::string dtype = model::name_of(model::choose_dtype(o.dtype));
  require_same_model(trace, model::read_header(o.model).description.info, o.model);
  if (dtype != trace.model().dtype)
    throw bad_input(
        "trace {} was recorded in {}, --fit-head-weights would run the model in {}: give --dtype {}",
        trace.path(), trace.model().dtype, dtype, trace.model().dtype);
}

HeadFits fit_heads(const CalibrateOptions& o, const trace::Reader& trace, const config::Schedule& schedule,
                   const model::Model& model) {
  const auto uses = uses_of(schedule);
  check_schedule(schedule, uses);
  const int n_steps = steps_that_fit(o, trace, uses);
  auto tasks = record(trace, schedule, uses, n_steps, model);

  calib::HeadSearch search;
  search.seed = o.made.seed;
  const calib::Bootstrap bootstrap{o.resamples, o.made.seed, 0.95};
  int n_fits = 0;
  for (const auto& task : tasks) n_fits += calib::n_fits(task, search);
  HeadFits out;
  Progress progress("head weights: search", n_fits, "fits");
  for (auto& task : tasks) {
    out.choices.push_back(calib::choose_head_weights(task, search, bootstrap, [&] { progress.advance(1); }));
    task.samples.clear();
    const calib::HeadChoice& choice = out.choices.back();
    if (!choice.kept) continue;
    out.head_weights.resize(schedule.layers.size());
    out.head_weights[choice.layer] = choice.fit.weights;
  }
  out.provenance = calib::to_json(out.choices, search, bootstrap, n_steps);
  return out;
}

void print(const HeadFits& fits) {
  for (const auto& c : fits.choices) {
    const std::string interval =
        c.gain.low ? fmt::format(" (95% interval {:.5f} to {:.5f})", *c.gain.low, *c.gain.high) : "";
    fmt::print(
        "head weights of Δ-layer {}: predicted KL of {} layers {:.5f}, fitted {:.5f}; gain on problems left "
        "out "
        "{:.5f}{}: {}\n",
        c.layer, c.served.size(), c.fit.before, c.fit.loss, c.gain.mean, interval,
        c.kept ? fmt::format("kept, {}", fmt::join(c.fit.weights, " ")) : "not kept, " + c.reason);
  }
}

}  // namespace deltacal::tools
