#include "config/export.h"

#include <fmt/ranges.h>

#include <cmath>

#include "core/error.h"
#include "core/provenance.h"

namespace deltacal::config {
namespace {

using Json = nlohmann::ordered_json;

struct Budget {
  int k_pages = 0, l_pages = 0;
};

// "score.page, refresh_interval": the fields in which two artefacts differ.
std::string differing(const Json& a, const Json& b, const std::string& path = "") {
  std::vector<std::string> names;
  for (const auto& [name, value] : a.items()) {
    if (b.contains(name) && value == b[name]) continue;
    const std::string full = path.empty() ? name : path + "." + name;
    names.push_back(value.is_object() && b.contains(name) ? differing(value, b[name], full) : full);
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

// No form has more than layers and budgets: everything else must be as DELTA's paper has it.
void require_plain(const Config& config, const std::string& file, const std::string& name) {
  Config plain;
  plain.model = config.model;
  plain.expected = config.expected;
  plain.provenance = config.provenance;
  plain.schedule.layers = config.schedule.layers;
  if (plain.schedule == config.schedule) return;
  Json given = to_json(config, {});
  given.erase("created");
  throw bad_input("{}: {} cannot be said in the form of {}; calibrate without", file,
                  differing(given, to_json(plain, {})), name);
}

// The one K and L of the schedule; lists that no layer uses count for nothing.
Budget one_budget(const Schedule& schedule, const std::string& file, const std::string& name) {
  Budget one;
  for (int i = 0; i < static_cast<int>(schedule.layers.size()); ++i) {
    const LayerPlan& layer = schedule.layers[i];
    if (layer.role != Role::sparse) continue;
    const int source = source_of(schedule, i), l_pages = schedule.layers[source].l_pages;
    if (one.k_pages == 0) one = {layer.k_pages, l_pages};
    if (layer.k_pages != one.k_pages)
      throw bad_input(
          "{}: layers[{}].k_pages is {}, an earlier layer has {}: {} has one K for all; calibrate with "
          "--k-per schedule",
          file, i, layer.k_pages, one.k_pages, name);
    if (l_pages != one.l_pages)
      throw bad_input(
          "{}: layers[{}].l_pages is {}, an earlier layer has {}: {} has one L for all; calibrate with "
          "one value of --l-pages",
          file, source, l_pages, one.l_pages, name);
  }
  if (one.k_pages == 0) throw bad_input("{}: no layer is sparse: there is nothing for {} to do", file, name);
  return one;
}

std::string quoted(const std::string& text) {
  return Json(text).dump(-1, ' ', true, Json::error_handler_t::replace);
}

// Strings of a config stand in comments of a shell file: quoted, so that none can end its line.
std::string made_from(const Config& config, const std::string& file) {
  return fmt::format("# Made by deltacal {} from {}, for {} (sha256 {}).\n", tool_version, quoted(file),
                     quoted(config.model.name), quoted(config.model.sha256));
}

// Layers that attend to everything are `full_cache_layers`; of them, those right below another layer rank
// pages.
Exported to_delta(const Config& config, const std::string& file) {
  const auto& layers = config.schedule.layers;
  const Budget budget = one_budget(config.schedule, file, "delta");
  std::vector<size_t> full;
  for (size_t i = 0; i < layers.size(); ++i) {
    if (layers[i].role != Role::sparse) full.push_back(i);
    if (i > 0 && layers[i].role == Role::sparse && layers[i - 1].role == Role::full)
      throw bad_input(
          "{}: layers[{}] is full and the next layer is sparse: in delta it would choose the pages; make it "
          "a "
          "delta layer with the list of the others in the config, and validate that",
          file, i - 1);
  }
  return {
      fmt::format(
          "# A schedule for DELTA (arXiv 2510.09883): options of tests/reason.py and tests/reasoni.py of\n"
          "# github.com/hoenza/DELTA, as of commit 931d8982. Pages of 16 tokens.\n"
          "{}"
          "#   source THIS_FILE; torchrun tests/reason.py --model ... \"${{delta_options[@]}}\"\n"
          "delta_options=(--enable_selective_cache --full_cache_layers {} --subset_cache_size {} "
          "--compression_ratio 1 --L {})\n",
          made_from(config, file), fmt::join(full, " "), budget.k_pages, budget.l_pages),
      {}};
}

// Kascade attends to int(topk / 100 * length) tokens: the share that gives `tokens` at this length in double.
double share_of(int tokens, int length) {
  double share = 100.0 * tokens / length;
  while (static_cast<int>(share / 100 * length) < tokens) share = std::nextafter(share, 100.0);
  return share;
}

Exported to_kascade(const Config& config, const std::string& file, int context) {
  const auto& layers = config.schedule.layers;
  const Budget budget = one_budget(config.schedule, file, "kascade");
  const int tokens = budget.k_pages * page_size;
  constexpr int least_tokens = 128;
  if (budget.l_pages > 1)
    throw bad_input("{}: l_pages is {}: kascade has no recent window; calibrate with --l-pages 1", file,
                    budget.l_pages);
  if (tokens < least_tokens)
    throw bad_input(
        "{}: k_pages is {}: kascade attends to {} tokens at least; calibrate with --k-pages {} or more", file,
        budget.k_pages, least_tokens, least_tokens / page_size);
  if (context == 0)
    throw bad_input(
        "--to kascade: its budget is a share of the context; say with --context N at which length it shall "
        "be the {} tokens of {}",
        tokens, file);
  if (context <= tokens)
    throw bad_input("--context {}: kascade's budget is a share of it; the {} tokens of {} are not less",
                    context, tokens, file);
  std::vector<size_t> anchors{0};  // layer 0 is one whether it is named or not
  for (size_t i = 1; i < layers.size(); ++i) {
    if (layers[i].role == Role::delta) anchors.push_back(i);
    if (layers[i].role == Role::full)
      throw bad_input(
          "{}: layers[{}] is full: in kascade only layer 0 is; calibrate with --full-layers 0 or 1, or make "
          "it a "
          "delta layer with the list of the others in the config, and validate that",
          file, i);
  }
  Exported out{
      "",
      {fmt::format("it keeps {} tokens at a context of {}, in proportion at others ({} at least), where the "
                   "schedule keeps {} pages at all",
                   tokens, context, least_tokens, budget.k_pages),
       "it chooses single tokens by the sum over heads, not pages by the largest head, and has no "
       "recent window",
       "anchor layers above layer 0 attend to the tokens that they choose alone, and so does the prefill"}};
  out.text = fmt::format(
      "# A schedule for Kascade (arXiv 2512.16391): options of scripts/eval_script.py of\n"
      "# github.com/microsoft/kascade, as of commit 695b8c9c. One list for all heads (pooled_kascade).\n"
      "{}",
      made_from(config, file));
  for (const std::string& difference : out.differences)
    out.text += fmt::format("# Differs: {}.\n", difference);
  out.text += fmt::format(
      "#   source THIS_FILE; python scripts/eval_script.py --model_name ... \"${{kascade_options[@]}}\"\n"
      "kascade_options=(--strategies pooled_kascade --recompute_layers {} --topk {} --tile_size 1)\n",
      fmt::join(anchors, " "), share_of(tokens, context));
  return out;
}

}  // namespace

const std::vector<std::string>& export_names() {
  static const std::vector<std::string> names{"delta", "vllm", "sglang", "hf", "kascade"};
  return names;
}

Exported export_as(const std::string& name, const Config& config, const std::string& file, int context) {
  if (name != "delta" && name != "kascade")
    throw bad_input(
        "no form of {} that deltacal knows: none of its documented options says which layers choose pages "
        "and "
        "which layers use them; use --to delta or --to kascade",
        name);
  require_plain(config, file, name);
  return name == "delta" ? to_delta(config, file) : to_kascade(config, file, context);
}

}  // namespace deltacal::config
