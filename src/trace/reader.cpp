#include <algorithm>
#include <cassert>
#include <cmath>
#include <filesystem>
#include <mutex>

#include "core/error.h"
#include "core/hash.h"
#include "core/pages.h"
#include "trace/half.h"
#include "trace/layout.h"

namespace deltacal::trace {
namespace {

hsize_t extent(int n) {
  return static_cast<hsize_t>(n);
}

// HDF5 keeps this much of the open page maps decompressed: all layers of a run of steps are often read in
// pieces.
constexpr size_t page_cache_bytes = size_t{32} << 20;

struct Sample {
  SampleInfo info;
  int n_steps = 0;
  bool has_group_mass = false;
  std::vector<PageBudget> edge_budgets;  // [E]; empty without sensitivities
  std::vector<Ranking> rankings;         // with an edge_kl of their own
  int n_gradients = 0;
};

void require_shape(const h5::Dataset& dataset, const char* name, const h5::Shape& expected) {
  if (dataset.shape() != expected)
    throw h5::Fault(fmt::format("dataset {} has shape {}, expected {} by the attributes", name,
                                h5::text(dataset.shape()), h5::text(expected)));
}

template <class T>
std::vector<T> read_list(hid_t group, const char* name, h5::Type type, int length) {
  const h5::Dataset dataset = h5::Dataset::open(group, name, type);
  const h5::Shape shape{extent(length)};
  require_shape(dataset, name, shape);
  std::vector<T> values(static_cast<size_t>(length));
  dataset.read({0}, shape, values.data());
  return values;
}

int length_of(hid_t group, const char* name, h5::Type type) {
  const h5::Dataset dataset = h5::Dataset::open(group, name, type);
  if (dataset.shape().size() != 1 || dataset.shape()[0] > (1u << 30))
    throw h5::Fault(fmt::format("dataset {} has shape {}, expected a list", name, h5::text(dataset.shape())));
  return static_cast<int>(dataset.shape()[0]);
}

// K and L of an edge_kl, whose shape they decide.
std::vector<PageBudget> check_edge_kl(hid_t group, const ModelInfo& model) {
  const h5::Dataset kl = h5::Dataset::open(group, "edge_kl", h5::Type::f32);
  const auto k_pages = h5::read_integers(kl.get(), "k_pages"),
             l_pages = h5::read_integers(kl.get(), "l_pages");
  if (k_pages.size() != l_pages.size() || k_pages.empty())
    throw h5::Fault(
        fmt::format("edge_kl: {} values of k_pages, {} of l_pages", k_pages.size(), l_pages.size()));
  std::vector<PageBudget> budgets;
  for (size_t e = 0; e < k_pages.size(); ++e) {
    if (l_pages[e] < 1 || l_pages[e] > k_pages[e] || k_pages[e] > (1 << 26))
      throw h5::Fault(
          fmt::format("edge_kl: K = {}, L = {} is no selection of pages", k_pages[e], l_pages[e]));
    budgets.push_back({static_cast<int>(k_pages[e]), static_cast<int>(l_pages[e])});
  }
  const hsize_t layers = extent(model.n_layers);
  require_shape(kl, "edge_kl", {k_pages.size(), layers, layers});
  return budgets;
}

// The rankings recorded beside {sum, 1}, each for the same K and L.
void check_rankings(hid_t group, const ModelInfo& model, Sample& sample) {
  if (!h5::exists(group, "rankings")) return;
  const h5::Id all = h5::open_group(group, "rankings");
  for (const std::string& name : h5::link_names(all.get())) {
    const h5::Id of_name = h5::open_group(all.get(), name);
    const Ranking ranking = ranking_of_group(name);
    const std::string page = h5::read_text(of_name.get(), "page");
    const int64_t interval = h5::read_integer(of_name.get(), "refresh_interval");
    if (page != name_of(ranking.page) || interval != ranking.refresh_interval)
      throw h5::Fault(fmt::format("rankings/{}: page \"{}\" and refresh_interval {} are not what it is named",
                                  name, page, interval));
    if (check_edge_kl(of_name.get(), model) != sample.edge_budgets)
      throw h5::Fault(fmt::format("rankings/{}: its K and L are not those of edge_kl", name));
    if (ranking.refresh_below)
      require_shape(h5::Dataset::open(of_name.get(), "list_made_at", h5::Type::i32), "list_made_at",
                    {extent(model.n_layers), extent(sample.info.n_tokens - sample.info.n_prompt_tokens)});
    sample.rankings.push_back(ranking);
  }
}

// The sensitivities of a sample, if it has some.
void check_sensitivity(hid_t group, const ModelInfo& model, Sample& sample) {
  if (!h5::exists(group, "edge_kl")) return;
  sample.edge_budgets = check_edge_kl(group, model);
  check_rankings(group, model, sample);
  const hsize_t layers = extent(model.n_layers);
  const h5::Dataset delta = h5::Dataset::open(group, "edge_delta", h5::Type::f16);
  if (delta.shape().empty() || delta.shape()[0] < 1 || delta.shape()[0] > (1 << 16))
    throw h5::Fault(fmt::format("dataset edge_delta has shape {}", h5::text(delta.shape())));
  sample.n_gradients = static_cast<int>(delta.shape()[0]);
  require_shape(delta, "edge_delta",
                {delta.shape()[0], sample.edge_budgets.size(), layers * (layers + 1) / 2, extent(sample.n_steps)});
}

// Every dataset is there, of its type, and of the shape that the attributes ask for.
Sample check_sample(hid_t group, const ModelInfo& model) {
  Sample sample;
  sample.info = read_info(group);
  sample.n_steps = length_of(group, "steps", h5::Type::i32);
  const auto steps_list = read_list<int32_t>(group, "steps", h5::Type::i32, sample.n_steps);
  const auto burst = read_list<int32_t>(group, "burst", h5::Type::i32, sample.n_steps);
  if (const std::string fault = steps_fault(steps_list, burst, sample.info); !fault.empty())
    throw h5::Fault(fault);
  const hsize_t n_tokens = extent(sample.info.n_tokens);
  require_shape(h5::Dataset::open(group, "token_ids", h5::Type::i32), "token_ids", {n_tokens});
  require_shape(h5::Dataset::open(group, "nll", h5::Type::f32), "nll", {n_tokens - 1});
  const hsize_t layers = extent(model.n_layers), steps = extent(sample.n_steps);
  const hsize_t pages = extent(pages_for(sample.info.n_tokens));
  require_shape(h5::Dataset::open(group, "page_score", h5::Type::f32), "page_score", {layers, steps, pages});
  require_shape(h5::Dataset::open(group, "page_mass", h5::Type::f16), "page_mass", {layers, steps, pages});
  sample.has_group_mass = h5::exists(group, "group_mass");
  if (sample.has_group_mass)
    require_shape(h5::Dataset::open(group, "group_mass", h5::Type::f16), "group_mass",
                  {layers, steps, extent(model.n_kv_heads), pages});
  check_sensitivity(group, model, sample);
  return sample;
}

// What is wrong with a path before HDF5 sees it.
void require_hdf5(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) throw bad_input("trace {} does not exist", path);
  if (!std::filesystem::is_regular_file(path, error)) throw bad_input("trace {} is not a file", path);
  h5::be_quiet();
  if (H5Fis_hdf5(path.c_str()) <= 0)
    throw bad_input("{} cannot be read or is not an HDF5 file: give a trace.h5 that `deltacal profile` made",
                    path);
}

void require_finite(std::span<const float> values, const char* name) {
  for (const float value : values)
    if (!std::isfinite(value))
      throw h5::Fault(fmt::format("dataset {} holds a value that is not finite", name));
}

}  // namespace

