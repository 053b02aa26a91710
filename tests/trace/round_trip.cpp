#include <array>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>

#include "core/error.h"
#include "core/hash.h"
#include "made.h"

using namespace deltacal;
using namespace deltacal::trace;
using namespace deltacal::trace::testing;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("trace: what was written is read, to the last bit") {
  const Folder folder;
  const std::string path = folder / "trace.h5";
  const ModelInfo model = small_model();
  std::vector<Sample> samples = {make_sample(1, 333, model), make_sample(2, 1000, model, true),
                                 make_sample(3, 17, model)};
  samples[1].info.parts = {"gsm8k/1", "question:\"naïve\"\n"};
  for (int i = 0; i < 2000; ++i)
    samples[2].info.parts.push_back("question:" + std::string(64, 'f'));  // 150 kB
  write_trace(path, model, samples, {{"steps", "all"}, {"data", "hash"}});
  CHECK(holds(path, samples));

  const Reader trace(path);
  CHECK(trace.path() == path);
  CHECK(trace.model().name == "tiny random");
  CHECK(trace.model().sha256 == model.sha256);
  CHECK(geometry_difference(trace.model(), model).empty());
  CHECK(trace.model().max_context == 4096);
  CHECK(trace.model().dtype == "f32");
  CHECK(trace.provenance().command == "deltacal profile");
  CHECK(trace.provenance().seed == 7);
  CHECK(trace.info(1).sha256 == sha256_of_tokens(samples[1].token_ids));
  CHECK(nlohmann::json::parse(trace.options()) == nlohmann::json{{"steps", "all"}, {"data", "hash"}});
  CHECK_FALSE(std::filesystem::exists(path + ".partial"));
}

TEST_CASE("trace: a block of layers and steps is that part of the whole") {
  const Folder folder;
  const ModelInfo model = small_model(5);
  const Sample s = make_sample(4, 700, model, true);
  write_trace(folder / "t.h5", model, {s});
  const Reader trace(folder / "t.h5");
  const int n_steps = static_cast<int>(s.steps.size());
  for (const auto& [layer, n_layers, step, n] :
       {std::array{0, 5, 0, n_steps}, {2, 2, 11, 30}, {4, 1, n_steps - 1, 1}}) {
    const PageMaps maps = trace.pages(0, layer, n_layers, step, n);
    const std::vector<float> groups = trace.group_mass(0, layer, n_layers, step, n);
    int wrong = 0;
    for (int l = 0; l < n_layers; ++l)
      for (int t = 0; t < n; ++t)
        for (int u = 0; u < s.n_pages; ++u) {
          const size_t row = static_cast<size_t>((layer + l) * n_steps + step + t);
          const size_t at = row * static_cast<size_t>(s.n_pages) + static_cast<size_t>(u);
          const size_t page = static_cast<size_t>(u);
          wrong += maps.score_at(l, t)[page] != s.score[at] || maps.mass_at(l, t)[page] != s.mass[at];
          for (int g = 0; g < s.n_kv_heads; ++g)
            wrong += groups[static_cast<size_t>(((l * n + t) * s.n_kv_heads + g) * s.n_pages + u)] !=
                     s.group_mass[(row * static_cast<size_t>(s.n_kv_heads) + static_cast<size_t>(g)) *
                                      static_cast<size_t>(s.n_pages) +
                                  page];
        }
    CHECK(wrong == 0);
  }
}

TEST_CASE("trace: a sample longer than a chunk is the same however its rows came") {
  const Folder folder;
  const ModelInfo model = small_model(2);
  const Sample s = make_sample(5, 6000, model);  // 375 pages: 349 steps a chunk of the scores
  REQUIRE(s.steps.size() > 2000);
  for (const int piece : {1, 256, 349, 350}) {
    const std::string path = folder / ("t" + std::to_string(piece) + ".h5");
    Writer writer(path, Writer::Start::fresh, model, {}, {});
    SampleWriter sample = writer.begin(0, plan_of(s));
    const int n_steps = static_cast<int>(s.steps.size());
    for (int first = 0; first < n_steps; first += piece)
      write_rows(sample, s, first, std::min(piece, n_steps - first));
    sample.finish(s.token_ids, s.steps, s.burst, s.nll);
    writer.finish();
    CHECK(holds(path, {s}));
  }
}

