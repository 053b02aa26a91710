#include "calib/step_maps.h"

#include <algorithm>

#include "core/error.h"

namespace deltacal::calib {

void check(const StepMaps& maps, const std::string& where) {
  const auto rows = static_cast<std::size_t>(maps.n_layers) * maps.n_steps;
  const auto cells = rows * maps.n_pages;
  if (maps.score.size() != cells || maps.mass.size() != cells ||
      maps.group_mass.size() != cells * maps.n_kv_heads)
    throw bad_input(
        "{}: page maps of {} score, {} mass and {} group mass values, expected {} layers x {} steps x {} "
        "pages (x {} heads). Record the trace again.",
        where, maps.score.size(), maps.mass.size(), maps.group_mass.size(), maps.n_layers, maps.n_steps,
        maps.n_pages, maps.n_kv_heads);
  if (std::ssize(maps.steps) != maps.n_steps || std::ssize(maps.burst) != maps.n_steps)
    throw bad_input("{}: {} steps and {} burst numbers for {} rows. Record the trace again.", where,
                    maps.steps.size(), maps.burst.size(), maps.n_steps);
  for (int s = 0; s < maps.n_steps; ++s) {
    if (maps.steps[s] < 0 || (s > 0 && maps.steps[s] <= maps.steps[s - 1]))
      throw bad_input(
          "{}: recorded step {} is at position {}: positions must ascend. Record the trace again.", where, s,
          maps.steps[s]);
    if (maps.seen(s) > maps.n_pages)
      throw bad_input("{}: the step at position {} sees {} pages, {} are stored. Record the trace again.",
                      where, maps.steps[s], maps.seen(s), maps.n_pages);
  }
  // A score may be NaN (it ranks last); a mass may not, it is what is counted.
  for (const auto masses : {maps.mass, maps.group_mass}) {
    const auto wrong = std::ranges::find_if(masses, [](float m) { return !(m >= 0 && m <= 1.01f); });
    if (wrong != masses.end())
      throw bad_input("{}: a page mass is {}, a share of attention lies in 0..1. Record the trace again.",
                      where, *wrong);
  }
}

void for_each_block(const trace::Reader& reader, int sample,
                    const std::function<void(const StepMaps&)>& use) {
  constexpr long long max_values = 24'000'000;  // float32 of one block: 96 MB
  constexpr int aligned = 64;                   // steps: a chunk of the file is not read twice
  const std::vector<int32_t> steps = reader.steps(sample), burst = reader.burst(sample);
  const ModelInfo& model = reader.model();
  const bool groups = reader.has_group_mass(sample);
  const long long n_steps = std::ssize(steps), n_pages = pages_for(reader.info(sample).n_tokens);
  const long long per_step = model.n_layers * n_pages * (2 + (groups ? model.n_kv_heads : 0));
  long long block = std::clamp(max_values / std::max(per_step, 1LL), 1LL, std::max(n_steps, 1LL));
  if (block > aligned) block -= block % aligned;
  for (long long first = 0; first < n_steps; first += block) {
    const int n = static_cast<int>(std::min(block, n_steps - first));
    const int start = static_cast<int>(first);
    const trace::PageMaps pages = reader.pages(sample, 0, model.n_layers, start, n);
    std::vector<float> group_mass;
    if (groups) group_mass = reader.group_mass(sample, 0, model.n_layers, start, n);
    const StepMaps maps{pages.n_layers,
                        pages.n_steps,
                        pages.n_pages,
                        pages.score,
                        pages.mass,
                        std::span(steps).subspan(start, n),
                        std::span(burst).subspan(start, n),
                        groups ? model.n_kv_heads : 0,
                        group_mass};
    check(maps, fmt::format("trace {}, sample {}", reader.path(), reader.info(sample).id));
    use(maps);
  }
}

}  // namespace deltacal::calib