std::span<const float> PageMaps::score_at(int layer, int step) const {
  assert(layer >= 0 && layer < n_layers && step >= 0 && step < n_steps);
  const size_t row = static_cast<size_t>(layer) * static_cast<size_t>(n_steps) + static_cast<size_t>(step);
  return std::span(score).subspan(row * static_cast<size_t>(n_pages), static_cast<size_t>(n_pages));
}

std::span<const float> PageMaps::mass_at(int layer, int step) const {
  assert(layer >= 0 && layer < n_layers && step >= 0 && step < n_steps);
  const size_t row = static_cast<size_t>(layer) * static_cast<size_t>(n_steps) + static_cast<size_t>(step);
  return std::span(mass).subspan(row * static_cast<size_t>(n_pages), static_cast<size_t>(n_pages));
}

struct Reader::Impl {
  explicit Impl(const std::string& path_) : path(path_) {
    require_hdf5(path);
    guarded(-1, [&] {
      file = std::make_unique<h5::Input>(path);
      provenance = read_head(file->get(), options);
      model = read_model(file->get());
      if (model.page_size != page_size)
        throw h5::Fault(fmt::format("page_size {} is not supported, only {}", model.page_size, page_size));
      if (!h5::exists(file->get(), "samples")) throw h5::Fault("group samples is missing");
      samples_group = h5::open_group(file->get(), "samples");
    });
    int n = 0;
    guarded(-1, [&] { n = h5::count_links(samples_group.get()); });
    for (int i = 0; i < n; ++i)
      guarded(i, [&] {
        if (!h5::exists(samples_group.get(), sample_name(i)))
          throw h5::Fault(fmt::format("it is missing, though there are {}", n));
        samples.push_back(check_sample(h5::open_group(samples_group.get(), sample_name(i)).get(), model));
      });
  }