TEST_CASE("trace: decoding that ends early leaves what was decoded: 100 steps planned, 37 became") {
  const Folder folder;
  const ModelInfo model = small_model();
  Sample s = make_sample(6, 337, model, true);
  // Keep the first 37 steps and the tokens up to the last of them.
  const size_t n_before = s.steps.size(), n = 37;
  REQUIRE(n_before > 100);
  Sample cut = s;
  cut.steps.resize(n), cut.burst.resize(n);
  cut.info.n_tokens = cut.steps.back() + 1;
  cut.n_pages = pages_for(cut.info.n_tokens);
  REQUIRE(cut.n_pages < s.n_pages);
  cut.token_ids.resize(static_cast<size_t>(cut.info.n_tokens));
  cut.nll.resize(cut.token_ids.size() - 1);
  const auto keep = [&](const std::vector<float>& from, size_t inner) {
    std::vector<float> kept;
    for (size_t layer = 0; layer < 3; ++layer)
      for (size_t row = 0; row < n * inner; ++row)
        for (size_t u = 0; u < static_cast<size_t>(cut.n_pages); ++u)
          kept.push_back(from[(layer * n_before * inner + row) * static_cast<size_t>(s.n_pages) + u]);
    return kept;
  };
  cut.score = keep(s.score, 1), cut.mass = keep(s.mass, 1), cut.group_mass = keep(s.group_mass, 2);

  Writer writer(folder / "t.h5", Writer::Start::fresh, model, {}, {});
  SamplePlan plan = plan_of(s);
  plan.max_steps = 100;
  SampleWriter sample = writer.begin(0, plan);
  write_rows(sample, s, 0, 20);
  write_rows(sample, s, 20, 17);
  sample.finish(cut.token_ids, cut.steps, cut.burst, cut.nll);
  writer.finish();
  CHECK(holds(folder / "t.h5", {cut}));
}

TEST_CASE("trace: a sample without steps and one of a single token are kept") {
  const Folder folder;
  const ModelInfo model = small_model();
  Writer writer(folder / "t.h5", Writer::Start::fresh, model, {}, {});
  SampleInfo info;
  info.id = "x", info.mode = "decode";
  SampleWriter sample = writer.begin(0, {.info = info, .max_tokens = 40, .max_steps = 9});
  sample.finish(std::vector<int32_t>{11}, {}, {}, {});
  writer.finish();
  const Reader trace(folder / "t.h5");
  CHECK(trace.token_ids(0) == std::vector<int32_t>{11});
  CHECK(trace.steps(0).empty());
  CHECK(trace.nll(0).empty());
  CHECK(trace.pages(0, 0, 3, 0, 0).score.empty());
}

TEST_CASE("trace: the rows of a layer must be whole, in order and finite") {
  const Folder folder;
  const ModelInfo model = small_model();
  const Sample s = make_sample(8, 100, model);
  Writer writer(folder / "t.h5", Writer::Start::fresh, model, {}, {});
  SampleWriter sample = writer.begin(0, plan_of(s));
  const std::vector<float> two(2, 0.5f), three(3, 0.5f);
  sample.write_pages(1, 0, 1, 2, two, two);
  CHECK_THROWS_WITH(sample.write_pages(1, 2, 1, 2, two, two), ContainsSubstring("follow"));
  CHECK_THROWS_WITH(sample.write_pages(1, 0, 1, 2, two, two), ContainsSubstring("follow"));
  CHECK_THROWS_WITH(sample.write_pages(3, 0, 1, 2, two, two), ContainsSubstring("no such layer"));
  CHECK_THROWS_WITH(sample.write_pages(0, 0, 1, 2, two, three), ContainsSubstring("values"));
  CHECK_THROWS_WITH(sample.write_pages(0, 0, 1, 3, two, two), ContainsSubstring("values"));
  const std::vector<float> many(99, 0.5f);
  CHECK_THROWS_WITH(sample.write_pages(0, 0, 1, 99, many, many), ContainsSubstring("more pages"));
  CHECK_THROWS_WITH(sample.write_group_mass(0, 0, 1, 2, two), ContainsSubstring("not planned"));
  const std::vector<float> bad = {0.5f, std::numeric_limits<float>::quiet_NaN()};
  CHECK_THROWS_WITH(sample.write_pages(0, 0, 1, 2, bad, two), ContainsSubstring("page score is nan"));
  CHECK_THROWS_WITH(sample.write_pages(0, 0, 1, 2, two, bad), ContainsSubstring("--dtype f32"));
  CHECK_THROWS_WITH(sample.finish(s.token_ids, s.steps, s.burst, s.nll), ContainsSubstring("fewer rows"));
  std::vector<int32_t> steps = {90, 30};
  CHECK_THROWS_WITH(sample.finish(s.token_ids, steps, steps, s.nll), ContainsSubstring("not ascending"));
}

