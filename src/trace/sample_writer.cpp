#include "trace/sample_writer.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>

#include "core/hash.h"
#include "core/pages.h"
#include "trace/half.h"
#include "trace/layout.h"

namespace deltacal::trace {
namespace {

hsize_t extent(int n) {
  return static_cast<hsize_t>(n);
}

// Edges of edge_delta in one chunk, each with its values of all budgets: a schedule's edges are read one at a
// time, and chunks of a few deflate as well as larger ones.
int edges_in_chunk(size_t values_per_edge, int n_edges) {
  const size_t target = 32 << 10, edges = target / std::max<size_t>(1, values_per_edge * sizeof(uint16_t));
  return static_cast<int>(std::clamp<size_t>(edges, 1, static_cast<size_t>(n_edges)));
}

// Page maps [n_layers, max_steps, row...] in chunks of one layer and some steps.
template <class T>
LayerRows<T> create_rows(hid_t group, const char* name, h5::Type type, const h5::Shape& shape,
                         const FilterThreads& threads) {
  size_t bytes = sizeof(T);
  for (size_t d = 2; d < shape.size(); ++d) bytes *= shape[d];
  h5::Shape chunk = shape;
  chunk[0] = 1;
  chunk[1] = extent(steps_in_chunk(bytes, static_cast<int>(shape[1])));
  return LayerRows<T>(h5::Dataset::create(group, name, type, shape, chunk), threads);
}

template <class T>
void write_list(hid_t group, const char* name, h5::Type type, std::span<const T> values) {
  const h5::Shape shape{values.size()};
  const h5::Shape chunk{std::min<hsize_t>(values.size(), 1 << 16)};
  h5::Dataset::create(group, name, type, shape, values.empty() ? h5::Shape{} : chunk)
      .write({0}, shape, values.data());
}

// Attention is never negative; NaN or infinity means that the computation overflowed.
void require_finite(std::span<const float> values, const char* what, const SampleInfo& info, int layer) {
  for (const float v : values)
    if (!(v >= 0 && std::isfinite(v)))
      throw failure(
          "sample {}, layer {}: a {} is {}: the model's arithmetic overflowed. Try --device cpu --dtype f32.",
          info.id, layer, what, v);
}

// Mistakes of the caller, not of the user; a trace with a hole would be worse than no trace.
void require_use(bool right, const SampleInfo& info, std::string_view what) {
  if (!right)
    throw failure("sample {} was not recorded rightly: {}. This is a mistake in deltacal.", info.id, what);
}

void require_rows(const SampleWriter::Impl& to, int layer, int first_row, int n_rows, int n_pages,
                  int written, size_t values_expected, size_t values) {
  const SampleInfo& info = to.plan.info;
  require_use(layer >= 0 && layer < to.n_layers, info, "no such layer");
  require_use(n_pages >= 1 && n_pages <= to.max_pages, info, "more pages than planned");
  require_use(n_rows >= 0 && first_row == written, info, "the rows of a layer do not follow one another");
  require_use(first_row + n_rows <= to.plan.max_steps, info, "more rows than planned");
  require_use(values == values_expected, info, "the values are not those of its rows");
}

// [E, n_layers, n_layers] with its attributes.
void write_edge_kl(hid_t group, int n_layers, const std::vector<PageBudget>& budgets,
                   const std::vector<float>& kl) {
  std::vector<int64_t> k_pages, l_pages;
  for (const PageBudget& budget : budgets)
    k_pages.push_back(budget.k_pages), l_pages.push_back(budget.l_pages);
  const hsize_t layers = extent(n_layers);
  const h5::Shape shape{budgets.size(), layers, layers};
  h5::Dataset dataset = h5::Dataset::create(group, "edge_kl", h5::Type::f32, shape, {1, layers, layers});
  dataset.write({0, 0, 0}, shape, kl.data());
  h5::write_attribute(dataset.get(), "k_pages", k_pages);
  h5::write_attribute(dataset.get(), "l_pages", l_pages);
}

// [n_gradients, n_budgets, n_edges, n_steps] in chunks of some edges, compressed by several threads.
void write_edge_delta(hid_t group, const h5::Shape& shape, std::span<const uint16_t> delta,
                      const FilterThreads& threads) {
  const size_t n_budgets = shape[1], n_edges = shape[2], n_steps = shape[3];
  const size_t in_chunk = size_t(edges_in_chunk(n_budgets * n_steps, static_cast<int>(n_edges)));
  h5::Dataset dataset =
      h5::Dataset::create(group, "edge_delta", h5::Type::f16, shape, {1, n_budgets, in_chunk, n_steps});
  ChunkQueue queue(threads);
  for (size_t gradient = 0; gradient < shape[0]; ++gradient)
    for (size_t first = 0; first < n_edges; first += in_chunk) {
      const size_t row = n_steps * sizeof(uint16_t), n = std::min(in_chunk, n_edges - first);
      // A chunk is written whole: edges that are not there are 0, as HDF5 fills them.
      std::vector<std::byte> bytes(n_budgets * in_chunk * row);
      for (size_t budget = 0; budget < n_budgets; ++budget)
        std::memcpy(&bytes[budget * in_chunk * row],
                    &delta[((gradient * n_budgets + budget) * n_edges + first) * n_steps], n * row);
      queue.write(dataset, {gradient, 0, first, 0}, std::move(bytes), sizeof(uint16_t));
    }
  queue.finish(dataset);
}

void write_rankings(hid_t sample, int n_layers, const EdgeSensitivity& edges) {
  if (edges.rankings.empty()) return;
  const h5::Id all = h5::create_group(sample, "rankings");
  for (const auto& [ranking, kl, list_made_at] : edges.rankings) {
    const h5::Id group = h5::create_group(all.get(), group_name(ranking));
    h5::write_attribute(group.get(), "page", name_of(ranking.page));
    h5::write_attribute(group.get(), "refresh_interval", int64_t{ranking.refresh_interval});
    write_edge_kl(group.get(), n_layers, edges.budgets, kl);
    if (!ranking.refresh_below) continue;
    const h5::Shape shape{extent(n_layers), list_made_at.size() / size_t(n_layers)};
    h5::Dataset::create(group.get(), "list_made_at", h5::Type::i32, shape, {1, shape[1]})
        .write({0, 0}, shape, list_made_at.data());
  }
}

}  // namespace

SampleWriter::Impl::Impl(std::string path_, std::string temporary_, const SamplePlan& plan_,
                         const ModelInfo& model, const Provenance& provenance, const std::string& options,
                         const FilterThreads& filter_threads)
    : path(std::move(path_)),
      temporary(std::move(temporary_)),
      plan(plan_),
      n_layers(model.n_layers),
      n_kv_heads(model.n_kv_heads),
      max_pages(pages_for(plan_.max_tokens)),
      threads(filter_threads),
      file(temporary) {
  require_use(plan.max_tokens >= 1 && plan.max_steps >= 1, plan.info,
              "it was planned without tokens or steps");
  write_head(file.get(), provenance, options);
  write_model(file.get(), model);
  const h5::Id samples = h5::create_group(file.get(), "samples");
  group = h5::create_group(samples.get(), sample_name(0));
  const hsize_t layers = extent(n_layers), steps = extent(plan.max_steps), pages = extent(max_pages);
  score = create_rows<float>(group.get(), "page_score", h5::Type::f32, {layers, steps, pages}, threads);
  mass = create_rows<uint16_t>(group.get(), "page_mass", h5::Type::f16, {layers, steps, pages}, threads);
  if (plan.group_mass)
    group_mass = create_rows<uint16_t>(group.get(), "group_mass", h5::Type::f16,
                                       {layers, steps, extent(n_kv_heads), pages}, threads);
  file.check();
}

SampleWriter::Impl::~Impl() {
  if (!finished) ::unlink(temporary.c_str());
}

SampleWriter::SampleWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SampleWriter::SampleWriter(SampleWriter&&) noexcept = default;
SampleWriter::~SampleWriter() = default;

void SampleWriter::write_pages(int layer, int first_row, int n_rows, int n_pages,
                               std::span<const float> score, std::span<const float> mass) {
  Impl& to = *impl_;
  require_use(layer >= 0 && layer < to.n_layers, to.plan.info, "no such layer");
  const size_t width = static_cast<size_t>(n_pages), n_values = static_cast<size_t>(n_rows) * width;
  require_rows(to, layer, first_row, n_rows, n_pages, to.score.rows(layer), n_values, score.size());
  require_use(mass.size() == n_values, to.plan.info, "the values are not those of its rows");
  require_finite(score, "page score", to.plan.info, layer);
  require_finite(mass, "page mass", to.plan.info, layer);
  writing(to.path, [&] {
    for (size_t row = 0; row < static_cast<size_t>(n_rows); ++row) {
      std::ranges::copy(score.subspan(row * width, width), to.score.append(layer));
      to_half(mass.subspan(row * width, width), std::span(to.mass.append(layer), width));
    }
    to.file.check();
  });
}

void SampleWriter::write_group_mass(int layer, int first_row, int n_rows, int n_pages,
                                    std::span<const float> group_mass) {
  Impl& to = *impl_;
  require_use(to.plan.group_mass, to.plan.info, "group mass was not planned");
  require_use(layer >= 0 && layer < to.n_layers, to.plan.info, "no such layer");
  const size_t width = static_cast<size_t>(n_pages), n_groups = static_cast<size_t>(to.n_kv_heads);
  require_rows(to, layer, first_row, n_rows, n_pages, to.group_mass.rows(layer),
               static_cast<size_t>(n_rows) * n_groups * width, group_mass.size());
  require_finite(group_mass, "group mass", to.plan.info, layer);
  writing(to.path, [&] {
    for (size_t row = 0; row < static_cast<size_t>(n_rows); ++row) {
      uint16_t* out = to.group_mass.append(layer);  // [n_kv_heads, max_pages]
      for (size_t g = 0; g < n_groups; ++g)
        to_half(group_mass.subspan((row * n_groups + g) * width, width),
                std::span(out + g * static_cast<size_t>(to.max_pages), width));
    }
    to.file.check();
  });
}

void SampleWriter::write_sensitivity(const EdgeSensitivity& edges, std::span<const float> delta) {
  Impl& to = *impl_;
  const size_t n_layers = static_cast<size_t>(to.n_layers), n_edges = n_layers * (n_layers + 1) / 2;
  const size_t n_budgets = edges.budgets.size(),
               n_rows = static_cast<size_t>(edges.n_gradients) * n_budgets * n_edges;
  require_use(n_rows > 0 && !delta.empty() && delta.size() % n_rows == 0 &&
                  edges.kl.size() == n_budgets * n_layers * n_layers,
              to.plan.info, "its sensitivities are not those of its layers and budgets");
  for (const RankedKl& other : edges.rankings) {
    require_use(other.kl.size() == edges.kl.size(), to.plan.info,
                "a ranking's sensitivities are not those of its layers and budgets");
    require_use(other.list_made_at.empty() != other.ranking.refresh_below.has_value() &&
                    other.list_made_at.size() % n_layers == 0,
                to.plan.info, "a ranking's lists are not those of its layers");
    if (std::ranges::any_of(other.kl, [](float kl) { return std::isinf(kl); }))
      throw failure(
          "sample {}: a predicted KL under the ranking {} is infinite: the model's arithmetic overflowed. Try "
          "--dtype f32.",
          to.plan.info.id, name_of(other.ranking));
  }
  std::vector<uint16_t> halves(delta.size());
  to_half(delta, halves);
  for (size_t i = 0; i < delta.size(); ++i)
    if (!std::isfinite(from_half(halves[i])))
      throw failure(
          "sample {}: a page selection is predicted to change a step's loss by {} nats: the model's "
          "arithmetic overflowed. Try --device cpu --dtype f32.",
          to.plan.info.id, delta[i]);
  to.sensitivity_steps = static_cast<int>(delta.size() / n_rows);
  for (const RankedKl& other : edges.rankings)
    if (other.ranking.refresh_below)
      to.list_steps.push_back(static_cast<int>(other.list_made_at.size() / n_layers));
  const hsize_t steps = extent(to.sensitivity_steps);
  writing(to.path, [&] {
    write_edge_kl(to.group.get(), to.n_layers, edges.budgets, edges.kl);
    write_rankings(to.group.get(), to.n_layers, edges);
    write_edge_delta(to.group.get(), {extent(edges.n_gradients), n_budgets, n_edges, steps}, halves,
                     to.threads);
    to.file.check();
  });
}

void SampleWriter::finish(std::span<const int32_t> token_ids, std::span<const int32_t> steps,
                          std::span<const int32_t> burst, std::span<const float> nll) {
  Impl& to = *impl_;
  SampleInfo& info = to.plan.info;
  require_use(!token_ids.empty() && token_ids.size() <= static_cast<size_t>(to.plan.max_tokens), info,
              "it has no tokens, or more than planned");
  require_use(steps.size() <= static_cast<size_t>(to.plan.max_steps), info, "more steps than planned");
  require_use(nll.size() + 1 == token_ids.size(), info, "nll has not one value for each token but the first");
  info.n_tokens = static_cast<int>(token_ids.size());
  info.sha256 = sha256_of_tokens(token_ids);
  require_use(burst.size() == steps.size(), info, "burst and steps differ in length");
  const std::string fault = steps_fault(steps, burst, info);
  require_use(fault.empty(), info, fault);
  for (const float value : nll)
    if (!std::isfinite(value))
      throw failure(
          "sample {}: a loss is {}: the model's arithmetic overflowed. Try --device cpu --dtype f32.",
          info.id, value);
  const int n_steps = static_cast<int>(steps.size());
  require_use(to.sensitivity_steps < 0 || to.sensitivity_steps == n_steps, info,
              "its sensitivities are of other steps");
  for (const int steps_of_lists : to.list_steps)
    require_use(steps_of_lists == static_cast<int>(token_ids.size()) - info.n_prompt_tokens, info,
                "a ranking's lists are of other steps");
  for (int layer = 0; layer < to.n_layers; ++layer)
    require_use(
        to.score.rows(layer) >= n_steps && (!to.plan.group_mass || to.group_mass.rows(layer) >= n_steps),
        info, "a layer has fewer rows than steps");

  const hsize_t layers = extent(to.n_layers), pages = extent(pages_for(info.n_tokens));
  writing(to.path, [&] {
    to.score.finish({layers, steps.size(), pages});
    to.mass.finish({layers, steps.size(), pages});
    if (to.plan.group_mass) to.group_mass.finish({layers, steps.size(), extent(to.n_kv_heads), pages});
    write_info(to.group.get(), info);
    write_list(to.group.get(), "token_ids", h5::Type::i32, token_ids);
    write_list(to.group.get(), "steps", h5::Type::i32, steps);
    write_list(to.group.get(), "burst", h5::Type::i32, burst);
    write_list(to.group.get(), "nll", h5::Type::f32, nll);
    to.score = {}, to.mass = {}, to.group_mass = {};
    to.group.reset();
    to.file.close();
  });
  if (::rename(to.temporary.c_str(), to.path.c_str()) != 0)
    throw failure("cannot rename {} to {}: {}", to.temporary, to.path, std::strerror(errno));
  to.finished = true;
}

}  // namespace deltacal::trace