  // Runs `read`; a Fault in it becomes bad_input with the path, the sample (-1: none) and advice.
  template <class F>
  void guarded(int sample, F&& read) const {
    try {
      read();
    } catch (const h5::Fault& fault) {
      const std::string where = sample < 0 ? path : path + ": sample " + sample_name(sample);
      throw bad_input("trace {}: {}. Give a trace of this version that is whole, or profile again.", where,
                      fault.what());
    }
  }

  const Sample& at(int sample) const {
    assert(sample >= 0 && sample < static_cast<int>(samples.size()));
    return samples[static_cast<size_t>(sample)];
  }

  h5::Id group(int sample) const { return h5::open_group(samples_group.get(), sample_name(sample)); }

  template <class T>
  std::vector<T> list(int sample, const char* name, h5::Type type, int length) const {
    const std::lock_guard lock(mutex);
    std::vector<T> values;
    guarded(sample, [&] { values = read_list<T>(group(sample).get(), name, type, length); });
    return values;
  }

  // The page maps of the sample read last stay open, so that their decompressed chunks stay in HDF5's cache.
  struct OpenMaps {
    int sample = -1;
    h5::Dataset score, mass, group_mass;
  };
  OpenMaps& maps_of(int sample) const {
    if (open_maps.sample == sample) return open_maps;
    open_maps = {};
    const h5::Id from = group(sample);
    OpenMaps opened;
    opened.sample = sample;
    opened.score = h5::Dataset::open(from.get(), "page_score", h5::Type::f32, page_cache_bytes);
    opened.mass = h5::Dataset::open(from.get(), "page_mass", h5::Type::f16, page_cache_bytes);
    if (at(sample).has_group_mass)
      opened.group_mass = h5::Dataset::open(from.get(), "group_mass", h5::Type::f16, page_cache_bytes);
    return open_maps = std::move(opened);
  }

  // [E, n_layers, n_layers]
  std::vector<float> edge_kl(hid_t from, const Sample& of) const {
    const size_t n = static_cast<size_t>(model.n_layers);
    std::vector<float> kl(of.edge_budgets.size() * n * n);
    h5::Dataset::open(from, "edge_kl", h5::Type::f32).read({0, 0, 0}, {of.edge_budgets.size(), n, n}, kl.data());
    for (size_t i = 0; i < kl.size(); ++i) {
      const size_t target = i / n % n, source = i % n;
      if (source <= target && !(kl[i] >= 0 && std::isfinite(kl[i])))
        throw h5::Fault(fmt::format("dataset edge_kl: layer {} under the list of layer {} has {}", target,
                                    source, kl[i]));
    }
    return kl;
  }

