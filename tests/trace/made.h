// Samples with known contents, for the tests of trace.h5.
#pragma once
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/pages.h"
#include "trace/trace.h"

namespace deltacal::trace::testing {

// A folder of its own for a test, removed with all in it. In memory where Linux offers that: the tests sync
// hundreds of small files.
struct Folder {
  Folder() {
    const std::filesystem::path memory = "/dev/shm";
    const bool in_memory = ::access(memory.c_str(), W_OK) == 0;
    std::string name =
        (in_memory ? memory : std::filesystem::temp_directory_path()) / "deltacal-trace-XXXXXX";
    if (!::mkdtemp(name.data())) throw std::runtime_error("cannot make a folder for the test");
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string operator/(const std::string& name) const { return (path / name).string(); }
  std::filesystem::path path;
};

inline ModelInfo small_model(int n_layers = 3) {
  ModelInfo model;
  model.name = "tiny random";
  model.architecture = "llama";
  model.sha256 = std::string(64, 'a');
  model.n_layers = n_layers;
  model.n_heads = 4;
  model.n_kv_heads = 2;
  model.head_dim = 8;
  model.max_context = 4096;
  model.dtype = "f32";
  return model;
}

struct Sample {
  SampleInfo info;
  int n_layers = 0, n_kv_heads = 0, n_pages = 0;
  std::vector<int32_t> token_ids, steps, burst;
  std::vector<float> nll;
  std::vector<float> score, mass;  // [n_layers, S, U]
  std::vector<float> group_mass;   // [n_layers, S, n_kv_heads, U]; empty without
};

// Multiples of 2^-11 below 1: exact as halves, so that what is read must equal what was written.
inline float exact_value(std::mt19937& random) {
  return static_cast<float>(random() % 2048) / 2048.0f;
}

// Every second run of 5 steps from `n_prompt` on is recorded. Pages that a step does not see are 0.
inline Sample make_sample(unsigned seed, int n_tokens, const ModelInfo& model, bool groups = false) {
  std::mt19937 random(seed);
  Sample s;
  s.info = {.id = "sample " + std::to_string(seed),
            .task = "addition, naïve",
            .problem = "problem " + std::to_string(seed / 2),
            .sha256 = "",
            .mode = seed % 2 ? "decode" : "replay",
            .n_tokens = n_tokens,
            .n_prompt_tokens = n_tokens / 4};
  s.n_layers = model.n_layers, s.n_kv_heads = model.n_kv_heads, s.n_pages = pages_for(n_tokens);
  for (int t = 0; t < n_tokens; ++t) {
    s.token_ids.push_back(static_cast<int32_t>(random() % 50000));
    if (t > 0) s.nll.push_back(exact_value(random) * 8);
    if (t < s.info.n_prompt_tokens || t / 5 % 2) continue;
    s.steps.push_back(t);
    s.burst.push_back(t / 10);
  }
  for (int layer = 0; layer < s.n_layers; ++layer)
    for (const int t : s.steps)
      for (int g = 0; g < (groups ? 1 + s.n_kv_heads : 1); ++g)
        for (int u = 0; u < s.n_pages; ++u) {
          const float value = u < pages_seen(t) ? exact_value(random) : 0.0f;
          if (g > 0) s.group_mass.push_back(value);
          if (g > 0) continue;
          s.score.push_back(value * 3);
          s.mass.push_back(value);
        }
  return s;
}

// Writes rows [first, first + n) of all layers, as many pages wide as the last of these steps sees.
inline void write_rows(SampleWriter& to, const Sample& s, int first, int n) {
  const int width = pages_seen(s.steps[static_cast<size_t>(first + n - 1)]);
  for (int layer = 0; layer < s.n_layers; ++layer) {
    std::vector<float> score, mass, group_mass;
    for (int row = first; row < first + n; ++row) {
      const size_t at = (static_cast<size_t>(layer) * s.steps.size() + static_cast<size_t>(row));
      const size_t begin = at * static_cast<size_t>(s.n_pages);
      for (size_t u = begin; u < begin + static_cast<size_t>(width); ++u) {
        score.push_back(s.score[u]);
        mass.push_back(s.mass[u]);
      }
      if (s.group_mass.empty()) continue;
      for (size_t g = 0; g < static_cast<size_t>(s.n_kv_heads); ++g)
        for (size_t u = 0; u < static_cast<size_t>(width); ++u)
          group_mass.push_back(
              s.group_mass[(at * static_cast<size_t>(s.n_kv_heads) + g) * static_cast<size_t>(s.n_pages) +
                           u]);
    }
    to.write_pages(layer, first, n, width, score, mass);
    if (!s.group_mass.empty()) to.write_group_mass(layer, first, n, width, group_mass);
  }
}

inline SamplePlan plan_of(const Sample& s) {
  return {.info = s.info,
          .max_tokens = s.info.n_tokens,
          .max_steps = static_cast<int>(s.steps.size()),
          .group_mass = !s.group_mass.empty()};
}

inline void write_sample(Writer& to, int index, const Sample& s) {
  SampleWriter writer = to.begin(index, plan_of(s));
  const int n_steps = static_cast<int>(s.steps.size());
  for (int first = 0; first < n_steps; first += 7) write_rows(writer, s, first, std::min(7, n_steps - first));
  writer.finish(s.token_ids, s.steps, s.burst, s.nll);
}

inline void write_trace(const std::string& path, const ModelInfo& model, const std::vector<Sample>& samples,
                        const nlohmann::json& options = {{"steps", "256"}}) {
  Writer writer(path, Writer::Start::fresh, model, {.command = "deltacal profile", .seed = 7}, options);
  for (size_t i = 0; i < samples.size(); ++i) write_sample(writer, static_cast<int>(i), samples[i]);
  writer.finish();
}

// Whether sample `index` of `trace` holds exactly `s`.
inline bool holds(const Reader& trace, int index, const Sample& s) {
  const int n_steps = static_cast<int>(s.steps.size());
  const SampleInfo& info = trace.info(index);
  const PageMaps maps = trace.pages(index, 0, s.n_layers, 0, n_steps);
  if (info.parts != s.info.parts || trace.has_group_mass(index) != !s.group_mass.empty()) return false;
  if (!s.group_mass.empty() && trace.group_mass(index, 0, s.n_layers, 0, n_steps) != s.group_mass)
    return false;
  return info.id == s.info.id && info.task == s.info.task && info.problem == s.info.problem &&
         info.mode == s.info.mode && info.n_tokens == s.info.n_tokens &&
         info.n_prompt_tokens == s.info.n_prompt_tokens && trace.token_ids(index) == s.token_ids &&
         trace.steps(index) == s.steps && trace.burst(index) == s.burst && trace.nll(index) == s.nll &&
         maps.n_pages == s.n_pages && maps.score == s.score && maps.mass == s.mass;
}

inline bool holds(const std::string& path, const std::vector<Sample>& samples) {
  const Reader trace(path);
  if (trace.n_samples() != static_cast<int>(samples.size())) return false;
  for (size_t i = 0; i < samples.size(); ++i)
    if (!holds(trace, static_cast<int>(i), samples[i])) return false;
  return true;
}

}  // namespace deltacal::trace::testing
