// What was recorded of some consecutive recorded steps of one sample: the input of every computation here,
// whether it comes from a trace file or from memory.
#pragma once
#include <cstdint>
#include <functional>
#include <span>

#include "core/pages.h"
#include "trace/trace.h"

namespace deltacal::calib {

struct StepMaps {
  int n_layers = 0, n_steps = 0, n_pages = 0;
  std::span<const float> score;       // [n_layers, n_steps, n_pages] page score S
  std::span<const float> mass;        // [n_layers, n_steps, n_pages] page mass M
  std::span<const int32_t> steps;     // [n_steps] query positions, ascending
  std::span<const int32_t> burst;     // [n_steps] number of the run of consecutive steps
  int n_kv_heads = 0;                 // 0: no group mass
  std::span<const float> group_mass;  // [n_layers, n_steps, n_kv_heads, n_pages]

  // U(t): how many pages of the rows below the step sees.
  int seen(int step) const { return pages_seen(steps[step]); }
  // The pages the step sees, [U(t)].
  std::span<const float> score_of(int layer, int step) const { return row(score, layer, step, 0, 1); }
  std::span<const float> mass_of(int layer, int step) const { return row(mass, layer, step, 0, 1); }
  std::span<const float> group_mass_of(int layer, int step, int head) const {
    return row(group_mass, layer, step, head, n_kv_heads);
  }

 private:
  std::span<const float> row(std::span<const float> data, int layer, int step, int head, int n_heads) const {
    const auto index = (static_cast<std::size_t>(layer) * n_steps + step) * n_heads + head;
    return data.subspan(index * n_pages, seen(step));
  }
};

// Checks the sizes of the spans, that every step's pages are there, and that masses are shares; bad_input
// with `where` first.
void check(const StepMaps&, const std::string& where);

// Reads a sample in blocks of steps that keep memory bounded, in ascending order. Nothing is called for a
// sample without recorded steps.
void for_each_block(const trace::Reader&, int sample, const std::function<void(const StepMaps&)>&);

}  // namespace deltacal::calib