  // [n_layers, n_tokens - n_prompt_tokens]
  std::vector<int32_t> list_made_at(hid_t from, const Sample& of) const {
    const int first = of.info.n_prompt_tokens;
    const hsize_t n_layers = extent(model.n_layers), n_steps = extent(of.info.n_tokens - first);
    std::vector<int32_t> made(n_layers * n_steps);
    h5::Dataset::open(from, "list_made_at", h5::Type::i32).read({0, 0}, {n_layers, n_steps}, made.data());
    for (size_t i = 0; i < made.size(); ++i)
      if (const int t = first + static_cast<int>(i % n_steps); made[i] < first || made[i] > t)
        throw h5::Fault(
            fmt::format("dataset list_made_at: the list of position {} at position {}", made[i], t));
    return made;
  }

  // A block [n_layers, n_steps, row...] of a map, as floats.
  static std::vector<float> read_halves(const h5::Dataset& map, const h5::Shape& offset,
                                        const h5::Shape& count, const char* name) {
    size_t n = 1;
    for (const hsize_t c : count) n *= c;
    std::vector<uint16_t> halves(n);
    map.read(offset, count, halves.data());
    std::vector<float> values(n);
    from_half(halves, values);
    require_finite(values, name);
    return values;
  }

  std::string path, options = "null";
  Provenance provenance;
  ModelInfo model;
  std::vector<Sample> samples;
  std::unique_ptr<h5::Input> file;  // outlives all that is below
  h5::Id samples_group;
  mutable std::mutex mutex;  // of open_maps
  mutable OpenMaps open_maps;
};

Reader::Reader(const std::string& path) : impl_(std::make_unique<Impl>(path)) {}
Reader::~Reader() = default;
Reader::Reader(Reader&&) noexcept = default;

const std::string& Reader::path() const {
  return impl_->path;
}
const ModelInfo& Reader::model() const {
  return impl_->model;
}
Provenance Reader::provenance() const {
  return impl_->provenance;
}
const std::string& Reader::options() const {
  return impl_->options;
}
int Reader::n_samples() const {
  return static_cast<int>(impl_->samples.size());
}
const SampleInfo& Reader::info(int sample) const {
  return impl_->at(sample).info;
}
bool Reader::has_group_mass(int sample) const {
  return impl_->at(sample).has_group_mass;
}

std::vector<int32_t> Reader::token_ids(int sample) const {
  const SampleInfo& of = info(sample);
  auto ids = impl_->list<int32_t>(sample, "token_ids", h5::Type::i32, of.n_tokens);
  impl_->guarded(sample, [&] {
    if (sha256_of_tokens(ids) != of.sha256)
      throw h5::Fault("dataset token_ids does not have the hash in sha256");
  });
  return ids;
}

std::vector<int32_t> Reader::steps(int sample) const {
  return impl_->list<int32_t>(sample, "steps", h5::Type::i32, impl_->at(sample).n_steps);
}

std::vector<int32_t> Reader::burst(int sample) const {
  return impl_->list<int32_t>(sample, "burst", h5::Type::i32, impl_->at(sample).n_steps);
}

std::vector<float> Reader::nll(int sample) const {
  auto values = impl_->list<float>(sample, "nll", h5::Type::f32, info(sample).n_tokens - 1);
  impl_->guarded(sample, [&] { require_finite(values, "nll"); });
  return values;
}

