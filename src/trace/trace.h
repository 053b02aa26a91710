// trace.h5: the page attention recorded for each sample (layout: data/schema/README.md).
// N layers, S recorded steps, U = ceil(T/16) pages, T tokens.
#pragma once
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "core/files.h"
#include "core/model_info.h"
#include "core/pages.h"
#include "core/provenance.h"
#include "core/ranking.h"

namespace deltacal::trace {

struct SampleInfo {
  std::string id, task;
  std::string problem;  // splits and the bootstrap group by it: task and problem, else a hash of the question
  std::string sha256;   // of the token ids
  std::string mode;     // "replay" or "decode"
  int n_tokens = 0;
  int n_prompt_tokens = 0;  // positions below are prefilled in full: they are not steps
  // Keys of the problems that were packed into it, which `problem` then only stands for; empty where it holds one.
  std::vector<std::string> parts{};
};

// Page maps of some layers and some consecutive recorded steps of one sample.
struct PageMaps {
  int n_layers = 0, n_steps = 0, n_pages = 0;
  std::vector<float> score;  // [n_layers, n_steps, n_pages]  0 for pages the step does not see
  std::vector<float> mass;   // [n_layers, n_steps, n_pages]  sums to 1 over the pages a step sees
  std::span<const float> score_at(int layer, int step) const;  // [n_pages]
  std::span<const float> mass_at(int layer, int step) const;   // [n_pages]
};

// Predicted KL under another ranking than {sum, 1}.
struct RankedKl {
  Ranking ranking;
  std::vector<float> kl;  // as EdgeSensitivity::kl
  // For writing (Reader::list_made_at reads it): [n_layers, n_tokens - n_prompt_tokens] the position whose
  // list is in force at each step, were the layer a Δ-layer; empty unless a signal decides it.
  std::vector<int32_t> list_made_at = {};
};

// Predicted KL of every edge a -> l (method.md, "Predicted KL of an edge"): what the sensitivity pass found
// in one sample. E pairs of K and L, edges a <= l in row order: number l (l + 1) / 2 + a.
struct EdgeSensitivity {
  std::vector<PageBudget> budgets;  // [E]
  int n_gradients = 0;              // sets of labels, one backward pass each
  std::vector<float> kl;  // [E, n_layers target, n_layers source] nats a token; NaN where source > target
  std::vector<RankedKl> rankings = {};  // those recorded besides, in the order of their names
};

// ---- reading ----

class Reader {
 public:
  // Checks every sample's datasets against the attributes. bad_input for another kind of file or schema, one
  // that is cut short or damaged. Methods may be called from several threads; they take turns.
  explicit Reader(const std::string& path);
  ~Reader();
  Reader(Reader&&) noexcept;
  const std::string& path() const;
  const ModelInfo& model() const;
  Provenance provenance() const;
  const std::string& options() const;  // JSON: what the Writer was given; of a merged trace {"merged": [...]}
  int n_samples() const;
  const SampleInfo& info(int sample) const;
  std::vector<int32_t> token_ids(int sample) const;  // [T]
  std::vector<int32_t> steps(int sample) const;      // [S] recorded query positions, ascending
  std::vector<int32_t> burst(int sample) const;      // [S] number of the run of consecutive steps
  std::vector<float> nll(int sample) const;          // [T-1] nats, of token i+1 given tokens 0..i
  // Layers first_layer..+n_layers-1, steps first_step..+n_steps-1 (indices into steps(), not positions).
  PageMaps pages(int sample, int first_layer, int n_layers, int first_step, int n_steps) const;
  bool has_group_mass(int sample) const;
  bool has_sensitivity(int sample) const;
  EdgeSensitivity sensitivity(int sample) const;
  // Those of sensitivity().rankings, without reading anything.
  const std::vector<Ranking>& rankings(int sample) const;
  // RankedKl::list_made_at of one of them, whose lists a signal decides.
  std::vector<int32_t> list_made_at(int sample, const Ranking&) const;
  // First-order change of the loss at each step, nats: [n_budgets, n_edges, S] for one set of labels, budgets
  // first_budget.., edges first_edge.. in row order. The file keeps all budgets of a few edges together: go
  // through edges outside, budgets inside.
  std::vector<float> edge_delta(int sample, int gradient, int first_budget, int n_budgets, int first_edge,
                                int n_edges) const;
  // [n_layers, n_steps, n_kv_heads, n_pages]
  std::vector<float> group_mass(int sample, int first_layer, int n_layers, int first_step, int n_steps) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// ---- writing ----

// One sample being recorded. Rows may come in any order of layers; within a layer ascending in steps.
// The file of a sample that is not closed by finish() is removed.
class SampleWriter {
 public:
  ~SampleWriter();
  SampleWriter(SampleWriter&&) noexcept;
  // Rows first_row..+n_rows-1 of the sample's steps; score, mass [n_rows, n_pages], n_pages <= U of the plan.
  // At most one chunk of each layer (half a megabyte) waits in memory. failure if a value is not finite or
  // the disk is full.
  void write_pages(int layer, int first_row, int n_rows, int n_pages, std::span<const float> score,
                   std::span<const float> mass);
  // group_mass [n_rows, n_kv_heads, n_pages]; only if the plan asked for it.
  void write_group_mass(int layer, int first_row, int n_rows, int n_pages, std::span<const float> group_mass);
  // Once, for the steps that finish() is given: delta [n_gradients, E, n_edges, S], of the ranking {sum, 1}.
  // failure if a value is not finite.
  void write_sensitivity(const EdgeSensitivity&, std::span<const float> delta);
  // Cuts the datasets to the steps given (every layer must have rows for them) and closes the file. token_ids
  // [T], steps/burst [S], nll [T-1].
  void finish(std::span<const int32_t> token_ids, std::span<const int32_t> steps,
              std::span<const int32_t> burst, std::span<const float> nll);

  struct Impl;

 private:
  friend class Writer;
  explicit SampleWriter(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl_;
};

// What a sample will be at most; finish() cuts it to what it became (decoding may end early).
struct SamplePlan {
  SampleInfo info;  // n_tokens and sha256 are set by finish()
  int max_tokens = 0, max_steps = 0;
  bool group_mass = false;
};

// Writes NAME.partial/000000.h5, ... and joins them into NAME at the end.
class Writer {
 public:
  enum class Start {
    fresh,   // NAME.partial must hold no finished sample: bad_input names --resume and --force
    resume,  // continues NAME.partial if it was made from the same model, data and options
    replace  // discards NAME and NAME.partial
  };
  // `options`: everything that decides the result (data hash, mode, steps, seed, ...); compared on resume.
  Writer(std::string path, Start, const ModelInfo&, const Provenance&, const nlohmann::json& options);
  ~Writer();
  bool has(int index) const;  // that sample is finished already
  SampleWriter begin(int index, const SamplePlan&);
  void finish();  // joins the samples by index, numbered anew from 0; renames; removes the folder
  void discard();  // instead, with what has been recorded: removes the folder

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Joins traces of one model; bad_input for another model, another page size, or a sample (token hash) twice.
void merge(const std::vector<std::string>& inputs, const std::string& output, Existing, const Provenance&);

}  // namespace deltacal::trace
