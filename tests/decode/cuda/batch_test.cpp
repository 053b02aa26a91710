// Batches on a CUDA device: page maps recorded within a step's graph against those that an observer of the
// Decoder gets of the same tokens, and sequences that share a batch against the Decoder by itself.
#include "decode/batch.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <map>
#include <random>

#include "decode/choices.h"
#include "decode/scored_rows.h"
#include "decode/step_graph.h"
#include "support/device.h"
#include "tiny.h"

namespace deltacal::decode {
namespace {

std::vector<int32_t> random_ids(int n, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> ids(static_cast<size_t>(n));
  for (auto& id : ids) id = static_cast<int32_t>(random() % 250);
  return ids;
}

// Maps of a layer and position of one sequence.
struct Map {
  std::vector<float> score, mass, group_mass;
};
using Maps = std::map<std::pair<int, int>, Map>;

struct Keep : Observer {
  std::map<int, Maps> of;  // by sequence
  void layer(const LayerView& view) override {
    std::vector<int> rows(static_cast<size_t>(view.n_rows));
    for (int r = 0; r < view.n_rows; ++r) rows[size_t(r)] = r;
    ScoredRows scored;
    score_rows(view, rows, true, scored);
    const size_t stride = size_t(scored.n_pages);
    for (int r = 0; r < view.n_rows; ++r) {
      const int position = view.position[size_t(r)], n = pages_seen(position);
      Map& to = of[view.sequence[size_t(r)]][{view.layer, position}];
      const auto first = [&](const std::vector<float>& from, size_t row) {
        return std::vector<float>(from.begin() + long(row * stride), from.begin() + long(row * stride) + n);
      };
      to = {first(scored.score, size_t(r)), first(scored.mass, size_t(r)), {}};
      const size_t G = scored.group_mass.size() / stride / size_t(view.n_rows);
      for (size_t g = 0; g < G; ++g) {
        const auto pages = first(scored.group_mass, size_t(r) * G + g);
        to.group_mass.insert(to.group_mass.end(), pages.begin(), pages.end());
      }
    }
  }
};

Map map_of(const StepMaps& maps, int layer, int row, int position) {
  const auto first = [&](std::span<const float> pages) {
    return std::vector<float>(pages.begin(), pages.begin() + pages_seen(position));
  };
  Map out{first(maps.score_of(layer, row)), first(maps.mass_of(layer, row)), {}};
  for (int g = 0; g < maps.n_kv_heads; ++g) {
    const auto pages = first(maps.group_mass_of(layer, row, g));
    out.group_mass.insert(out.group_mass.end(), pages.begin(), pages.end());
  }
  return out;
}

// Root mean squares of differences. In bf16 the CPU's and the device's differ by 2e-3 of a mass and 5e-3 of a
// score at most (decoder_test.cpp); the maps of another row, layer or step by 0.05 and more.
struct Difference {
  double sums[3] = {};
  long n[3] = {};
  void add(const Map& a, const Map& b) {
    const auto of = [&](int which, const std::vector<float>& x, const std::vector<float>& y) {
      REQUIRE(x.size() == y.size());
      for (size_t i = 0; i < x.size(); ++i, ++n[which]) sums[which] += std::pow(double(x[i]) - y[i], 2);
    };
    of(0, a.mass, b.mass), of(1, a.group_mass, b.group_mass), of(2, a.score, b.score);
  }
  double rms(int which) const { return std::sqrt(sums[which] / double(n[which])); }
  void check() const {
    CHECK(n[0] > 0);
    CHECK(rms(0) < 4e-3);
    CHECK(rms(1) < 6e-3);
    CHECK(rms(2) < 1e-2);
  }
};

TEST_CASE("batch, CUDA: maps recorded within the graph are the observer's, and recording changes nothing") {
  NEEDS_DEVICE;
  for (const auto& [n_heads, n_kv_heads, head_dim] : {std::tuple{4, 2, 64}, {14, 2, 64}, {7, 1, 128}}) {
    CAPTURE(n_heads, head_dim);
    test::TinyModel options;
    options.n_heads = n_heads, options.n_kv_heads = n_kv_heads, options.head_dim = head_dim;
    const model::Model model = tiny(options);
    const std::vector<int> lengths{300, 0, 95, 14, 31, 470};
    const int n_rows = static_cast<int>(lengths.size());
    KvCache of_decoder(model, n_rows, max_positions), of_graph(model, n_rows, max_positions);
    Keep keep;
    Decoder decoder(model, of_decoder, full_policy(n_layers), {&keep});
    Decoder prompts(model, of_graph, full_policy(n_layers));
    StepGraph graph(model, of_graph, full_policy(n_layers), n_rows, StepGraph::Part::step, nullptr,
                    StepGraph::Maps::heads);
    std::vector<int32_t> position;
    for (int r = 0; r < n_rows; ++r) {
      const auto ids = random_ids(lengths[size_t(r)], uint64_t(r));
      for (Decoder* d : {&decoder, &prompts})
        if (!ids.empty())
          replay(
              *d, ids, lengths[size_t(r)], [](int, int) {}, 0, r);
      position.push_back(lengths[size_t(r)]);
    }
    Difference difference;
    const std::vector<int32_t> none(size_t(n_rows), 0);
    std::vector<std::vector<int32_t>> waiting;  // positions of recorded steps
    const auto take = [&] {
      const StepMaps maps = graph.take_maps();
      for (int layer = 0; layer < n_layers; ++layer)
        for (int r = 0; r < n_rows; ++r)
          if (const int t = waiting.front()[size_t(r)]; t >= 0)
            difference.add(map_of(maps, layer, r, t), keep.of[r][{layer, t}]);
      waiting.erase(waiting.begin());
    };
    for (int step = 0; step < 24; ++step) {
      const auto token = random_ids(n_rows, 100 + uint64_t(step));
      if (step == 10) position[4] = -1;  // leaves
      const bool recorded = step % 3 == 0 || step == 7;
      graph.run(token, position, recorded);
      if (recorded) {
        waiting.push_back(position);
        if (step == 0) {  // the plain form: the same bits
          const Logits with = graph.logits();
          graph.run(token, position);
          const Logits without = graph.logits();
          for (int r = 0; r < n_rows; ++r) CHECK(std::ranges::equal(with.row(r), without.row(r)));
        }
      }
      std::vector<int32_t> live_token, live_position, sequence;
      for (int r = 0; r < n_rows; ++r)
        if (position[size_t(r)] >= 0)
          live_token.push_back(token[size_t(r)]), live_position.push_back(position[size_t(r)]),
              sequence.push_back(r);
      decoder.forward({live_token, live_position, sequence, none});
      if (waiting.size() > (recorded ? 1 : 0)) take();
      for (auto& p : position) p += p >= 0;
    }
    while (!waiting.empty()) take();
    difference.check();
  }
}

TEST_CASE("batch, CUDA: each sequence has the NLL and the maps of its own tokens, run by the Decoder alone") {
  NEEDS_DEVICE;
  const model::Model model = tiny();
  const std::vector<int> lengths{300, 1, 95, 14, 131, 430, 64}, n_new{40, 70, 1, 33, 55, 80, 20};
  std::vector<std::vector<int32_t>> prompts;
  for (const int n : lengths) prompts.push_back(random_ids(n, uint64_t(n)));
  const auto is_recorded = [](int position) { return position % 7 < 3; };
  for (const float temperature : {0.0f, 1.5f}) {
    std::vector<BatchSequence> sequences;
    for (size_t s = 0; s < prompts.size(); ++s)
      sequences.push_back({prompts[s], n_new[s], {temperature, 0, 1, 3 + s}});
    BatchOptions options;
    options.n_rows = 3;
    options.group_mass = true;
    options.stops = [](int32_t token) { return token % 32 == 5; };
    std::vector<std::vector<float>> nll(prompts.size());
    std::vector<Maps> maps(prompts.size());
    BatchCallbacks on;
    on.token = [&](int s, int32_t, float value) { nll[size_t(s)].push_back(value); };
    on.records = [&](int, int position) { return is_recorded(position); };
    on.maps = [&](std::span<const RecordedRow> rows, const StepMaps& of_step) {
      for (const auto& [row, s, position] : rows)
        for (int layer = 0; layer < n_layers; ++layer)
          maps[size_t(s)][{layer, position}] = map_of(of_step, layer, row, position);
    };
    const BatchResult result = decode_batch(model, full_policy(n_layers), sequences, options, on);

    double worst_nll = 0;
    int n_greedy = 0, n_tokens = 0;
    Difference difference;
    for (size_t s = 0; s < prompts.size(); ++s) {
      std::vector<int32_t> ids = prompts[s];
      ids.insert(ids.end(), result.tokens[s].begin(), result.tokens[s].end());
      Keep keep;
      KvCache cache(model, 1, int(ids.size()));
      Decoder decoder(model, cache, full_policy(n_layers), {&keep});
      replay(decoder, ids, lengths[s], [&](int first, int n) {
        const Logits logits = decoder.logits(0, n);
        const Choice likely = most_likely(logits);
        for (int i = 0; i < n; ++i) {
          const int t = first + i, at = t - lengths[s] + 1;
          if (at < 0 || at >= int(result.tokens[s].size())) continue;
          float largest = -1e30f, sum = 0;
          for (const float x : logits.row(i)) largest = std::max(largest, x);
          for (const float x : logits.row(i)) sum += std::exp(x - largest);
          const float expected =
              largest + std::log(sum) - logits.row(i)[size_t(result.tokens[s][size_t(at)])];
          worst_nll = std::max(worst_nll, double(std::abs(expected - nll[s][size_t(at)])));
          n_greedy += likely.token[size_t(i)] == result.tokens[s][size_t(at)];
          ++n_tokens;
        }
      });
      size_t n_recorded = 0;
      for (int t = lengths[s]; t < int(ids.size()); ++t) n_recorded += is_recorded(t);
      REQUIRE(maps[s].size() == n_recorded * n_layers);
      for (const auto& [at, map] : maps[s]) difference.add(map, keep.of[0][at]);
    }
    CAPTURE(temperature);
    CHECK(worst_nll < 0.3);
    if (temperature == 0) CHECK(n_greedy > 0.95 * n_tokens);  // near ties fall either way
    difference.check();
  }
}

TEST_CASE("batch, CUDA: the most likely token is the lowest of equals, a draw the sampler's") {
  NEEDS_DEVICE;
  check_most_likely(model::Device::cuda);
  check_draws(model::Device::cuda);
}

// NLL [n] of the tokens after the prompt under a policy, by the Decoder alone, and what was read for them.
struct Forced {
  std::vector<float> nll;
  std::vector<LayerReads> reads;
};
Forced forced(const model::Model& model, const Policy& policy, std::span<const int32_t> prompt,
              std::span<const int32_t> tokens) {
  std::vector<int32_t> ids(prompt.begin(), prompt.end());
  ids.insert(ids.end(), tokens.begin(), tokens.end());
  const int n_prompt = static_cast<int>(prompt.size()), n_ids = static_cast<int>(ids.size());
  KvCache cache(model, 1, n_ids);
  Decoder decoder(model, cache, policy);
  Forced out;
  replay(decoder, ids, n_prompt, [&](int first, int n) {
    const int from = std::max(0, n_prompt - 1 - first), until = std::min(n, n_ids - 1 - first);
    if (from >= until) return;
    const auto next = std::span(ids).subspan(size_t(first + from) + 1, size_t(until - from));
    const auto nll = decoder.nll(from, next);
    out.nll.insert(out.nll.end(), nll.begin(), nll.end());
  });
  out.reads.assign(decoder.reads().begin(), decoder.reads().end());
  return out;
}

TEST_CASE(
    "batch, CUDA: under any policy, rows that join and leave read and find what the Decoder does alone") {
  NEEDS_DEVICE;
  const model::Model model = tiny();
  config::Schedule schedule;
  schedule.layers.assign(n_layers, {config::Role::sparse, 5, 0});
  schedule.layers[0] = {config::Role::full, 0, 0};
  schedule.layers[1] = {config::Role::delta, 6, 2};
  schedule.layers[3] = {config::Role::delta, 5, 5};  // a list that needs no score
  const Policy full = full_policy(n_layers), delta = delta_policy(schedule);
  const std::vector<int> lengths{300, 1, 95, 14, 131, 430, 64}, n_new{40, 70, 1, 33, 55, 80, 20};
  std::vector<std::vector<int32_t>> prompts;
  for (const int n : lengths) prompts.push_back(random_ids(n, uint64_t(n)));
  std::vector<BatchSequence> sequences;
  for (size_t s = 0; s < prompts.size(); ++s)
    sequences.push_back({prompts[s], n_new[s], {1.5f, 0, 1, 3 + s}});
  for (const Policy* policy : {&full, &delta}) {
    BatchOptions options;
    options.n_rows = 3;
    options.stops = [](int32_t token) { return token % 32 == 5; };
    std::vector<std::vector<float>> nll(prompts.size());
    BatchCallbacks on;
    on.token = [&](int s, int32_t, float value) { nll[size_t(s)].push_back(value); };
    const BatchResult result = decode_batch(model, *policy, sequences, options, on);
    std::vector<LayerReads> reads(n_layers);
    double same = 0, other = 0;  // mean squares of differences
    long n = 0;
    for (size_t s = 0; s < prompts.size(); ++s) {
      const Forced own = forced(model, *policy, prompts[s], result.tokens[s]),
                   of_other = forced(model, policy == &full ? delta : full, prompts[s], result.tokens[s]);
      REQUIRE(own.nll.size() == nll[s].size());
      for (size_t i = 0; i < nll[s].size(); ++i, ++n) {
        same += std::pow(double(own.nll[i]) - nll[s][i], 2);
        other += std::pow(double(of_other.nll[i]) - nll[s][i], 2);
      }
      for (size_t layer = 0; layer < n_layers; ++layer) {
        reads[layer].attended += own.reads[layer].attended;
        reads[layer].lists += own.reads[layer].lists;
        reads[layer].ranked += own.reads[layer].ranked;
      }
    }
    CAPTURE(policy == &delta, n);
    // As in step_graph_test.cpp: what roundings grow to, and pages that nearly tie.
    CHECK(std::sqrt(same / double(n)) < (policy == &full ? 0.06 : 0.24));
    CHECK(std::sqrt(other / double(n)) > 2 * std::sqrt(same / double(n)));
    for (size_t layer = 0; layer < n_layers; ++layer) {
      CAPTURE(layer);
      CHECK(result.reads[layer].attended == reads[layer].attended);
      CHECK(result.reads[layer].lists == reads[layer].lists);
      CHECK(result.reads[layer].ranked == reads[layer].ranked);
    }
  }
}

TEST_CASE("batch, CUDA: policies that need the host within a step are decoded, and refused maps of lists") {
  NEEDS_DEVICE;
  const model::Model model = tiny();
  config::Schedule schedule;
  schedule.layers.assign(n_layers, {config::Role::sparse, 5, 0});
  schedule.layers[0] = {config::Role::delta, 6, 2};
  const std::vector<std::vector<int32_t>> prompts{random_ids(200, 1), random_ids(30, 2)};
  const std::vector<BatchSequence> sequences{{prompts[0], 20, {}}, {prompts[1], 30, {}}};
  BatchOptions options;
  options.n_rows = 2;
  const Policy every = delta_policy(schedule);
  schedule.refresh_interval = 4;
  const BatchResult by_graph = decode_batch(model, every, sequences, options, {}),
                    by_decoder = decode_batch(model, delta_policy(schedule), sequences, options, {});
  CHECK(by_graph.tokens[0].size() == 20);
  CHECK(by_decoder.tokens[1].size() == 30);
  CHECK(by_graph.reads[0].lists == 50);
  CHECK(by_decoder.reads[0].lists < 20);
  CHECK(by_graph.reads[1].attended < by_graph.reads[0].attended);
  KvCache cache(model, 2, 64);
  CHECK_THROWS_WITH(
      StepGraph(model, cache, every, 2, StepGraph::Part::step, nullptr, StepGraph::Maps::layers),
      Catch::Matchers::ContainsSubstring("use full attention"));
}

}  // namespace
}  // namespace deltacal::decode