PageMaps Reader::pages(int sample, int first_layer, int n_layers, int first_step, int n_steps) const {
  const Sample& of = impl_->at(sample);
  assert(first_layer >= 0 && n_layers >= 0 && n_layers <= impl_->model.n_layers - first_layer);
  assert(first_step >= 0 && n_steps >= 0 && n_steps <= of.n_steps - first_step);
  PageMaps maps{n_layers, n_steps, pages_for(of.info.n_tokens), {}, {}};
  const h5::Shape offset{extent(first_layer), extent(first_step), 0};
  const h5::Shape count{extent(n_layers), extent(n_steps), extent(maps.n_pages)};
  const std::lock_guard lock(impl_->mutex);
  impl_->guarded(sample, [&] {
    const Impl::OpenMaps& from = impl_->maps_of(sample);
    maps.score.resize(count[0] * count[1] * count[2]);
    from.score.read(offset, count, maps.score.data());
    require_finite(maps.score, "page_score");
    maps.mass = Impl::read_halves(from.mass, offset, count, "page_mass");
  });
  return maps;
}

bool Reader::has_sensitivity(int sample) const {
  return impl_->at(sample).n_gradients > 0;
}

EdgeSensitivity Reader::sensitivity(int sample) const {
  const Sample& of = impl_->at(sample);
  assert(of.n_gradients > 0);
  EdgeSensitivity edges{of.edge_budgets, of.n_gradients, {}, {}};
  const std::lock_guard lock(impl_->mutex);
  impl_->guarded(sample, [&] {
    const h5::Id group = impl_->group(sample);
    edges.kl = impl_->edge_kl(group.get(), of);
    for (const Ranking& ranking : of.rankings) {
      const h5::Id of_ranking = h5::open_group(group.get(), "rankings/" + group_name(ranking));
      edges.rankings.push_back({ranking, impl_->edge_kl(of_ranking.get(), of), {}});
    }
  });
  return edges;
}

const std::vector<Ranking>& Reader::rankings(int sample) const {
  return impl_->at(sample).rankings;
}

std::vector<int32_t> Reader::list_made_at(int sample, const Ranking& ranking) const {
  const Sample& of = impl_->at(sample);
  assert(ranking.refresh_below && std::ranges::find(of.rankings, ranking) != of.rankings.end());
  std::vector<int32_t> made;
  const std::lock_guard lock(impl_->mutex);
  impl_->guarded(sample, [&] {
    const h5::Id group = h5::open_group(impl_->group(sample).get(), "rankings/" + group_name(ranking));
    made = impl_->list_made_at(group.get(), of);
  });
  return made;
}

std::vector<float> Reader::edge_delta(int sample, int gradient, int first_budget, int n_budgets,
                                      int first_edge, int n_edges) const {
  const Sample& of = impl_->at(sample);
  assert(gradient >= 0 && gradient < of.n_gradients && first_budget >= 0 && n_budgets >= 0 &&
         n_budgets <= static_cast<int>(of.edge_budgets.size()) - first_budget);
  std::vector<float> values;
  const std::lock_guard lock(impl_->mutex);
  impl_->guarded(sample, [&] {
    const h5::Id group = impl_->group(sample);
    values = Impl::read_halves(h5::Dataset::open(group.get(), "edge_delta", h5::Type::f16),
                               {extent(gradient), extent(first_budget), extent(first_edge), 0},
                               {1, extent(n_budgets), extent(n_edges), extent(of.n_steps)}, "edge_delta");
  });
  return values;
}

std::vector<float> Reader::group_mass(int sample, int first_layer, int n_layers, int first_step,
                                      int n_steps) const {
  const Sample& of = impl_->at(sample);
  assert(of.has_group_mass);
  assert(first_layer >= 0 && n_layers >= 0 && n_layers <= impl_->model.n_layers - first_layer);
  assert(first_step >= 0 && n_steps >= 0 && n_steps <= of.n_steps - first_step);
  const h5::Shape offset{extent(first_layer), extent(first_step), 0, 0};
  const h5::Shape count{extent(n_layers), extent(n_steps), extent(impl_->model.n_kv_heads),
                        extent(pages_for(of.info.n_tokens))};
  std::vector<float> values;
  const std::lock_guard lock(impl_->mutex);
  impl_->guarded(sample, [&] {
    values = Impl::read_halves(impl_->maps_of(sample).group_mass, offset, count, "group_mass");
  });
  return values;
}

}  // namespace deltacal::trace