TEST_CASE("trace: a sample that is not finished leaves no file") {
  const Folder folder;
  const ModelInfo model = small_model();
  const Sample s = make_sample(8, 100, model);
  Writer writer(folder / "t.h5", Writer::Start::fresh, model, {}, {});
  {
    SampleWriter sample = writer.begin(0, plan_of(s));
    write_rows(sample, s, 0, 5);
  }
  CHECK_FALSE(writer.has(0));
  CHECK(std::distance(std::filesystem::directory_iterator(folder / "t.h5.partial"), {}) == 1);  // plan.json
  CHECK_THROWS_WITH(writer.finish(), ContainsSubstring("no sample"));
}

namespace {

// Sensitivities of a sample: multiples of 2^-11, exact as halves.
EdgeSensitivity make_sensitivity(int n_layers, const Sample& sample, std::vector<float>& delta) {
  const int n_steps = static_cast<int>(sample.steps.size()), first_step = sample.info.n_prompt_tokens;
  std::mt19937 random(8);
  EdgeSensitivity edges{{{4, 1}, {4, 2}, {8, 1}}, 2, {}, {}};
  const auto make_kl = [&] {
    std::vector<float> kl;
    for (size_t e = 0; e < edges.budgets.size(); ++e)
      for (int target = 0; target < n_layers; ++target)
        for (int source = 0; source < n_layers; ++source)
          kl.push_back(source > target ? NAN : exact_value(random));
    return kl;
  };
  edges.kl = make_kl();
  // In the order of their names, as they come back.
  edges.rankings = {{{PageScore::sum, 1, -0.5}, make_kl()},
                    {{PageScore::max, 1}, make_kl()},
                    {{PageScore::sum, 4}, make_kl()}};
  for (int layer = 0; layer < n_layers; ++layer)
    for (int t = first_step; t < sample.info.n_tokens; ++t)
      edges.rankings[0].list_made_at.push_back(std::max(first_step, t - t % (layer + 2)));
  const size_t n_edges = size_t(n_layers * (n_layers + 1) / 2);
  delta.resize(2 * edges.budgets.size() * n_edges * size_t(n_steps));
  for (float& d : delta) d = exact_value(random) - 0.5f;
  return edges;
}

void write_with_sensitivity(const std::string& path, const ModelInfo& model, const Sample& sample,
                            const EdgeSensitivity& edges, const std::vector<float>& delta) {
  Writer writer(path, Writer::Start::fresh, model, {}, {});
  SampleWriter to = writer.begin(0, plan_of(sample));
  write_rows(to, sample, 0, static_cast<int>(sample.steps.size()));
  to.write_sensitivity(edges, delta);
  to.finish(sample.token_ids, sample.steps, sample.burst, sample.nll);
  writer.finish();
}

}  // namespace

TEST_CASE("trace: sensitivities come back by sample, budget and edge, also after a merge") {
  const Folder folder;
  const ModelInfo model = small_model();
  const Sample sample = make_sample(4, 333, model), plain = make_sample(5, 100, model);
  const int n_steps = static_cast<int>(sample.steps.size());
  std::vector<float> delta;
  const EdgeSensitivity edges = make_sensitivity(3, sample, delta);
  write_with_sensitivity(folder / "a.h5", model, sample, edges, delta);
  write_trace(folder / "b.h5", model, {plain});
  merge({folder / "b.h5", folder / "a.h5"}, folder / "all.h5", Existing::refuse, {});

  const Reader trace(folder / "all.h5");
  CHECK_FALSE(trace.has_sensitivity(0));
  REQUIRE(trace.has_sensitivity(1));
  const EdgeSensitivity found = trace.sensitivity(1);
  CHECK(found.budgets == edges.budgets);
  CHECK(found.n_gradients == 2);
  const auto equal = [](const std::vector<float>& a, const std::vector<float>& b) {
    return std::ranges::equal(a, b, [](float x, float y) { return x == y || (std::isnan(x) && std::isnan(y)); });
  };
  CHECK(equal(found.kl, edges.kl));
  REQUIRE(found.rankings.size() == 3);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(found.rankings[i].ranking == edges.rankings[i].ranking);
    CHECK(trace.rankings(1)[i] == edges.rankings[i].ranking);
    if (edges.rankings[i].ranking.refresh_below)
      CHECK(trace.list_made_at(1, edges.rankings[i].ranking) == edges.rankings[i].list_made_at);
    CHECK(equal(found.rankings[i].kl, edges.rankings[i].kl));
  }
  CHECK_FALSE(equal(edges.rankings[0].kl, edges.kl));
  // Second set of labels, second and third budget, edges 3 and 4.
  const auto part = trace.edge_delta(1, 1, 1, 2, 3, 2);
  std::vector<float> expected;
  for (const int budget : {1, 2}) {
    const auto first = delta.begin() + (1 * 3 + budget) * 6 * n_steps + 3 * n_steps;
    expected.insert(expected.end(), first, first + 2 * n_steps);
  }
  CHECK(part == expected);
}

