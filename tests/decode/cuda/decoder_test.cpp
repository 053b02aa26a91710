// The decoder on a CUDA device against the same on the CPU: both in bf16, so they differ by what rounds
// where.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <map>
#include <random>

#include "decode/decoder.h"
#include "decode/scored_rows.h"
#include "support/device.h"
#include "support/scratch.h"
#include "support/tiny_model.h"

namespace deltacal::decode {
namespace {

using config::Role;

std::vector<int32_t> random_ids(int n, int n_vocab, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> ids(n);
  for (auto& id : ids) id = static_cast<int32_t>(random() % uint64_t(n_vocab));
  return ids;
}

struct Tiny {
  explicit Tiny(test::TinyModel options) {
    options.head_dim = options.head_dim < 64 ? 64 : options.head_dim;
    options.max_context = std::max(options.max_context, 1024);
    options.logit_deviation = 1.5;
    test::write_tiny_model(options, path);
  }
  model::Model on(model::Device device) const { return model::Model::load(path, model::Dtype::bf16, device); }
  test::Scratch scratch;
  std::string path = scratch / "tiny.gguf";
};

// What a pass of one sequence shows: log-probabilities [T, V], and the lists of every layer by position.
struct Run {
  std::vector<std::vector<double>> log_p;
  std::map<std::pair<int, int>, std::vector<int32_t>> lists;
  std::vector<LayerReads> reads;
};
struct KeepLists : Observer {
  explicit KeepLists(Run& to) : run(to) {}
  void layer(const LayerView& view) override {
    for (int r = 0; r < view.n_rows && !view.list_length.empty(); ++r) {
      if (view.list_length[size_t(r)] < 0) continue;
      const int32_t* list = view.list() + size_t(r) * size_t(view.list_stride);
      run.lists[{view.layer, view.position[size_t(r)]}].assign(list, list + view.list_length[size_t(r)]);
    }
  }
  Run& run;
};

Run run_of(const model::Model& model, const Policy& policy, std::span<const int32_t> ids, int n_prompt,
           int chunk) {
  Run run;
  KeepLists keep(run);
  KvCache cache(model, 1, static_cast<int>(ids.size()));
  Decoder decoder(model, cache, policy, {&keep});
  replay(
      decoder, ids, n_prompt,
      [&](int, int n) {
        const Logits logits = decoder.logits(0, n);
        for (int i = 0; i < n; ++i) {
          double sum = 0;
          for (const float x : logits.row(i)) sum += std::exp(double(x));
          run.log_p.emplace_back();
          for (const float x : logits.row(i)) run.log_p.back().push_back(double(x) - std::log(sum));
        }
      },
      chunk);
  run.reads.assign(decoder.reads().begin(), decoder.reads().end());
  return run;
}

// Root mean square of the difference of log-probabilities.
double rms(const Run& a, const Run& b) {
  double sum = 0;
  size_t n = 0;
  REQUIRE(a.log_p.size() == b.log_p.size());
  for (size_t t = 0; t < a.log_p.size(); ++t)
    for (size_t v = 0; v < a.log_p[t].size(); ++v, ++n) sum += std::pow(a.log_p[t][v] - b.log_p[t][v], 2);
  return std::sqrt(sum / double(n));
}
// Share of the pages of one run's lists that the other's hold. A step that makes a list in one run and none
// in the other, by a signal near its threshold, has none in one of them.
double common(const Run& a, const Run& b) {
  double same = 0, all = 0;
  for (const auto& [at, list] : a.lists) {
    const auto found = b.lists.find(at);
    for (const int32_t page : list)
      same += found != b.lists.end() && std::ranges::count(found->second, page) == 1, all += 1;
  }
  return same / all;
}

// Through four to six layers a rounding of 2^-9 grows to 0.01 or 0.02 of a log-probability; another page,
// angle or mask moves them by 0.5 and more.
constexpr double tolerance = 0.06;

config::Schedule schedule_of(int n_layers) {
  config::Schedule schedule;
  schedule.layers.assign(size_t(n_layers), {Role::sparse, 5, 0});
  schedule.layers[0] = {Role::full, 0, 0};
  schedule.layers[1] = {Role::delta, 6, 2};
  schedule.layers[2].k_pages = 3;
  schedule.layers[3] = {Role::delta, 5, 1};
  return schedule;
}

TEST_CASE("decoder, CUDA: full attention is the CPU's, llama and qwen2, any group size and head dimension") {
  NEEDS_DEVICE;
  for (const char* architecture : {"llama", "qwen2"})
    for (const auto& [n_heads, n_kv_heads, head_dim] :
         {std::tuple{4, 4, 64}, {14, 2, 64}, {6, 2, 96}, {7, 1, 128}}) {
      CAPTURE(architecture, n_heads, head_dim);
      test::TinyModel options;
      options.architecture = architecture;
      options.n_heads = n_heads, options.n_kv_heads = n_kv_heads, options.head_dim = head_dim;
      options.tied_output = n_kv_heads != 2;
      const Tiny tiny(options);
      const auto ids = random_ids(300, options.n_vocab, 3);
      const Policy policy = full_policy(options.n_layers);
      const Run cpu = run_of(tiny.on(model::Device::cpu), policy, ids, 0, 512),
                cuda = run_of(tiny.on(model::Device::cuda), policy, ids, 0, 512),
                chunks = run_of(tiny.on(model::Device::cuda), policy, ids, 0, 100),
                steps = run_of(tiny.on(model::Device::cuda), policy, ids, 0, 1);
      CHECK(rms(cpu, cuda) < tolerance);
      CHECK(rms(cuda, chunks) < tolerance);
      CHECK(rms(cuda, steps) < tolerance);
    }
}

TEST_CASE("decoder, CUDA: schedules, with lists of one step and of several, in any chunks") {
  NEEDS_DEVICE;
  test::TinyModel options;
  options.n_layers = 6;
  const Tiny tiny(options);
  const model::Model cpu_model = tiny.on(model::Device::cpu), cuda_model = tiny.on(model::Device::cuda);
  const auto ids = random_ids(400, options.n_vocab, 4);
  std::vector<config::Schedule> schedules(5, schedule_of(6));
  schedules[1].page_score = PageScore::max;
  schedules[2].refresh_interval = 7;
  schedules[3].refresh = config::AdaptiveRefresh{0.1, 20};
  schedules[4].layers[1].l_pages = 6;  // no score
  for (size_t i = 0; i < schedules.size(); ++i)
    for (const int n_prompt : {0, 77}) {
      CAPTURE(i, n_prompt);
      const Policy policy = delta_policy(schedules[i]);
      const Run cpu = run_of(cpu_model, policy, ids, n_prompt, 512),
                cuda = run_of(cuda_model, policy, ids, n_prompt, 512),
                chunks = run_of(cuda_model, policy, ids, n_prompt, 130),  // the last one of few rows
          steps = run_of(cuda_model, policy, ids, n_prompt, 1);
      // Scores that nearly tie fall either way, and where lists serve several steps so do all of those.
      CHECK(common(cpu, cuda) > 0.9);
      CHECK(common(cuda, cpu) > 0.9);
      CHECK(common(cuda, chunks) > 0.9);
      CHECK(common(cuda, steps) > 0.9);
      const bool kept = schedules[i].refresh || schedules[i].refresh_interval > 1;
      CHECK(rms(cpu, cuda) < (kept ? 10 : 4) * tolerance);
      CHECK(rms(cuda, steps) < (kept ? 10 : 4) * tolerance);
      CHECK(rms(cuda, chunks) < (kept ? 10 : 4) * tolerance);
      if (i == 3) continue;  // a cosine near its threshold falls either way
      for (size_t layer = 0; layer < cpu.reads.size(); ++layer) {
        CHECK(cpu.reads[layer].attended == cuda.reads[layer].attended);
        CHECK(cpu.reads[layer].lists == cuda.reads[layer].lists);
        CHECK(cpu.reads[layer].ranked == cuda.reads[layer].ranked);
      }
    }
}

TEST_CASE("decoder, CUDA: a window, and lists that hold every page, which change nothing") {
  NEEDS_DEVICE;
  const test::TinyModel options;
  const Tiny tiny(options);
  const model::Model cpu_model = tiny.on(model::Device::cpu), cuda_model = tiny.on(model::Device::cuda);
  const auto ids = random_ids(300, options.n_vocab, 5);
  const Policy window = streaming_policy({0, 4, 6, 5});
  CHECK(rms(run_of(cpu_model, window, ids, 20, 512), run_of(cuda_model, window, ids, 20, 512)) < tolerance);
  config::Schedule all = schedule_of(4);
  for (auto& layer : all.layers)
    if (layer.role != Role::full) layer.k_pages = 64;
  for (const int chunk : {1, 130, 512})  // rows that leave nothing out: the same kernels, the same bits
    CHECK(rms(run_of(cuda_model, delta_policy(all), ids, 0, chunk),
              run_of(cuda_model, full_policy(4), ids, 0, chunk)) == 0);
  // A prompt is full attention's to the last bit.
  for (const int chunk : {130, 512}) {
    const Run full = run_of(cuda_model, full_policy(4), ids, 64, chunk),
              sparse = run_of(cuda_model, delta_policy(schedule_of(4)), ids, 64, chunk);
    for (size_t t = 0; t < 64; ++t) CHECK(full.log_p[t] == sparse.log_p[t]);
    CHECK(full.log_p[200] != sparse.log_p[200]);
  }
}

TEST_CASE("decoder, CUDA: sequences of one batch, prefilled together, do as each by itself") {
  NEEDS_DEVICE;
  test::TinyModel options;
  options.n_layers = 6;
  const Tiny tiny(options);
  const model::Model model = tiny.on(model::Device::cuda);
  const Policy policy = delta_policy(schedule_of(6));
  const std::vector<std::vector<int32_t>> ids{random_ids(250, options.n_vocab, 7),
                                              random_ids(190, options.n_vocab, 8),
                                              random_ids(333, options.n_vocab, 9)};
  KvCache cache(model, 3, 340);
  Decoder decoder(model, cache, policy);
  const int32_t prefilled_to[] = {100, 40, 0};
  std::map<std::pair<int, int>, std::vector<float>> logits;  // (sequence, position)
  struct Part {
    int sequence, first, end;
  };
  const auto pass = [&](const std::vector<Part>& parts) {
    std::vector<int32_t> token, position, sequence;
    for (const auto& [s, first, end] : parts)
      for (int t = first; t < end; ++t)
        token.push_back(ids[size_t(s)][size_t(t)]), position.push_back(t), sequence.push_back(s);
    decoder.forward({token, position, sequence, prefilled_to});
    const Logits rows = decoder.logits(0, int(token.size()));
    for (size_t r = 0; r < token.size(); ++r)
      logits[{sequence[r], position[r]}].assign(rows.row(int(r)).begin(), rows.row(int(r)).end());
  };
  pass({{2, 0, 300}});                  // one sequence, and not the first
  pass({{0, 0, 120}, {1, 0, 90}});      // two together
  pass({{1, 90, 180}, {0, 120, 240}});  // in the other order
  for (int i = 0; i < 10; ++i) pass({{0, 240 + i, 241 + i}, {1, 180 + i, 181 + i}, {2, 300 + i, 301 + i}});
  for (int s = 0; s < 3; ++s) {
    const Run alone = run_of(model, policy, ids[size_t(s)], prefilled_to[s], 512);
    double sum = 0;
    int n = 0;
    for (const auto& [at, row] : logits) {
      if (at.first != s) continue;
      double total = 0;
      for (const float x : row) total += std::exp(double(x));
      for (size_t v = 0; v < row.size(); ++v, ++n)
        sum += std::pow(row[v] - std::log(total) - alone.log_p[size_t(at.second)][v], 2);
    }
    CAPTURE(s);
    CHECK(n >= 190 * 288);
    CHECK(std::sqrt(sum / n) < 4 * tolerance);
  }
}

TEST_CASE("decoder, CUDA: a pass from a layer on, given its hidden states, is the whole pass") {
  NEEDS_DEVICE;
  test::TinyModel options;
  options.n_layers = 6, options.head_dim = 256, options.n_heads = 2, options.n_kv_heads = 1;
  const Tiny tiny(options);
  const model::Model model = tiny.on(model::Device::cuda);
  const auto ids = random_ids(200, options.n_vocab, 10);
  struct Keep : Observer {
    explicit Keep(int n) : n_embd(n) {}
    void layer(const LayerView& view) override {
      if (view.layer == 3) hidden.assign(view.hidden(), view.hidden() + size_t(view.n_rows) * size_t(n_embd));
    }
    int n_embd;
    std::vector<float> hidden;
  } keep(model.description().n_embd);
  const Policy policy = delta_policy(schedule_of(6));
  KvCache cache(model, 1, 200), other(model, 1, 200);
  Decoder whole(model, cache, policy, {&keep}), rest(model, other, policy);
  std::vector<int32_t> position(200), sequence(200, 0);
  for (int t = 0; t < 200; ++t) position[size_t(t)] = t;
  const int32_t prefilled_to[] = {20};
  whole.forward({ids, position, sequence, prefilled_to});
  rest.forward({ids, position, sequence, prefilled_to}, 3, keep.hidden.data());
  const Logits a = whole.logits(0, 200), b = rest.logits(0, 200);
  for (int r = 0; r < 200; ++r) REQUIRE(std::ranges::equal(a.row(r), b.row(r)));
}

double rms_of(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(double(a[i]) - b[i], 2);
  return std::sqrt(sum / double(a.size()));
}

// Scores and masses of every seventh row of every layer.
struct KeepScores : Observer {
  std::vector<float> score, mass, group_mass;
  void layer(const LayerView& view) override {
    std::vector<int> rows;
    for (int r = 0; r < view.n_rows; r += 7) rows.push_back(r);
    ScoredRows scored;
    score_rows(view, rows, true, scored);
    score.insert(score.end(), scored.score.begin(), scored.score.end());
    mass.insert(mass.end(), scored.mass.begin(), scored.mass.end());
    group_mass.insert(group_mass.end(), scored.group_mass.begin(), scored.group_mass.end());
  }
};

TEST_CASE("decoder, CUDA: page scores and masses that observers see are the CPU's") {
  NEEDS_DEVICE;
  const test::TinyModel options;
  const Tiny tiny(options);
  const auto ids = random_ids(300, options.n_vocab, 6);
  KeepScores seen[2];
  for (const auto device : {model::Device::cpu, model::Device::cuda}) {
    const model::Model model = tiny.on(device);
    KvCache cache(model, 1, 300);
    Decoder decoder(model, cache, full_policy(options.n_layers), {&seen[device == model::Device::cuda]});
    replay(
        decoder, ids, 0, [](int, int) {}, 100);
  }
  CHECK(rms_of(seen[0].mass, seen[1].mass) < 2e-3);
  CHECK(rms_of(seen[0].group_mass, seen[1].group_mass) < 3e-3);
  CHECK(rms_of(seen[0].score, seen[1].score) < 5e-3);
}

// What a replay in such chunks finds: the NLL by nll(), of `compared` positions also by their logits, and
// scores.
struct Long {
  std::vector<float> nll, nll_of_logits;
  KeepScores scores;
};
Long replayed(const model::Model& model, std::span<const int32_t> ids, int chunk, int compared) {
  Long out;
  KvCache cache(model, 1, static_cast<int>(ids.size()));
  Decoder decoder(model, cache, full_policy(model.info().n_layers), {&out.scores});
  replay(
      decoder, ids, 0,
      [&](int first, int n) {
        const int with_next = std::min<int>(n, int(ids.size()) - 1 - first);
        const auto nll = decoder.nll(0, ids.subspan(size_t(first) + 1, size_t(with_next)));
        out.nll.insert(out.nll.end(), nll.begin(), nll.end());
        const int rows = std::clamp(compared - first, 0, with_next);
        if (rows == 0) return;
        const auto slow = nll_of(decoder.logits(0, rows), ids.subspan(size_t(first) + 1, size_t(rows)));
        out.nll_of_logits.insert(out.nll_of_logits.end(), slow.begin(), slow.end());
      },
      chunk);
  return out;
}

TEST_CASE("decoder, CUDA: whole thousands of rows, attended in two parts, do as any other number of rows") {
  NEEDS_DEVICE;
  for (const int head_dim : {64, 128}) {
    CAPTURE(head_dim);
    test::TinyModel options;
    options.max_context = 8192, options.n_heads = 7, options.n_kv_heads = 1, options.head_dim = head_dim;
    const Tiny tiny(options);
    const model::Model model = tiny.on(model::Device::cuda);
    const auto ids = random_ids(6144, options.n_vocab, 11);
    // Chunks of 2,048 attend to 4,096 and 6,144 keys by cuDNN where the device has it for them, own keys and
    // those before; one of 6,144 to its own alone; chunks of 1,500 and 4,600 by LibTorch's kernel. The NLL of
    // more rows than are computed at one time.
    const Long parts = replayed(model, ids, 2048, 3000), whole = replayed(model, ids, 6144, 3000),
               odd = replayed(model, ids, 1500, 0), uneven = replayed(model, ids, 4600, 0);
    CHECK(rms_of(parts.nll, odd.nll) < tolerance);
    CHECK(rms_of(whole.nll, odd.nll) < tolerance);
    CHECK(rms_of(uneven.nll, odd.nll) < tolerance);
    CHECK(parts.nll.size() == ids.size() - 1);
    const auto head = [](const std::vector<float>& x) {
      return std::vector<float>(x.begin(), x.begin() + 3000);
    };
    CHECK(rms_of(head(parts.nll), parts.nll_of_logits) < 1e-5);
    CHECK(rms_of(head(whole.nll), whole.nll_of_logits) < 1e-5);
  }
}

// Of single rows, which attend once more (decoding), against those of a prefill.
TEST_CASE("decoder, CUDA: rows scored by a prefill's log-sum-exp do as rows that attend once more") {
  NEEDS_DEVICE;
  test::TinyModel options;
  options.max_context = 8192, options.n_heads = 7, options.n_kv_heads = 1, options.head_dim = 128;
  const Tiny tiny(options);
  const model::Model model = tiny.on(model::Device::cuda);
  const auto ids = random_ids(4116, options.n_vocab, 12);
  // Scores of the rows 0, 7, ... of each layer of the last chunk.
  const auto last = [&](int chunk) {
    KeepScores seen;
    KvCache cache(model, 1, static_cast<int>(ids.size()));
    Decoder before(model, cache, full_policy(options.n_layers)),
        decoder(model, cache, full_policy(options.n_layers), {&seen});
    std::vector<int32_t> position(ids.size()), sequence(ids.size(), 0);
    for (size_t t = 0; t < ids.size(); ++t) position[t] = int32_t(t);
    const int32_t prefilled_to[] = {0};
    const auto pass = [&](Decoder& by, size_t first, size_t n) {
      by.forward({std::span(ids).subspan(first, n), std::span(position).subspan(first, n),
                  std::span(sequence).subspan(first, n), prefilled_to});
    };
    const size_t n = size_t(chunk), begin = ids.size() - n;
    pass(before, 0, begin);
    pass(decoder, begin, n);
    return seen;
  };
  // 64 rows are a prefill's; 57 are not, and begin seven later.
  const KeepScores together = last(64), apart = last(57);
  const size_t n_pages = size_t(pages_for(int(ids.size()))), layers = size_t(options.n_layers);
  REQUIRE(together.mass.size() == layers * 10 * n_pages);  // rows 0, 7, ..., 63
  REQUIRE(apart.mass.size() ==
          layers * 9 * n_pages);  // rows 0, 7, ..., 56: the same positions, less the first
  double off_score = 0, off_mass = 0;
  for (size_t layer = 0; layer < layers; ++layer)
    for (size_t i = 0; i < 9 * n_pages; ++i) {
      const size_t a = (layer * 10 + 1) * n_pages + i, b = layer * 9 * n_pages + i;
      off_score = std::max(off_score, std::abs(double(together.score[a]) - apart.score[b]));
      off_mass = std::max(off_mass, std::abs(double(together.mass[a]) - apart.mass[b]));
    }
  CHECK(off_score < 0.02);
  CHECK(off_mass < 0.01);
}

TEST_CASE("decoder, CUDA: what cannot be is refused") {
  NEEDS_DEVICE;
  const test::TinyModel options;  // head dimension 32
  test::Scratch scratch;
  test::write_tiny_model(options, scratch / "m.gguf");
  const model::Model model = model::Model::load(scratch / "m.gguf", model::Dtype::bf16, model::Device::cuda);
  KvCache cache(model, 1, 64);
  CHECK_THROWS_WITH(Decoder(model, cache, full_policy(4)),
                    Catch::Matchers::ContainsSubstring("head dimension 32 has no kernel"));
  CHECK_THROWS_WITH(KvCache(model, 100000, 100000), Catch::Matchers::ContainsSubstring("device memory"));
  CHECK_THROWS_WITH(model::choose_dtype("f32", model::Device::cuda),
                    Catch::Matchers::ContainsSubstring("bf16"));
}

}  // namespace
}  // namespace deltacal::decode
