// What `bench` does on either device: tokens to run on, the prefill rates, and its files.
#pragma once
#include <fmt/format.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bench_timing.h"
#include "calib/cost_table.h"
#include "decode/step_memory.h"
#include "model/model.h"
#include "options.h"

namespace deltacal::tools {

// What bench prints for people, in Markdown: to standard output as it comes, and kept for --markdown.
class Printed {
 public:
  template <class... Args>
  void print(fmt::format_string<Args...> format, Args&&... args) {
    add(fmt::format(format, std::forward<Args>(args)...));
  }
  const std::string& text() const { return text_; }

 private:
  void add(const std::string& text);
  std::string text_;
};

// Tokens of the first sample that is long enough, or random ones.
std::vector<int32_t> tokens_for(const BenchOptions&, const model::Model&, int n);

// Plain: all layers, and the NLL of every position's next token. Recorded: the same with 256 steps (all where
// there are fewer) written to a trace. Sensitivity: that with the predicted KL of every edge from 2 draws a
// position, if it is asked for.
struct PrefillFigures {
  Timing plain, recorded;
  std::optional<Timing> sensitivity;
  int n_recorded = 0;  // steps
};
PrefillFigures bench_prefill(const BenchOptions&, const model::Model&, const std::vector<int32_t>& ids,
                             int repeats);

// What that needs of a device's memory, without the weights.
decode::PrefillNeed need_of_prefill(const BenchOptions&, const model::Description&);

// The rows of the Markdown table, and its part of the JSON file.
void print(const PrefillFigures&, int n_tokens, Printed&);
nlohmann::ordered_json to_json(const PrefillFigures&, int n_tokens);

// The artefact's head, with the model and the device.
nlohmann::ordered_json bench_head(const BenchOptions&, const model::Model&);

// --out, the same figures as comma-separated lines with a heading: --csv, and what was printed: --markdown;
// where they are asked for.
void write_bench(const BenchOptions&, const nlohmann::ordered_json&, const Printed&);

// --cost-table, and the same for people. Returns the exit status.
int write_cost_table(const BenchOptions&, const calib::CostTable&);

}  // namespace deltacal::tools