TEST_CASE("trace: changes of edges come back where they fill several chunks, the last in part") {
  const Folder folder;
  const ModelInfo model = small_model();
  // 1,310 steps of three budgets are 8 KB an edge: four of the six edges are a chunk of 32.
  const Sample sample = make_sample(4, 3500, model);
  const int n_steps = static_cast<int>(sample.steps.size()), n_edges = 6;
  REQUIRE(n_steps == 1310);
  std::vector<float> delta;
  const EdgeSensitivity edges = make_sensitivity(3, sample, delta);
  write_with_sensitivity(folder / "a.h5", model, sample, edges, delta);
  const Reader trace(folder / "a.h5");
  for (int gradient = 0; gradient < 2; ++gradient)
    for (int budget = 0; budget < 3; ++budget)
      for (int edge = 0; edge < n_edges; ++edge) {
        CAPTURE(gradient, budget, edge);
        const auto first = delta.begin() + ((gradient * 3 + budget) * n_edges + edge) * n_steps;
        CHECK(trace.edge_delta(0, gradient, budget, 1, edge, 1) ==
              std::vector<float>(first, first + n_steps));
      }
}

TEST_CASE("trace: sensitivities of other steps, layers or without a value are not written") {
  const Folder folder;
  const ModelInfo model = small_model();
  const Sample sample = make_sample(4, 333, model);
  const int n_steps = static_cast<int>(sample.steps.size());
  const auto refused = [&](const std::function<void(EdgeSensitivity&, std::vector<float>&)>& spoil) {
    std::vector<float> delta;
    EdgeSensitivity edges = make_sensitivity(3, sample, delta);
    spoil(edges, delta);
    Writer writer(folder / "a.h5", Writer::Start::replace, model, {}, {});
    SampleWriter to = writer.begin(0, plan_of(sample));
    write_rows(to, sample, 0, n_steps);
    try {
      to.write_sensitivity(edges, delta);
      to.finish(sample.token_ids, sample.steps, sample.burst, sample.nll);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  CHECK(refused([](auto&, auto&) {}).empty());
  CHECK_THAT(refused([](auto&, auto& delta) { delta.resize(delta.size() - 6 * 2 * 3); }), ContainsSubstring("other steps"));
  CHECK_THAT(refused([](auto&, auto& delta) { delta.pop_back(); }), ContainsSubstring("not those of its layers"));
  CHECK_THAT(refused([](auto& edges, auto&) { edges.kl.pop_back(); }), ContainsSubstring("not those of its layers"));
  CHECK_THAT(refused([](auto& edges, auto&) { edges.rankings[2].kl.pop_back(); }),
             ContainsSubstring("a ranking's"));
  CHECK_THAT(refused([](auto& edges, auto&) { edges.rankings[0].list_made_at.pop_back(); }),
             ContainsSubstring("a ranking's lists"));
  CHECK_THAT(refused([](auto& edges, auto&) { edges.rankings[0].list_made_at.resize(3); }),
             ContainsSubstring("a ranking's lists"));
  CHECK_THAT(refused([](auto& edges, auto&) { edges.rankings[1].list_made_at.resize(3); }),
             ContainsSubstring("a ranking's lists"));
  CHECK_THAT(refused([](auto& edges, auto&) { edges.rankings[2].kl[0] = INFINITY; }),
             ContainsSubstring("under the ranking refresh:4 is infinite"));
  CHECK_THAT(refused([](auto&, auto& delta) { delta[7] = INFINITY; }), ContainsSubstring("overflowed"));
  CHECK_THAT(refused([](auto&, auto& delta) { delta[7] = 1e6f; }), ContainsSubstring("1000000 nats"));
}

TEST_CASE("trace: h5py reads texts as str, numbers as integers, masses as float16") {
  const Folder folder;
  const ModelInfo model = small_model();
  write_trace(folder / "t.h5", model, {make_sample(1, 333, model, true), make_sample(2, 17, model)});
  const std::string command =
      std::string("python3 " TEST_DATA "/read_with_h5py.py ") + (folder / "t.h5") + " > " + (folder / "out");
  const int status = std::system(command.c_str());
  REQUIRE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77 || WEXITSTATUS(status) == 127) SKIP("python3 with h5py is not installed");
  CHECK(WEXITSTATUS(status) == 0);
}
